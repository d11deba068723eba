"""Honest freshness where flows, broker, workers and restarts meet: an answer holds what it claims to hold."""

import itertools
import math
import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from headwater import App, Document, Topic, document
from headwater.enrichers.freshness import StoredProgress
from headwater.enrichers.index import Indexer
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.testing import HashEmbedder, Stall
from headwater.flows.runtime import wall_clock
from headwater.flows.settings import Settings
from headwater.flows.source import TopicSource
from headwater.flows.up import Up
from headwater.lineage.errors import Behind, Gone
from headwater.lineage.event import Position

PATIENCE_S = 60


class Reading(msgspec.Struct):
    gauge: str


class Halting(HashEmbedder):
    """Documents wait while the stall holds; what readers ask is embedded at once."""

    def __init__(self, stall: Stall) -> None:
        super().__init__()
        self.stall = stall

    def embed(self, texts):
        if any(text.startswith("Gauge ") for text in texts):
            self.stall()
        return super().embed(texts)


class Claims:
    """An application that grows by a document per event, who published what when, and whether answers hold what they claim."""

    def __init__(self, kafka, name, folder) -> None:
        self.kafka, self.folder = kafka, folder
        self.topic = Topic(name, Reading, key="gauge", partitions=3)
        kind = document(self.topic)(lambda reading, facts: Document(reading.gauge, f"Gauge {reading.gauge} of the lake"))
        self.app = App(name, documents=[kind], root=folder)
        self.kind = kind.name
        self.stall = Stall(folder / "stall")
        self.settings = Settings(home=folder / "home", kafka=dict(kafka.properties))
        self.acknowledged: list[tuple[int, Position, str]] = []
        self._numbers = itertools.count()

    def up(self, workers: int) -> Up:
        return Up(self.app, self.settings, flows=("index", "audit"), http=False, embedder=Halting(self.stall), workers=workers)

    def publish(self, up: Up, many: int) -> Position:
        """One after the other; the last one's position."""
        for _ in range(many):
            gauge = f"g{next(self._numbers)}"
            [accepted] = up.gateway.publish(self.topic, up.gateway.events(self.topic, msgspec.json.encode(Reading(gauge))))
            self.acknowledged.append((wall_clock(), accepted.position, gauge))
        return self.acknowledged[-1][1]

    def check(self, retriever: Retriever) -> float:
        """One answer, held against what was acknowledged before it was asked for; its staleness."""
        before, known = wall_clock(), list(self.acknowledged)
        answer = retriever.search("gauge of the lake", limit=1_000)
        there = {hit.document for hit in answer.results}
        claimed = -math.inf if math.isinf(answer.staleness_ms) else before - answer.staleness_ms * 1000
        for at, place, gauge in known:
            covered = answer.as_of.get(f"{place.topic}/{place.partition}", 0) > place.offset
            if covered or at < claimed:
                assert f"{self.kind}/{gauge}" in there, (place.short, covered, at - claimed)
        return answer.staleness_ms

    def until(self, up: Up, true: Callable[[float], bool]) -> None:
        """Answer after answer, each checked, from the flow's own progress and from what is stored of it, until one is as wanted."""
        run = up.run
        stored = StoredProgress(run.index, run.broker, wall_clock, self.app.indexed, run.partitions.places(self.app.indexed))
        deadline = time.monotonic() + PATIENCE_S
        while not true(self.check(run.retriever)):
            self.check(Retriever(run.index, run.embedder, stored))
            assert time.monotonic() < deadline


@pytest.fixture
def claims(kafka, name, tmp_path):
    return Claims(kafka, name, tmp_path)


def test_answers_hold_what_they_claim_through_stall_failure_and_restart(claims, monkeypatch):
    """Two workers, publishers beside; then the embedder stands still; then the flow fails; then a start on the same home with one worker:
    no answer ever claims an event that it lacks, and each grows stale, refuses and recovers as it must."""
    with claims.up(workers=2) as up:
        publishers = [threading.Thread(target=claims.publish, args=(up, 40)) for _ in range(2)]
        for thread in publishers:
            thread.start()
        while any(thread.is_alive() for thread in publishers):
            claims.check(up.run.retriever)
        up.run.progress.wait([place for _, place, _ in claims.acknowledged], PATIENCE_S)
        claims.until(up, lambda staleness: staleness < 5_000)

        claims.stall.file.write_text("")
        held = claims.publish(up, 10)
        stalled_at = claims.acknowledged[-1][0]
        claims.until(up, lambda staleness: wall_clock() - stalled_at > 600_000)
        assert claims.check(up.run.retriever) >= 600
        with pytest.raises(Behind):
            up.run.retriever.search("gauge", max_staleness="500ms", wait_s=0.1)
        with pytest.raises(Behind) as refused:
            up.run.retriever.search("gauge", after=[held], wait_s=0)
        assert refused.value.details["behind"][held.short] > 0
        claims.stall.file.unlink()
        up.run.retriever.search("gauge", after=[held], wait_s=PATIENCE_S)
        claims.until(up, lambda staleness: staleness < 5_000)

        monkeypatch.setattr(Indexer, "index", _broken)
        lost = claims.publish(up, 5)
        assert up.failed.wait(PATIENCE_S)
        failed_at = wall_clock()
        claims.until(up, lambda staleness: wall_clock() - failed_at > 300_000)
        assert claims.check(up.run.retriever) >= 300
        with pytest.raises(Behind):
            up.run.retriever.search("gauge", after=[lost], wait_s=0)
        assert up.failure is not None and "broken" in str(up.failure[1])
    monkeypatch.undo()
    claims.stall.file.write_text("")
    with claims.up(workers=1) as up:
        assert claims.check(up.run.retriever) > 0
        with pytest.raises(Behind):
            up.run.retriever.search("gauge", after=[lost], wait_s=0)
        claims.stall.file.unlink()
        up.run.retriever.search("gauge", after=[place for _, place, _ in claims.acknowledged], wait_s=PATIENCE_S)
        claims.until(up, lambda staleness: staleness < 5_000)
        with pytest.raises(Gone):
            up.run.retriever.search("gauge", after=[held._replace(broker="another life")])
        assert len(up.run.retriever.search("gauge of the lake", limit=1_000).results) == len(claims.acknowledged)


def _broken(self, received):
    if received:
        raise RuntimeError("broken")
    raise AssertionError("nothing came")


def test_an_end_is_as_old_as_the_question(kafka, name):
    """A source that says it stands at its end says of when: an event that was acknowledged before that moment is among those handed on."""
    kafka.create({name: 1})
    producer = kafka.producer()
    told: list[tuple[int, int]] = []

    def at_end(topic, partition, offset, age):
        told.append((offset, wall_clock() - round(age * 1e6)))

    source = TopicSource(kafka, "b", {name: 1}, name, slots=None, at_end=at_end)
    part = source.build_part("step", f"{name}/0", None)
    deadline = time.monotonic() + PATIENCE_S
    acknowledged: list[int] = []
    while len(acknowledged) < 150:
        before = len(told)
        part.next_batch()
        if len(told) > before:
            producer.produce(name, b"x")
            assert producer.flush(30) == 0
            acknowledged.append(wall_clock())
            for _ in range(3):
                part.next_batch()
        assert time.monotonic() < deadline
    part.close()
    for offset, at in told:
        assert not [n for n, acked in enumerate(acknowledged) if acked < at and n >= offset]
