"""Several processes of `detect` over one broker: their rules change at one cut of each partition, all or none."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headwater.agents.activation import activation_of
from headwater.agents.detect import Detector
from headwater.flows.app import load
from headwater.flows.broker import Broker
from headwater.flows.detecting import DetectLogic
from headwater.flows.drain import drain
from headwater.flows.ends import Ends
from headwater.flows.meter import Meter
from headwater.flows.rulebook import Rulebook
from headwater.flows.signalling import Signalled, Turned
from headwater.flows.sink import Outgoing, Writer, outgoing
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import ACTIVATIONS, DEAD, LINEAGE

S = 1_000_000
PARTITIONS = 8
START = 1_700_000_000 * S
"""Event time of the first event."""
AHEAD = 20_000
"""Events between those that release all others and those."""
APP = """
import msgspec, polars as pl
from headwater import App, Rate, Threshold, Topic
from levels_{name} import LEVEL, VERSION

class Ping(msgspec.Struct):
    id: str
    host: str
    ms: float

pings = Topic("pings", Ping, key="id", partitions=8, idle_after="1h")
each = Threshold("each", of=pings, value=pl.col("ms") + LEVEL, per="id", opens_at=1, closes_at=0, version=VERSION)
slow = Rate("slow", of=pings, where=pl.col("ms") > LEVEL, per="host", within="2s", opens_at=0.5, closes_at=0.3, version=VERSION)
app = App("pinged", triggers=[each, slow])
"""


def event_of(n: int) -> Event:
    """Events lie 5 ms apart; the share of slow ones goes up and down every two seconds."""
    data = {"id": f"e{n}", "host": "abc"[n % 3], "ms": 1 + random.Random(n).random() * (12 if n // 400 % 2 else 1.2)}
    return Event(id=f"e{n}", source="/t", type="ping", time=START + n * 5_000, data=json.dumps(data).encode())


class Feed:
    """Events go in, faster than they need to, until it is stopped; then each partition gets some that lie a minute ahead."""

    def __init__(self, broker: Broker) -> None:
        self._writer = Writer(broker.kafka, broker.id)
        self.many = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._write([self._outgoing(n, event_of(n)) for n in range(self.many, self.many + PARTITIONS)])  # as many to each
            self._stop.wait(0.02)

    def _outgoing(self, n: int, event: Event) -> Outgoing:
        return outgoing("pings", event, f"e{n}", n % PARTITIONS)

    def _write(self, events: list[Outgoing]) -> None:
        self._writer.write(events)
        self.many += len(events)

    def stop(self) -> None:
        """All that was told before is released by what comes last."""
        self._stop.set()
        self._thread.join()
        self._write([self._outgoing(n, event_of(n + AHEAD)) for n in range(self.many, self.many + PARTITIONS)])


class Cluster:
    """Processes of `headwater run detect`, each with the application in a folder of its own, over one recovery store."""

    def __init__(self, folder: Path, broker: Broker, processes: int = 2, name: str = "two") -> None:
        self.folder, self.broker, self._name, self._many = folder, broker, name, processes
        for process in range(processes):
            self.write(process, 2, "1")
            (self._place(process) / "pinged.py").write_text(APP.format(name=name))
        self.processes: list[subprocess.Popen[str]] = []

    def _place(self, process: int) -> Path:
        return self.folder / f"machine{process}"

    def write(self, process: int, level: float, version: str) -> None:
        """Edit what the application of one process imports."""
        self._place(process).mkdir(exist_ok=True)
        path = self._place(process) / f"levels_{self._name}.py"
        path.with_suffix(".new").write_text(f"LEVEL, VERSION = {level}, {version!r}\n")
        path.with_suffix(".new").replace(path)

    def start(self) -> None:
        ports = free_ports(self._many)
        known = {"HEADWATER_HOME": str(self.folder / "home"), "HEADWATER_KAFKA__BOOTSTRAP_SERVERS": self.broker.address}
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")} | known
        for process in range(self._many):
            command = [sys.executable, "-m", "headwater", "run", "detect", str(self._place(process) / "pinged.py"), "-i", str(process)]
            command += ["-a", ";".join(f"127.0.0.1:{port}" for port in ports)]
            log = (self.folder / f"log{process}").open("a")
            self.processes.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log, text=True))

    def stop(self, number: int = signal.SIGTERM) -> None:
        for process in self.processes:
            process.send_signal(number)
        for process in self.processes:
            process.wait(60)
        self.processes = []

    @property
    def said(self) -> str:
        return "\n".join((self.folder / f"log{process}").read_text() for process in range(self._many))

    def activations(self) -> list[Any]:
        found = [message for partition in range(2) for message in drain(self.broker.kafka, ACTIVATIONS, partition, 0)]
        return [activation_of(SimpleNamespace(id=dict(each.headers)["ce_id"].decode(), data=each.value)) for each in found]

    def until(self, look: Callable[[list[Any]], bool]) -> list[Any]:
        deadline = time.monotonic() + 90
        while not look(found := self.activations()):
            assert time.monotonic() < deadline, f"never came true; {len(found)} activations\n{self.said}"
            assert all(process.poll() is None for process in self.processes), self.said
            time.sleep(0.2)
        return found


def free_ports(many: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(many)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Broker() as broker:
        broker.kafka.create({"pings": PARTITIONS, ACTIVATIONS: 2, LINEAGE: 1, DEAD: 1})
        cluster = Cluster(tmp_path, broker)
        yield cluster
        cluster.stop(signal.SIGKILL)


def seen(activations: list[Any]) -> list[Any]:
    """What the rule says that fires once for each event."""
    return [one for one in activations if (one.rule, one.phase) == ("each", "opened")]


def number(activation: Any) -> int:
    return int(activation.key[1:]) % AHEAD


def cuts(each: list[Any], many: int) -> list[int]:
    """Partition → how many of its events the first version saw. Every event was seen once, and no later one by an earlier version."""
    versions = {number(one): one.version for one in each}
    assert sorted(versions) == list(range(many)) and len(each) == many
    found = []
    for partition in range(PARTITIONS):
        in_order = [versions[n] for n in range(partition, many, PARTITIONS)]
        assert in_order == sorted(in_order)
        found.append(in_order.count("1"))
    return found


def undisturbed(cluster: Cluster, many: int, cuts: list[int]) -> list[Any]:
    """What one process by itself tells that changes its rules at these cuts."""
    sys.path.insert(0, str(cluster.folder / "machine0"))
    cluster.write(0, 2, "1")
    target = cluster.folder / "machine0" / "pinged.py"
    before = load(str(target))
    cluster.write(0, 5, "2")
    del sys.modules["levels_two"]
    after = load(str(target))
    del sys.modules["levels_two"]
    sys.path.remove(str(cluster.folder / "machine0"))
    topic = before.triggers[0].of
    book = Rulebook({"pings": Detector(topic, before.triggers, idle=False)})
    run: Any = SimpleNamespace(
        clock=lambda: 0, ends=Ends(lambda: 0), far_ahead={}, meter=Meter(), ending=threading.Event(), workers=1,
        partitions=SimpleNamespace(count=lambda name: PARTITIONS),
    )  # fmt: skip
    logic, found = DetectLogic(run, book, None), []

    def see(what: Signalled | Turned) -> None:
        for one in logic.on_batch([what])[0]:
            found.extend(
                activation_of(SimpleNamespace(id=dict(each.headers)["ce_id"].decode(), data=each.value)) for each in one.activations
            )

    def read(partition: int, first: int, end: int) -> None:
        for offset in range(first, end):
            n = offset * PARTITIONS + partition
            event = event_of(n if n < many - PARTITIONS else n + AHEAD)
            model = topic.model(**json.loads(event.data))
            received = Received(Position("b", "pings", partition, offset), event, model, 0)
            see(Signalled(book.at(book.revision)["pings"].signals([received]), partition, offset + 1, [], book.revision))

    for partition in range(PARTITIONS):
        read(partition, 0, cuts[partition])
    assert book.take(after.triggers) == ["each", "slow"]
    see(Turned("pings", 1))
    for partition in range(PARTITIONS):
        read(partition, cuts[partition], many // PARTITIONS)
    return found


def told(activations: list[Any]) -> list[Any]:
    return sorted((one.rule, one.key, one.at, one.id, one.phase, one.version, one.value, one.episode) for one in activations)


def test_two_processes_change_at_one_cut(cluster: Cluster) -> None:
    """Under load, windows open: nothing changes while one process has the new rules only; then all that fires is what fires in one
    process that changes at the same offsets, each once, in order."""
    cluster.start()
    feed = Feed(cluster.broker)
    try:
        cluster.until(lambda found: sum(one.rule == "slow" for one in found) >= 3)
        cluster.write(1, 5, "2")
        told_of = feed.many
        cluster.until(lambda found: any(number(one) > told_of + 500 for one in seen(found)))
        assert {one.version for one in cluster.activations()} == {"1"}
        cluster.write(0, 5, "2")
        cluster.until(lambda found: any(one.rule == "slow" and one.version == "2" and one.phase == "closed" for one in found))
    finally:
        feed.stop()
    found = cluster.until(lambda found: len(seen(found)) >= feed.many)
    cluster.stop()
    assert cluster.said.count("rules changed") == 2
    at = cuts(seen(found), feed.many)
    assert min(at) > 0 and max(at) < feed.many // PARTITIONS
    assert told(found) == told(undisturbed(cluster, feed.many, at))
