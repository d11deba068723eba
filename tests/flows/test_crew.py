"""The crew that indexes off the engine's thread, and the source whose snapshot is what it has settled."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from qdrant_client import QdrantClient

from headwater.enrichers.batching import Batching
from headwater.enrichers.document import Delete, Document, DocumentType
from headwater.enrichers.freshness import Progress
from headwater.enrichers.index import Indexer
from headwater.enrichers.qdrant import QdrantIndex
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.crew import GROUP, GROUP_BYTES, GROUP_S, GROWN, MOST, Crew, together
from headwater.flows.meter import Meter
from headwater.flows.settling import SettledSource
from headwater.flows.steps import Upserted, UpsertStep, Work
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Message, Position
from headwater.lineage.topic import Topic

PATIENCE_S = 60


class Note(BaseModel):
    id: str
    text: str | None = None


NOTES: Topic[Note] = Topic("notes", Note, key="id")
NOTE = DocumentType("note", NOTES, lambda note, facts: Delete(note.id) if note.text is None else Document(note.id, note.text))


def work(partition: int, first: int, notes: Sequence[Note]) -> Work:
    """One batch of a partition."""
    received, messages = [], []
    for offset, note in enumerate(notes, first):
        event = Event(id=f"e{partition}-{offset}", source="s", type="t", time=1_000_000 * (offset + 1))
        received.append(Received(Position("b", "notes", partition, offset), event, note, 0))
        messages.append(Message("notes", partition, offset, 0, None, (note.text or "").encode(), []))
    batch: Any = SimpleNamespace(broker="b", topic="notes", partition=partition, first=first, next=first + len(notes))
    return Work(batch, received, messages=messages)


class Heard(Progress):
    """Remembers in which order partitions were settled, and how far."""

    def __init__(self) -> None:
        super().__init__("b", lambda: 0, ["notes"])
        self.settled: list[tuple[int, int]] = []

    def settle(self, topic: str, partition: int, next: int) -> None:
        super().settle(topic, partition, next)
        self.settled.append((partition, next))


class Bench:
    """An index, and the step over it that a crew takes."""

    def __init__(self, embedder: Any) -> None:
        self.index = QdrantIndex(QdrantClient(":memory:"), "notes", embedder.size)
        self.progress = Heard()
        indexer = Indexer(self.index, embedder, [NOTE], clock=lambda: 1)
        writer: Any = SimpleNamespace(largest=1_000_000)
        self.step = UpsertStep(indexer, writer, self.progress, Meter(), lambda: 1, threading.Event())

    def content(self, documents: Sequence[str]) -> Any:
        """What a reader finds, and each document's head."""
        heads = self.index.heads(documents)
        points = self.index.points([id for head in heads.values() for id in head.current.points(head.document)])
        told = {document: (head.version, head.event, head.hashes) for document, head in heads.items()}
        return told, sorted((point.document, point.n, point.text, vector.tolist()) for point, vector in points.values())


class Slow(HashEmbedder):
    """Takes its time, a different one for each batch, by a seed."""

    batch = 500

    def __init__(self, seed: int) -> None:
        super().__init__(16)
        self._chance = random.Random(seed)

    def embed(self, texts: Sequence[str]) -> Any:
        threading.Event().wait(self._chance.random() * 0.002)
        return super().embed(texts)


def outcomes(done: Sequence[Upserted]) -> dict[tuple[int, int], str]:
    found = [record for each in done for record in each.records if record.kind == "outcome"]
    ended = [(record.partition, offset, record.outcome) for record in found for offset in range(record.first, record.next)]
    assert len({one[:2] for one in ended}) == len(ended), "an offset ended twice"
    return {(partition, offset): outcome for partition, offset, outcome in ended}


TEXTS = st.sampled_from(["snow", "ice on the wings", "fog " * 30, "a longer story " * 400, None])
BATCHES = st.lists(st.tuples(st.integers(0, 4), st.lists(st.tuples(st.sampled_from("abc"), TEXTS), min_size=1, max_size=6)), max_size=14)


@settings(max_examples=25, deadline=None)
@given(BATCHES, st.integers(1, 4), st.integers(0, 9))
def test_as_if_one_after_the_other(batches, threads, seed):
    """Whatever goes on at once: each partition settled in its order, every offset ended once, as it would alone; and the same index."""
    offsets: dict[int, int] = {}
    given_work, serially = [], []
    for partition, said in batches:
        first = offsets.get(partition, 0)
        offsets[partition] = first + len(said)
        notes = [Note(id=f"{partition}{id}", text=text) for id, text in said]
        given_work.append(work(partition, first, notes))
        serially.append(work(partition, first, notes))
    alone = Bench(HashEmbedder(16))
    expected = outcomes([upserted for each in serially for upserted in alone.step([each])])
    together = Bench(Batching(Slow(seed)))
    crew = Crew(together.step, threads=threads, help_s=0.0)
    crew.put(given_work)
    found = taken(crew, offsets)
    crew.close()
    assert outcomes(found) == expected
    for partition, end in offsets.items():
        mine = [next for lane, next in together.progress.settled if lane == partition]
        assert mine == sorted(mine) and mine[-1] == end
        assert [each.next for each in found if each.lane[1] == partition][-1] == end
    documents = [f"note/{partition}{id}" for partition in offsets for id in "abc"]
    assert together.content(documents) == alone.content(documents)
    alone.index.close()
    together.index.close()


def taken(crew: Crew, offsets: dict[int, int]) -> list[Upserted]:
    """All that is done, once everything is."""
    found: list[Upserted] = []
    reached = dict.fromkeys(offsets, 0)
    end = time.monotonic() + PATIENCE_S
    while reached != offsets:
        assert time.monotonic() < end, (reached, offsets)
        for partition in offsets:
            for each in crew.take(("notes", partition)):
                found.append(each)
                reached[partition] = each.next
        threading.Event().wait(0.001)
    return found


class Watched(HashEmbedder):
    """Its first call waits until two callers do."""

    batch = 4000

    def __init__(self) -> None:
        super().__init__(16)
        self.first = True
        self.batching: Batching

    def embed(self, texts: Sequence[str]) -> Any:
        if self.first:
            self.first = False
            wait_for(lambda: len(self.batching._waiting) == 2)
        return super().embed(texts)


def test_a_long_document_holds_its_own_partition_only():
    """A document of 1 MB is begun first and a short one of another partition is settled before it."""
    embedder = Watched()
    embedder.batching = Batching(embedder)
    bench = Bench(embedder.batching)
    crew = Crew(bench.step, threads=2, help_s=0.0)
    crew.put([work(0, 0, [Note(id="long", text="".join(f"{n} inches of snow fell\n\n" for n in range(42_000)))])])
    crew.put([work(1, 0, [Note(id="short", text="fog")])])
    taken(crew, {0: 1, 1: 1})
    crew.close()
    assert bench.progress.settled == [(1, 1), (0, 1)]
    assert len(bench.index.heads(["note/long"])["note/long"].hashes) > 500
    bench.index.close()


@pytest.fixture
def gated() -> Iterator[Any]:
    """A crew whose work ends when it is let."""
    with gated_crew(help_s=0.0) as made:
        yield made


@contextmanager
def gated_crew(help_s: float) -> Iterator[Any]:
    gate = threading.Semaphore(0)
    begun: list[list[Work]] = []

    def settle(group: list[Work]) -> list[Upserted]:
        begun.append(group)
        assert gate.acquire(timeout=PATIENCE_S)
        return [Upserted(lane=each.lane, next=each.batch.next) for each in group]

    crew = Crew(settle, threads=2, help_s=help_s)
    yield SimpleNamespace(crew=crew, gate=gate, begun=begun)
    for _ in range(1000):
        gate.release()
    crew.close()


def test_no_more_is_read_of_a_lane_that_is_full(gated):
    """What was put in and not taken out counts; the full lane leaves room to the others; taking out makes room."""
    notes = [Note(id="a", text="snow")]
    for offset in range(MOST):
        assert gated.crew.room("notes", 0)
        gated.crew.put([work(0, offset, notes)])
    assert not gated.crew.room("notes", 0) and gated.crew.room("notes", 1)
    for _ in range(MOST):
        gated.gate.release()
    taken(gated.crew, {0: MOST})
    assert gated.crew.room("notes", 0)


def test_small_batches_of_several_lanes_go_together_and_a_long_one_alone(gated):
    """While one group is under way what comes is gathered; a long batch joins nobody."""
    gated.crew.put([work(0, 0, [Note(id="a", text="x" * 100_000)])])
    wait_for(lambda: len(gated.begun) == 1)
    gated.crew.put([work(n, 0, [Note(id="a", text="snow")]) for n in (1, 2, 3)])
    wait_for(lambda: len(gated.begun) == 2)
    assert [[each.lane[1] for each in group] for group in gated.begun] == [[0], [1, 2, 3]]


def test_whoever_is_done_goes_on_at_once():
    """What came while a group was under way begins when that one ends, though a second thread stands by to help much later."""
    with gated_crew(help_s=1000.0) as slow:
        slow.crew.put([work(0, 0, [Note(id="a", text="snow")])])
        wait_for(lambda: len(slow.begun) == 1)
        slow.crew.put([work(1, 0, [Note(id="a", text="snow")])])
        wait_for(lambda: slow.crew._helper)
        slow.gate.release()
        wait_for(lambda: len(slow.begun) == 2)


@given(st.floats(0, 1e6))
def test_a_group_takes_what_is_soon_done(speed):
    """Never less than a small group, never more than so many of them, and between these no more than is done in a moment."""
    messages, size = together(speed)
    assert GROUP <= messages <= GROWN * GROUP and GROUP_BYTES <= size <= GROWN * GROUP_BYTES
    assert messages == GROUP or messages <= speed * GROUP_S


def wait_for(there: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end
        threading.Event().wait(0.001)


def test_what_breaks_the_work_is_raised_to_who_takes():
    """And the crew begins nothing more."""

    def settle(group: list[Work]) -> list[Upserted]:
        raise RuntimeError("the store is gone")

    crew = Crew(settle)
    crew.put([work(0, 0, [Note(id="a", text="snow")])])
    wait_for(lambda: crew.broken)
    with pytest.raises(RuntimeError, match="the store is gone"):
        crew.take(("notes", 0))
    crew.close()


class Below:
    """A part that reads what it is told, from where it resumed."""

    def __init__(self, reads: Sequence[tuple[int, int]], start: dict[int, int]) -> None:
        self.reads, self.next, self.stopped = list(reads), dict(start), False

    def next_batch(self) -> list[Any]:
        if self.stopped:
            raise StopIteration
        if not self.reads:
            return []
        partition, many = self.reads.pop(0)
        first = self.next.get(partition, 0)
        self.next[partition] = first + many
        return [SimpleNamespace(topic="notes", partition=partition, first=first, next=first + many)]

    def snapshot(self) -> Any:
        return {"form": 2, "next": {("notes", partition): next for partition, next in self.next.items()}}


class Hands:
    """A crew whose work is done when the test says so."""

    def __init__(self) -> None:
        self.lanes: dict[Any, list[int]] = {}
        self.done: dict[Any, list[Upserted]] = {}

    def put(self, batches: Sequence[Any]) -> None:
        for batch in batches:
            self.lanes.setdefault((batch.topic, batch.partition), []).append(batch.next)

    def finish(self, partition: int) -> None:
        lane = ("notes", partition)
        if self.lanes.get(lane):
            self.done.setdefault(lane, []).append(Upserted(lane=lane, next=self.lanes[lane].pop(0)))

    def take(self, lane: Any) -> list[Upserted]:
        return self.done.pop(lane, [])


MOVES = st.lists(st.one_of(st.just("poll"), st.integers(0, 2), st.just("snapshot")), max_size=60)
READS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=15)


@given(READS, MOVES)
def test_a_snapshot_says_what_was_told_as_settled(reads, moves):
    """Never more than what was handed on as done, so that a kill loses no outcome; and never less, once nothing is on its way."""
    below, hands = Below(reads, {}), Hands()
    part = part_of(below, hands)
    told: dict[int, int] = {}

    def poll() -> None:
        items = part.next_batch()
        for item in items:
            if isinstance(item, Upserted):
                told[item.lane[1]] = item.next
        hands.put([item for item in items if not isinstance(item, Upserted)])

    for move in moves:
        if move == "poll":
            poll()
        elif move == "snapshot":
            assert {place[1]: next for place, next in part.snapshot()["next"].items()} == {p: told.get(p, 0) for p in below.next}
        else:
            hands.finish(move)
    for _ in range(len(reads)):
        poll()
        for partition in range(3):
            hands.finish(partition)
    poll()
    assert part.snapshot() == below.snapshot()


def part_of(below: Below, crew: Any) -> Any:
    source: Any = SimpleNamespace(build_part=lambda *args: below)
    return SettledSource(source, crew, lambda error: None).build_part("s", "0", None)


def test_the_end_waits_for_what_is_on_its_way(monkeypatch):
    """A source told to stop reads no more and ends once all it read is settled, or its patience is over."""
    below, hands = Below([(0, 3), (0, 2)], {}), Hands()
    part = part_of(below, hands)
    hands.put(part.next_batch())
    below.stopped = True
    assert part.next_batch() == []
    hands.finish(0)
    [done] = part.next_batch()
    assert done.next == 3
    with pytest.raises(StopIteration):
        part.next_batch()
    monkeypatch.setattr("headwater.flows.settling.GRACE_S", 0.0)
    below = Below([(0, 3)], {})
    part = part_of(below, hands)
    part.next_batch()
    below.stopped = True
    with pytest.raises(StopIteration):
        part.next_batch()
    assert part.snapshot()["next"] == {("notes", 0): 0}
