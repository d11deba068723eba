"""The broker killed with its process, at every named point: what was open is closed as lost with it, and none of it is decided again."""

import json
import random
import signal
import time
from typing import Any

import httpx
import pytest
from crash.points import POINTS, SELDOM, Step

from headwater.flows.drain import drain
from headwater.flows.kafka import Kafka
from headwater.flows.runtime import wall_clock
from headwater.flows.sink import outgoing
from headwater.lineage.event import Event, Position
from headwater.lineage.store import open_database
from headwater.lineage.topic import DECISIONS
from headwater.lineage.verify import verify

SETTINGS = {"HEADWATER_INDEX__HISTORY": "100ms"}
DECIDED = "select distinct ref from records where kind = 'decision'"


def step_of(seed: int) -> Step:
    """As many seeds as there are points kill at every one."""
    deck = sorted(POINTS)
    random.Random("lost").shuffle(deck)
    point = deck[seed % len(deck)]
    return Step(point, 1 if point.startswith(SELDOM) else 1 + seed % 3, "kill")


class Publisher:
    """Publishes straight to an embedded broker and waits for nothing, for it may be gone. `tokens` lie there for certain."""

    def __init__(self, victim: Any, message_timeout_ms: int = 1000) -> None:
        known = victim.ready()
        self.broker = known["broker_id"]
        self.kafka = Kafka({"bootstrap.servers": known["broker"]})
        self.tokens: list[str] = []
        self._producer = self.kafka.producer(message_timeout_ms=message_timeout_ms)

    def publish(self, name: str, gauge: str, metres: float) -> None:
        data = {"id": name, "gauge": gauge, "metres": metres}
        event = Event(id=name, source="/crash", type="reading", time=wall_clock(), data=json.dumps(data).encode())
        message = outgoing("readings", event, gauge)
        self._producer.produce(message.topic, message.value, message.key, headers=message.headers, on_delivery=self._told)
        self._producer.poll(0.01)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def _told(self, error: Any, message: Any) -> None:
        if error is None:
            self.tokens.append(str(Position(self.broker, message.topic(), message.partition(), message.offset())))


def until_killed(victim: Any) -> Publisher:
    """Readings of gauges that rise and fall, some malformed, until the victim is killed."""
    publisher = Publisher(victim)
    deadline = time.monotonic() + 180
    n = 0
    while victim.process.poll() is None:
        assert time.monotonic() < deadline, f"never passed\n{victim.standing()}"
        publisher.publish(f"old-{n}", f"old-{n % 4}", -1.0 if n % 11 == 10 else 2.5 if n // 4 % 2 else 0.5)
        n += 1
        time.sleep(0.01)
    assert victim.process.returncode == -signal.SIGKILL, victim.said
    return publisher


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, len(POINTS)))])
def test_what_was_open_is_lost_and_nothing_of_it_decided_again(seed, start, tmp_path):
    """Killed with its broker: lost_with_broker, once; tokens of that life are gone (410); decisions stay those that were made in it."""
    first = start(tmp_path, steps=[step_of(seed)], settings=SETTINGS)
    try:
        old = until_killed(first)
    except AssertionError:
        if first.process.poll() != -signal.SIGKILL:  # killed before it was ready: then there is nothing to lose
            raise
        old = None
    second = start(tmp_path, settings=SETTINGS)
    new = Publisher(second, message_timeout_ms=60_000)
    decided_before = {row["ref"] for row in second.sql(DECIDED)}
    new.publish("new-1", "new", 2.5)
    new.flush()
    second.until(lambda: second.sql("select agent from decisions where key = 'new' and outcome = 'acted'"))
    if old is not None:
        assert old.broker != new.broker
        for token in old.tokens[:1] + old.tokens[-1:]:
            answer = httpx.get(f"{second.ready()['http']}/v1/search", params={"q": "old", "after": token}, timeout=30)
            assert answer.status_code == 410, answer.text
    pages = [json.loads(m.value) for p in range(2) for m in drain(new.kafka, DECISIONS, p, 0, "read_uncommitted")]
    entries = [entry for page in pages for entry in (page if isinstance(page, list) else [page])]
    assert {entry["key"] for entry in entries if entry["entry"] == "decided"} == {"new"}
    assert second.stop(signal.SIGTERM) == 0, second.said
    with open_database(tmp_path / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        decided = {id for (id,) in lineage.execute(DECIDED).fetchall()}
        later = [*decided - decided_before]
        since = lineage.execute("select distinct key from decisions where id in (select unnest(?))", [later]).fetchall()
        lost = {broker for (broker,) in lineage.execute("select broker from outcomes where outcome = 'lost_with_broker'").fetchall()}
    assert since == [("new",)]
    assert lost <= {old.broker} if old is not None else len(lost) <= 1
