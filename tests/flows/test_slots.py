"""Slots over a real broker: partitions have owners for good, appear while flows run, and none of them stalls another."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import bytewax.operators as op
import pytest
from bytewax._bytewax import cluster_main
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink

from headwater.flows.kafka import Kafka
from headwater.flows.pace import Company
from headwater.flows.partitions import Partitions, owner_of
from headwater.flows.recovery import EPOCH, Recovery
from headwater.flows.sink import Outgoing, Writer
from headwater.flows.source import STATE, Batch, Slot, TopicSource, offsets_of
from headwater.lineage.errors import Misused

PATIENCE_S = 60.0
SHORT = timedelta(seconds=0.2)


class Veiled(Kafka):
    """A broker of which only so many partitions are seen at first: the embedded one cannot add any to a topic."""

    def __init__(self, kafka: Kafka, seen: dict[str, int]) -> None:
        super().__init__(kafka.properties)
        self.seen = seen

    def topics(self, timeout: float = 10.0) -> dict[str, int]:
        return {name: count for name, here in super().topics(timeout).items() if (count := min(here, self.seen.get(name, 0)))}


class Running:
    """A flow that only reads, in a thread, until it is stopped."""

    def __init__(self, source: TopicSource, recovery: Recovery | None = None, workers: int = 1, epoch: timedelta = EPOCH) -> None:
        self.batches: list[Batch] = []
        self.stop, self.failure = source.stop, None
        flow = Dataflow("read")
        op.output("out", op.input("in", flow, source), TestingSink(self.batches))
        self._options: dict[str, Any] = {"epoch_interval": epoch, "recovery_config": recovery.config if recovery else None}
        self._flow, self._workers = flow, workers
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            cluster_main(self._flow, [], 0, worker_count_per_proc=self._workers, **self._options)
        except BaseException as error:
            self.failure = error

    @property
    def seen(self) -> list[tuple[int, int]]:
        return [(batch.partition, message.offset()) for batch in list(self.batches) for message in batch.messages]

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert self._thread.is_alive(), self.failure
            assert time.monotonic() < deadline, f"never came true; {len(self.seen)} read"
            time.sleep(0.02)

    def close(self) -> None:
        self.stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def fill(kafka: Kafka, topic: str, partitions: Iterable[int], many: int) -> None:
    """So many messages more in each of these partitions."""
    writer = Writer(kafka, "b")
    writer.write(Outgoing(topic, b"", b"{}", [], partition) for partition in partitions for _ in range(many))
    writer.close()


def test_partitions_that_appear_are_read_from_their_beginning(kafka, name):
    """While the flow runs: new partitions are adopted by their owners with all that lies in them, the old ones go on; each offset once."""
    kafka.create({name: 6})
    fill(kafka, name, range(6), 10)
    veiled = Veiled(kafka, {name: 2})
    watch = Partitions(veiled, {name: 2}, every_s=0.1).start()
    begun: list[int] = []
    source = TopicSource(veiled, "b", {name: 2}, name, watch=watch, begun=lambda t, p, offset: begun.append(p))
    with Running(source, workers=2) as running:
        running.until(lambda: len(running.seen) == 20)
        veiled.seen[name] = 6
        fill(kafka, name, [0], 5)
        running.until(lambda: len(running.seen) >= 65)
    watch.close()
    assert Counter(running.seen) == Counter([(p, o) for p in range(6) for o in range(15 if p == 0 else 10)])
    assert sorted(begun) == list(range(6))


def test_a_topic_that_appears_is_adopted_and_a_keyed_one_does_not_grow(kafka, name):
    """A declared topic may come later, a pattern finds new topics; of a keyed topic that grew nothing new is read."""
    later, matched = f"{name}-later", f"{name}-matched"
    kafka.create({name: 4, later: 2, matched: 1})
    for topic, count in ((name, 4), (later, 2), (matched, 1)):
        fill(kafka, topic, range(count), 3)
    veiled = Veiled(kafka, {name: 2})
    declared = {name: 2, later: 2, f"^{name}-m": 0}
    watch = Partitions(veiled, declared, {name}, every_s=0.1).start()
    with Running(TopicSource(veiled, "b", declared, name, watch=watch)) as running:
        running.until(lambda: len(running.seen) == 6)
        veiled.seen |= {name: 4, later: 2, matched: 1}
        running.until(lambda: len(running.seen) == 15 and bool(watch.told()))
    watch.close()
    assert {(batch.topic, batch.partition) for batch in running.batches} == {(name, 0), (name, 1), (later, 0), (later, 1), (matched, 0)}
    assert "migrate" in watch.told()[name]


def test_adopted_partitions_are_gone_on_with_after_a_restart(kafka, name, tmp_path):
    """Stop and start over one recovery store, with partitions that appeared while running, and meanwhile: each offset once."""
    kafka.create({name: 6})
    seen: list[tuple[int, int]] = []
    for life, (before, after) in enumerate(((1, 3), (5, 6))):
        fill(kafka, name, range(6), 10)
        veiled = Veiled(kafka, {name: before})
        watch = Partitions(veiled, {name: 1}, every_s=0.1).start()
        recovery = Recovery(tmp_path, "f", "b")
        # `latest` counts only where there is no snapshot: what appeared since is read from its beginning
        source = TopicSource(veiled, "b", {name: 1}, name, watch=watch, start="earliest" if life == 0 else "latest")
        with Running(source, recovery, workers=1 + life) as running:
            due = 10 if life == 0 else 10 + 2 * 10 + 2 * 20
            running.until(lambda due=due, running=running: len(running.seen) >= due)
            veiled.seen[name] = after
            due += 20
            running.until(lambda due=due, running=running: len(running.seen) >= due)
        watch.close()
        recovery.close()
        seen += running.seen
    assert Counter(seen) == Counter([(p, o) for p in range(6) for o in range(20)])


def test_one_client_serves_all_slots_of_a_worker(kafka, name, monkeypatch):
    """However many slots and partitions: a client for each worker that reads something, none for those that do not."""
    kafka.create({name: 8})
    fill(kafka, name, range(8), 5)
    made: list[str] = []
    consumer = Kafka.consumer
    monkeypatch.setattr(Kafka, "consumer", lambda self, group, **more: made.append(group) or consumer(self, group, **more))
    with Running(TopicSource(kafka, "b", {name: 8}, name), workers=2) as running:
        running.until(lambda: len(running.seen) == 40)
    assert 1 <= made.count(name) <= 2


def test_the_slot_that_polls_owns_partitions(kafka, name):
    """Empty slots sleep long, so none of them may set the pace where another has something to read, also once one has closed."""
    kafka.create({name: 4})
    source = TopicSource(kafka, "b", {name: 4}, name)
    slots = [source.build_part("s", part, None) for part in source.list_parts()]
    owners = [slot for slot in slots if slot.places]
    assert len(owners) > 1 and source.reader().lead is owners[0]
    owners[0].close()
    assert source.reader().lead is owners[1]
    for slot in slots:
        if slot is not owners[0]:
            slot.close()


def test_a_snapshot_is_never_misread(kafka, name):
    """A snapshot of another number of slots is refused by name, one of a newer form too; one of the old form is gone on with."""
    kafka.create({name: 4})
    fill(kafka, name, [0], 10)
    source = TopicSource(kafka, "b", {name: 4}, name, slots=64)
    owner = owner_of((name, 0), 64)
    other = next(slot for slot in range(64) if slot != owner)
    with pytest.raises(Misused, match=rf"slot {other} .*{name}/0.*slot {owner} owns.*another number of slots than 64"):
        source.build_part("s", str(other), {"form": STATE, "next": {(name, 0): 3}})
    with pytest.raises(Misused, match="form 99"):
        offsets_of({"form": 99})
    slot = source.build_part("s", str(owner), {(name, 0): 7})
    assert slot.snapshot() == {"form": STATE, "next": {**dict.fromkeys(slot.places, 0), (name, 0): 7}}
    slot.close()


def test_what_is_no_longer_read_is_carried_along(kafka, name):
    """A topic that the application dropped keeps its place in the snapshot, should it come back."""
    kafka.create({name: 1})
    owner = owner_of((name, 0), 64)
    dropped = next((f"dropped{n}", 0) for n in range(10_000) if owner_of((f"dropped{n}", 0), 64) == owner)
    slot = TopicSource(kafka, "b", {name: 1}, name).build_part("s", str(owner), {"form": STATE, "next": {dropped: 42}})
    assert slot.snapshot()["next"] == {(name, 0): 0, dropped: 42}
    slot.close()


def test_a_gated_partition_holds_back_no_other_of_its_worker(kafka, name):
    """A gate that closes over one partition leaves the others of the same client alone; open again, nothing is missing."""
    kafka.create({name: 4})
    fill(kafka, name, range(4), 300)
    opened = threading.Event()
    source = TopicSource(kafka, "b", {name: 4}, name, batch=10, gate=lambda topic, partition: partition != 1 or opened.is_set())
    with Running(source) as running:
        running.until(lambda: len(running.seen) == 900)
        assert all(partition != 1 for partition, _ in running.seen)
        opened.set()
        running.until(lambda: len(running.seen) == 1200)
    assert Counter(running.seen) == Counter([(p, o) for p in range(4) for o in range(300)])
    assert all([o for q, o in running.seen if q == p] == list(range(300)) for p in range(4))


def test_what_waits_in_a_reader_is_bounded(kafka, name):
    """While a slot does not hand on, its reader takes no more than two polls of everybody's."""
    kafka.create({name: 4})
    fill(kafka, name, range(4), 500)
    source = TopicSource(kafka, "b", {name: 4}, name, slots=1, batch=50)
    slot = source.build_part("s", "0", None)
    deadline = time.monotonic() + PATIENCE_S
    while not slot.next_batch():
        assert time.monotonic() < deadline
    for _ in range(200):
        source.reader().poll()
        time.sleep(0.002)
    assert sum(reading.many for reading in slot.places.values()) <= 2 * 50
    slot.close()


class Uneven(TopicSource):
    """Counts how often the slot with the busy partition is looked at in each epoch; the other worker begins late."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.looks = [0]
        self.late: set[int] = set()

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> "UnevenSlot":
        return UnevenSlot(self, for_part, None)


class UnevenSlot(Slot):
    def next_batch(self) -> list[Batch]:
        source = self._source
        if not self._reader.readings and threading.get_ident() not in source.late:
            source.late.add(threading.get_ident())
            time.sleep(1.9 * SHORT.total_seconds())  # its epochs end when those of the other have nearly ended again
        if self.places:
            source.looks[-1] += 1
            time.sleep(0.001)  # however fast the machine, there is to read for a minute
        return super().next_batch()

    def snapshot(self) -> dict[str, Any]:
        if self.places:
            self._source.looks.append(0)
        return super().snapshot()


def test_an_idle_worker_stalls_no_busy_one(kafka, name):
    """One busy slot, 63 empty ones, 2 workers of which the idle one began late: the busy one reads on all through its epochs.

    The engine counts waiting for the others towards the epoch: without `company` the busy slot is looked at once or twice in each, for as
    long as there is anything to read. A machine that is busy may do so to a few epochs, so some that follow each other are enough.
    """
    kafka.create({name: 1})
    fill(kafka, name, [0], 60_000)
    source = Uneven(kafka, "b", {name: 1}, name, batch=1, company=Company(SHORT.total_seconds()))
    with Running(source, workers=2, epoch=SHORT) as running:
        running.until(lambda: any(sorted(source.looks[n : n + 8])[4] > 20 for n in range(3, len(source.looks) - 8)))


def test_a_slot_that_took_all_it_may_is_looked_at_again_at_once(kafka, name):
    """In company too it names no moment then: for one that is over the engine rests as long as the look took."""
    kafka.create({name: 1})
    fill(kafka, name, [0], 25)
    source = TopicSource(kafka, "b", {name: 1}, name, slots=1, batch=10, company=Company(3600))
    slot, taken, found = source.build_part("s", "0", None), 0, set()
    deadline = time.monotonic() + PATIENCE_S
    while taken < 25:
        assert time.monotonic() < deadline
        if many := sum(len(batch.messages) for batch in slot.next_batch()):
            taken += many
            found.add((many == 10, slot.next_awake() is None))
    assert found == {(True, True), (False, False)}
    slot.close()
