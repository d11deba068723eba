"""The Kafka source: batches of raw messages, offsets in the snapshot, every offset accounted for.

The stock source builds a dataclass per message, commits nothing, and dies of any consumer error; this one hands on the client's
own message objects in one batch per partition and poll, stops when asked, and reports what it read before any step sees it.

A source has a fixed number of slots, for the engine knows no other parts than it began with. A slot owns partitions by hash, those that
appear later too. The slots of one worker share one client (`reader`); a slot's snapshot says what that slot handed on.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.batch import Batch as Batch
from headwater.flows.drain import end_of, oldest
from headwater.flows.kafka import Kafka, is_embedded
from headwater.flows.pace import Company
from headwater.flows.partitions import PATTERN, Partitions, Place, name_of, owner_of
from headwater.flows.reader import Reader, Reading
from headwater.flows.recovery import SLOTS
from headwater.flows.thread_state import keep_thread_state
from headwater.lineage.errors import Misused

Start = Literal["earliest", "latest"] | int
"""Where a source without a snapshot begins: an int is an append time, µs since 1970."""

STATE = 2
"""The form of a snapshot: `{"form": 2, "next": {(topic, partition): offset}}`. Form 1 was the inner dictionary alone."""

EMPTY_MS = 100
"""How long a slot that owns nothing sleeps: it wakes to be given a partition, or to stop."""

IDLE_MS, EAGER = 10, 50
"""How long it sleeps at least once so many polls in a row found nothing: a look costs what a look costs, and events come in company."""


State = dict[str, Any]


@dataclass
class TopicSource(FixedPartitionedSource[Batch, State]):
    """Reads whole topics.

    topics   name → number of partitions
    group    the consumer group that offsets are committed to, for lag tools only; the snapshot is what counts
    slots    how many parts Bytewax sees, fixed for the life of a recovery store; each owns partitions by hash. None: a part per partition
    watch    where partitions that appear while running are learnt from, and what `topics` has of them now. Names in `topics` may then be
             patterns (`^…`), or of topics that are not there yet. None: what `topics` says is all there is
    batch    messages per poll and slot, at most
    rest_ms  how long a slot sleeps after a poll that found nothing, or (`coalesce`) less than a full batch
    coalesce few large batches instead of many small ones, for consumers whose cost is per batch
    end      stop at the end of every partition (a finite replay) instead of waiting for more
    company  those it ends its epochs with, if the flow has several workers or sources (`pace`). None: there is but one
    due      may anything be taken now? Asked at each look, unless whole batches wait
    gate     (topic, partition) → may more be read now? A source pauses by demand and never blocks
    begun    called with (topic, partition, offset) that a partition is read from
    read     called with (topic, partition, next offset, append time in µs of the first) as soon as messages are handed on
    at_end   called with (topic, partition, next offset, age) while a partition stands at its end, at every poll that finds nothing there:
             every message before the offset was handed on, and the broker, asked `age` seconds ago, has said that no other follows
    failed   called with what ends the flow from here, before the engine hears of it (see `guard`)
    """

    kafka: Kafka
    broker: str
    topics: Mapping[str, int]
    group: str
    start: Start = "earliest"
    slots: int | None = SLOTS
    watch: Partitions | None = None
    batch: int = 5000
    rest_ms: int = 2
    coalesce: bool = False
    end: bool = False
    company: Company | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    due: Callable[[], bool] | None = None
    gate: Callable[[str, int], bool] | None = None
    begun: Callable[[str, int, int], None] | None = None
    read: Callable[[str, int, int, int], None] | None = None
    at_end: Callable[[str, int, int, float], None] | None = None
    resume: Mapping[Place, int] = field(default_factory=dict)
    failed: Callable[[BaseException], None] | None = None

    def __post_init__(self) -> None:
        patterns = [name for name in self.topics if name.startswith(PATTERN)]
        if patterns and (self.watch is None or self.slots is None):
            raise Misused(f"topic pattern {patterns[0]!r} needs a source with slots that watches the broker's topics")
        self._readers: dict[int, Reader] = {}
        self._lock = threading.Lock()

    def places(self) -> list[Place]:
        """The partitions to read, as far as they are known now."""
        if self.watch is not None and self.slots is not None:
            return self.watch.places(self.topics)
        return [(topic, p) for topic, count in sorted(self.topics.items()) for p in range(count)]

    def part_of(self, place: Place) -> str:
        """The part that owns a partition."""
        return name_of(place) if self.slots is None else str(owner_of(place, self.slots))

    def list_parts(self) -> list[str]:
        if self.slots is not None:
            return [str(slot) for slot in range(self.slots)]
        return [name_of(place) for place in self.places()]

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> "Slot":
        keep_thread_state()
        return Slot(self, for_part, None if resume_state is None else offsets_of(resume_state))

    def reader(self) -> Reader:
        """The client of the worker whose thread asks."""
        with self._lock:
            worker = threading.get_ident()
            if worker not in self._readers:
                self._readers[worker] = self._new_reader()
            return self._readers[worker]

    def _new_reader(self) -> Reader:
        return Reader(
            self.kafka, self.group, batch=self.batch, coalesce=self.coalesce, gate=self.gate, at_end=self.at_end,
            fault=None if self.watch is None else self.watch.fault, pace=None if self.company is None else self.company.join(),
            doubts=is_embedded(self.broker),
        )  # fmt: skip

    def left(self, reader: Reader) -> None:
        """A reader that closed is not to be found again: threads come again under the same number."""
        with self._lock:
            self._readers = {thread: each for thread, each in self._readers.items() if each is not reader}


def offsets_of(state: State) -> dict[Place, int]:
    """What a snapshot says. Raises Misused for a form of a newer release."""
    if state.get("form") == STATE:
        return dict(state["next"])
    if "form" in state:
        raise Misused(f"a source's snapshot is of form {state['form']}, this headwater reads {STATE}: run the one that wrote it")
    former: dict[Any, int] = state  # form 1
    return dict(former)


class Slot(StatefulSourcePartition[Batch, State]):
    """One part of a source: hands on what its worker's reader took for its partitions.

    Of a resumed slot what is no longer read is carried along, so that it is known should it be read again.
    """

    def __init__(self, source: TopicSource, part: str, resume: Mapping[Place, int] | None) -> None:
        self._source, self._part = source, part
        self.places: dict[Place, Reading] = {}
        self._revision = -1
        strange = [place for place in resume or () if source.part_of(place) != part]
        if strange:
            raise Misused(
                f"the snapshot of slot {part} of {source.group} names {name_of(strange[0])}, which slot {source.part_of(strange[0])} owns: "
                f"it was written with another number of slots than {source.slots}, or by an older headwater; "
                "remove the recovery store, and the flow begins at the start of its topics"
            )
        self._over = False
        self._carried = dict(resume or {})
        self._fresh = resume is None
        self._reader = source.reader()
        self._reader.join(self)
        self._adopt()
        self._fresh = False  # what appears from now on is read from its beginning

    def next_batch(self) -> list[Batch]:
        if self._source.stop.is_set():
            self._end()
        try:
            batches = self._look()
        except BaseException as error:
            if self._source.failed is not None:
                self._source.failed(error)
            raise
        if self._source.end and not batches and all(r.ended is not None and not r.waiting for r in self.places.values()):
            self._end()
        return batches

    def _end(self) -> NoReturn:
        """Nothing more comes from here. The snapshot that is taken then ends no epoch but this slot's own."""
        self._over = True
        raise StopIteration

    def _look(self) -> list[Batch]:
        if self._source.watch is not None and self._source.watch.revision != self._revision:
            self._adopt()
        reader = self._reader
        if reader.pace is not None:
            reader.pace.looked(id(self))
        if reader.lead is self and (reader.busy or self._source.due is None or self._source.due()):
            reader.poll()
        return self._handed_on() if self.places else []

    def _handed_on(self) -> list[Batch]:
        """At most a batch of what waits, in offset order per partition; nothing of what is gated."""
        batches, room, gate = [], self._source.batch, self._source.gate
        for place, reading in self.places.items():
            if not reading.waiting or (gate is not None and not gate(*place)):
                continue
            while reading.waiting and room > 0:
                messages = reading.waiting.popleft()
                if len(messages) > room:
                    reading.waiting.appendleft(messages[room:])
                    messages = messages[:room]
                room -= len(messages)
                reading.many -= len(messages)
                batches.append(self._batch(place, reading, messages))
        return batches

    def _batch(self, place: Place, reading: Reading, messages: list[KafkaMessage]) -> Batch:
        batch = Batch(self._source.broker, *place, messages, reading.next)
        reading.next = batch.next
        if self._source.read is not None:
            self._source.read(*place, batch.next, messages[0].timestamp()[1] * 1000)
        return batch

    def _adopt(self) -> None:
        """Take up the partitions of this slot that are not read yet."""
        source = self._source
        self._revision = -1 if source.watch is None else source.watch.revision
        new = [place for place in source.places() if place not in self.places and source.part_of(place) == self._part]
        if not new:
            return
        starts = self._starts(new)
        self._reader.add(self, starts)
        for place, offset in starts.items():
            self._carried.pop(place, None)
            if source.begun is not None:
                source.begun(*place, offset)

    def _starts(self, places: Sequence[Place]) -> dict[Place, int]:
        """The offset each partition begins at: the snapshot's, or the oldest of one that appeared since, or what `start` says."""
        source = self._source
        known = {**source.resume, **self._carried}
        starts: dict[Place, int] = {}
        for place in places:
            appeared = None if source.watch is None else source.watch.start_of(place)
            if place in known:
                starts[place] = known[place]
            elif appeared is not None:
                starts[place] = appeared
            else:
                starts[place] = _start(self._reader.consumer, source, place, source.start if self._fresh else "earliest")
        return starts

    def next_awake(self) -> datetime | None:
        reader, lead = self._reader, self._reader.lead is self
        if reader.pace is None and reader.busy and lead:
            return None
        at = now = time.time()
        if not self.places:
            at = _next(now, EMPTY_MS)
        elif not reader.busy and reader.idle > EAGER:
            at = _next(now, max(self._source.rest_ms, IDLE_MS))
        elif not reader.busy:
            at = now + self._source.rest_ms / 1000
        if reader.pace is not None:
            moment = time.monotonic()
            wanted = moment + at - now
            paced = (reader.pace.wants if lead else reader.pace.until)(wanted)
            if paced == wanted and reader.full and lead:
                return None  # at once: after a moment that is over the engine rests as long as the look took, in which more may come
            at = at if paced == wanted else now + paced - moment
        return datetime.fromtimestamp(at, UTC)

    def snapshot(self) -> State:
        if self._reader.pace is not None and not self._over:
            self._reader.pace.ended(id(self))
        following = {place: reading.next for place, reading in self.places.items()}
        if following:
            self._reader.note_handed_on(following)
        return {"form": STATE, "next": {**self._carried, **following}}

    def close(self) -> None:
        if self._reader.leave(self):
            self._source.left(self._reader)


def _next(now: float, step_ms: int) -> float:
    """The next of the moments at which idle slots look (seconds since 1970): all at once, for each look wakes the worker."""
    step = step_ms / 1000
    return (now // step + 1) * step


def _start(consumer: Consumer, source: TopicSource, place: Place, start: Start) -> int:
    """Where a partition begins that no snapshot knows."""
    if start == "latest":
        return end_of(source.kafka, *place)
    if start == "earliest":
        return oldest(source.kafka, consumer, [place])[place]
    found = consumer.offsets_for_times([TopicPartition(*place, start // 1000)], timeout=10)[0].offset
    return int(found) if found >= 0 else end_of(source.kafka, *place)
