"""`index` and `detect` on two workers, while the broker gets more partitions of a topic without a key."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from bytewax._bytewax import cluster_main
from pydantic import BaseModel

from headwater.agents.rules import Rate
from headwater.enrichers.document import Document, document
from headwater.enrichers.testing import HashEmbedder
from headwater.flows import walk
from headwater.flows.app import App
from headwater.flows.drain import drain
from headwater.flows.kafka import Kafka
from headwater.flows.recovery import EPOCH, Recovery
from headwater.flows.runtime import Runtime, wall_clock
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing, outgoing
from headwater.lineage.event import Event
from headwater.lineage.topic import ACTIVATIONS, Topic

PATIENCE_S = 60.0


class Beat(BaseModel):
    host: str
    up: bool


class Veiled(Kafka):
    """A broker of which only so many partitions of a topic are seen at first: the embedded one cannot add any."""

    def __init__(self, kafka: Kafka, topic: str, seen: int) -> None:
        super().__init__(kafka.properties)
        self.topic, self.seen = topic, seen

    def topics(self, timeout: float = 10.0) -> dict[str, int]:
        return {name: min(count, self.seen) if name == self.topic else count for name, count in super().topics(timeout).items()}

    def create(self, topics: Mapping[str, int], *rest: Any, **more: Any) -> dict[str, int]:
        return super().create({name: count for name, count in topics.items() if name != self.topic}, *rest, **more)


class Flows:
    """Both flows, two workers each, over one runtime."""

    def __init__(self, app: App, kafka: Kafka, home: Path) -> None:
        self.run = Runtime(app, Settings(home=home, kafka=dict(kafka.properties)), kafka, embedder=HashEmbedder())
        self.run.workers = 2
        self.run.prepare()
        self.failures: list[BaseException] = []
        self._stores = {name: Recovery(home, name, self.run.broker) for name in ("index", "detect")}
        self._threads = [threading.Thread(target=self._main, args=(name,), daemon=True) for name in self._stores]
        for thread in self._threads:
            thread.start()

    def _main(self, name: str) -> None:
        try:
            flow, store = walk.FLOWS[name](self.run), self._stores[name]
            cluster_main(flow, [], 0, epoch_interval=EPOCH, recovery_config=store.config, worker_count_per_proc=2)
        except BaseException as error:
            self.failures.append(error)

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert not self.failures, self.failures
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def close(self) -> None:
        for stop in self.run.stops.values():
            stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self.run.close()
        for store in self._stores.values():
            store.close()


def beat(topic: str, partition: int, host: str, up: bool) -> Outgoing:
    event = Event(id=f"{host}-{partition}-{time.monotonic_ns()}", source="test", type="beat", time=wall_clock())
    message = outgoing(topic, event, None)
    return message._replace(value=Beat(host=host, up=up).model_dump_json().encode(), partition=partition)


@pytest.mark.parametrize("restarted", [False, True])
def test_flows_go_on_over_partitions_that_appear(kafka, name, tmp_path, restarted):
    """What lies in a new partition is indexed and seen by the rules, and silent partitions of any worker stop holding them back.

    So it is when the partitions appear while the flows run, and when they do so while they are stopped.
    """
    topic = Topic(name, Beat, partitions=2, idle_after="1s")
    down = Rate("down", of=topic, where=~pl.col("up"), per="host", within="10m", opens_at=0.5, closes_at=0.2)
    app = App(name, documents=[document(topic)(_text)], triggers=[down], root=tmp_path)
    kafka.create({name: 4})
    veiled = Veiled(kafka, name, 2)

    def fired(host: str) -> bool:
        found = [m for p in range(app.activations) for m in drain(kafka, ACTIVATIONS, p, 0)]
        return any(m.key == host.encode() and dict(m.headers)["ce_source"].endswith(b"/down") for m in found)

    flows = Flows(app, veiled, tmp_path / "home")
    try:
        before = flows.run.writer.write([beat(name, p, f"{name}-old", False) for p in range(2)])
        flows.run.progress.wait(before, PATIENCE_S)
        flows.until(lambda: fired(f"{name}-old"))
        veiled.seen = 4
        if restarted:
            flows.close()
            flows = Flows(app, veiled, tmp_path / "home")
        else:
            flows.run.partitions.look()
        after = flows.run.writer.write([beat(name, p, f"{name}-new", False) for p in range(4)])
        flows.run.progress.wait(after, PATIENCE_S, max_staleness_us=10_000_000)
        flows.until(lambda: fired(f"{name}-new"))
        assert set(flows.run.progress.as_of()) == {f"{name}/{p}" for p in range(4)}
        for p in range(4):
            assert flows.run.meter.await_reached("detect", {(name, after[p].partition): after[p].offset + 1}, PATIENCE_S)
    finally:
        flows.close()
    assert not flows.failures


def _text(beat: Beat, facts: Mapping[str, Any]) -> Document:
    return Document(id=beat.host, text=f"{beat.host} is {'up' if beat.up else 'down'}")
