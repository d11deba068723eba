"""The Kafka source: batches of raw messages, offsets in the snapshot, every offset accounted for.

The stock source builds a dataclass per message, commits nothing, and dies of any consumer error; this one hands on the client's
own message objects in one batch per partition and poll, stops when asked, and reports what it read before any step sees it.
"""

import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.batch import Batch as Batch
from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Unavailable
from headwater.lineage.event import Message

_log = structlog.get_logger("headwater.source")
Place = tuple[str, int]
Start = Literal["earliest", "latest"] | int
"""Where a source without a snapshot begins: an int is an append time, µs since 1970."""

STATE = 1

TRUST_S = 1.0
"""How long "this is the end" is believed after it was asked for: a broker that has fallen silent since may have more to tell."""
ASK_S = 0.4
"""How often a source that stands at an end asks again. It costs a fetch that brings nothing."""
_CUT_OFF = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN})


@dataclass
class TopicSource(FixedPartitionedSource[Batch, dict[Place, int]]):
    """Reads whole topics.

    topics   name → number of partitions
    group    the consumer group that offsets are committed to, for lag tools only; the snapshot is what counts
    slots    how many parts Bytewax sees, fixed for the life of a recovery store; each owns partitions by hash. None: a part per partition
    batch    messages per poll and part, at most
    rest_ms  how long a part sleeps after a poll that found nothing, or (`coalesce`) less than a full batch
    coalesce few large batches instead of many small ones, for consumers whose cost is per batch
    end      stop at the end of every partition (a finite replay) instead of waiting for more
    gate     (topic, partition) → may more be read now? A source pauses by demand and never blocks
    begun    called with (topic, partition, offset) that a partition is read from
    read     called with (topic, partition, next offset, append time in µs of the first) as soon as messages are read
    at_end   called with (topic, partition, next offset) while a partition stands at its end, at every poll that finds nothing there:
             every message before the offset was handed on, and the broker has said within the last second that no other follows
    """

    kafka: Kafka
    broker: str
    topics: Mapping[str, int]
    group: str
    start: Start = "earliest"
    slots: int | None = 4
    batch: int = 5000
    rest_ms: int = 2
    coalesce: bool = False
    end: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    gate: Callable[[str, int], bool] | None = None
    begun: Callable[[str, int, int], None] | None = None
    read: Callable[[str, int, int, int], None] | None = None
    at_end: Callable[[str, int, int], None] | None = None
    resume: Mapping[Place, int] = field(default_factory=dict)

    def owned(self, part: str) -> list[Place]:
        places = [(topic, p) for topic, count in sorted(self.topics.items()) for p in range(count)]
        if self.slots is None:
            return [place for place in places if _name(place) == part]
        return [place for place in places if str(zlib.crc32(_name(place).encode()) % self.slots) == part]

    def list_parts(self) -> list[str]:
        if self.slots is not None:
            return [str(slot) for slot in range(self.slots)]
        return [_name((topic, p)) for topic, count in sorted(self.topics.items()) for p in range(count)]

    def build_part(self, step_id: str, for_part: str, resume_state: dict[Place, int] | None) -> "_Part":
        return _Part(self, self.owned(for_part), {**self.resume, **(resume_state or {})})


def _name(place: Place) -> str:
    return f"{place[0]}/{place[1]}"


class _Part(StatefulSourcePartition[Batch, dict[Place, int]]):
    def __init__(self, source: TopicSource, places: Sequence[Place], resume: Mapping[Place, int]) -> None:
        self._source = source
        self._places = list(places)
        self._ended: dict[Place, int] = {}
        self._asked: dict[Place, float] = {}
        self._proved: dict[Place, float] = {}
        self._open: set[Place] = set()
        self._paused: set[Place] = set()
        self._idle = False
        self._consumer: Consumer | None = None
        self._next: dict[Place, int] = {}
        if not self._places:
            return
        self._consumer = source.kafka.consumer(source.group)
        self._next = _starts(self._consumer, source, self._places, resume)
        if source.begun is not None:
            for place, offset in self._next.items():
                source.begun(*place, offset)
        self._asked = dict.fromkeys(self._places, time.monotonic())
        self._consumer.assign([TopicPartition(topic, p, self._next[topic, p]) for topic, p in self._places])

    def next_batch(self) -> list[Batch]:
        if self._source.stop.is_set() or (self._source.end and len(self._ended) == len(self._places)):
            raise StopIteration
        if self._consumer is None:
            self._idle = True
            return []
        self._apply_gate(self._consumer)
        by_place: dict[Place, list[KafkaMessage]] = {}
        standing = [place for place in self._ended if place not in self._paused]
        found = self._consumer.consume(self._source.batch, 0)
        for message in found:
            error = message.error()
            if error is None:
                by_place.setdefault((message.topic(), message.partition()), []).append(message)
            else:
                self._note(message, error)
        self._idle = not by_place or (self._source.coalesce and len(found) < self._source.batch)
        batches = [self._batch(place, messages) for place, messages in by_place.items()]
        if self._source.at_end is not None and len(found) < self._source.batch:  # else more may lie behind what was taken
            self._tell_ends(self._source.at_end, self._consumer, [place for place in standing if place not in by_place])
        return batches

    def _tell_ends(self, at_end: Callable[[str, int, int], None], consumer: Consumer, places: Sequence[Place]) -> None:
        """Tell of the partitions that stand at their ends, and have the broker say again that they do.

        The client tells an end once, and nothing when its broker stops answering; and after this process stood still, what it told
        may be old. So an end counts from the moment it was asked for, and not for long: a seek to where we are asks for it.
        It is told at our own next offset: between that and the broker's end lie transaction markers and what compaction took.
        """
        now = time.monotonic()
        for place in places:
            if now - self._proved.get(place, -TRUST_S) < TRUST_S:
                at_end(*place, self._next[place])
            if place not in self._open and now - self._asked[place] >= ASK_S:
                self._asked[place] = now
                self._open.add(place)  # asked again only once answered: the client keeps trying, and a seek drops what is on its way
                try:
                    consumer.seek(TopicPartition(*place, self._next[place]))
                except KafkaException as error:
                    self._open.discard(place)
                    _log.debug("end not asked for", topic=place[0], partition=place[1], error=str(error))

    def _batch(self, place: Place, messages: list[KafkaMessage]) -> Batch:
        batch = Batch(self._source.broker, *place, messages, self._next[place])
        self._next[place] = batch.next
        if self._ended.get(place, batch.next) < batch.next:  # an end told in the same poll as the last messages still holds
            del self._ended[place]
            self._proved.pop(place, None)
        if self._source.read is not None:
            self._source.read(*place, batch.next, messages[0].timestamp()[1] * 1000)
        return batch

    def _note(self, message: KafkaMessage, error: KafkaError) -> None:
        """Ends of partitions are noted; passing faults are the client's to mend; what it cannot mend ends the flow, by name."""
        place = (message.topic(), message.partition())
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._ended[place] = message.offset()
            self._proved[place] = self._asked[place]
            self._open.discard(place)
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE) and self._consumer is not None:
            # What retention overtook shows as a jump in offsets, and so as `absent`.
            low, _ = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=10)
            _log.warning("retention overtook the flow", topic=place[0], partition=place[1], wanted=self._next[place], oldest=low)
            self._consumer.seek(TopicPartition(*place, max(low, self._next[place])))
        elif error.fatal():
            raise Unavailable(f"{self._source.group}: {place[0]}/{place[1]}: {error.str()}")
        else:
            if code in _CUT_OFF:
                self._proved.clear()
                self._open.clear()
            _log.warning("broker", group=self._source.group, error=error.str())

    def _apply_gate(self, consumer: Consumer) -> None:
        gate = self._source.gate
        if gate is None:
            return
        closed = {place for place in self._places if not gate(*place)}
        if pause := closed - self._paused:
            consumer.pause([TopicPartition(*place) for place in pause])
        if resume := self._paused - closed:
            consumer.resume([TopicPartition(*place) for place in resume])
        self._paused = closed
        self._open -= closed  # what a paused partition was asked is dropped with what it had fetched

    def next_awake(self) -> datetime | None:
        if not self._idle:
            return None
        pause = self._source.rest_ms if self._consumer is not None else 100
        return datetime.now(UTC) + timedelta(milliseconds=pause)

    def snapshot(self) -> dict[Place, int]:
        if self._consumer is not None and self._next:
            self._commit(self._consumer)
        return dict(self._next)

    def _commit(self, consumer: Consumer) -> None:
        try:
            consumer.commit(offsets=[TopicPartition(*place, offset) for place, offset in self._next.items()], asynchronous=True)
        except KafkaException as error:  # the group's offsets are for lag tools; the snapshot is what counts
            _log.debug("offsets not committed", group=self._source.group, error=str(error))

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()


def _starts(consumer: Consumer, source: TopicSource, places: Sequence[Place], resume: Mapping[Place, int]) -> dict[Place, int]:
    """The offset each partition begins at: the snapshot's, or what `start` says."""
    starts: dict[Place, int] = {}
    for place in places:
        if place in resume:
            starts[place] = resume[place]
        elif source.start == "earliest":
            starts[place] = consumer.get_watermark_offsets(TopicPartition(*place), timeout=10)[0]
        elif source.start == "latest":
            starts[place] = end_of(source.kafka, *place)
        else:
            found = consumer.offsets_for_times([TopicPartition(*place, source.start // 1000)], timeout=10)[0].offset
            starts[place] = found if found >= 0 else end_of(source.kafka, *place)
    return starts


_PASSING = frozenset((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT))
"""What the client mends by itself."""
_READ_S = 0.02


def end_of(kafka: Kafka, topic: str, partition: int, isolation: str = "read_committed") -> int:
    """The offset after the last message, found by reading to the end: the embedded broker's watermarks are wrong. Raises Unavailable."""
    consumer = kafka.consumer("headwater-end", isolation_level=isolation)
    try:
        low, high = _watermarks(consumer, topic, partition)
        consumer.assign([TopicPartition(topic, partition, max(low, high - 1))])
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            for message in consumer.consume(1000, _READ_S):
                if _stands_at_end(message, topic, partition):
                    return int(message.offset())
        raise Unavailable(f"the end of {topic}/{partition} was not reached")
    finally:
        consumer.close()


def drain(
    kafka: Kafka, topic: str, partition: int, first: int, isolation: str = "read_committed", *, until: int = 0, patience_s: float = 60.0
) -> list[Message]:
    """Every message from offset `first`, or the oldest there is, to the end of a partition, which must reach `until`.

    A reader of what is committed sees the end before the first open transaction, whosever it is: with `until` it waits for that to end,
    as long as in `patience_s` something comes. Raises Unavailable: at once where waiting cannot help (no such partition, `first` lies
    beyond its end, access refused).
    """
    consumer = kafka.consumer("headwater-drain", isolation_level=isolation)
    found: list[Message] = []
    try:
        low, high = _watermarks(consumer, topic, partition)
        # Beyond the end some brokers say nothing at all. The watermark may lie too low, so it only says when to look.
        if first > high and first > (end := end_of(kafka, topic, partition, "read_uncommitted")):
            raise Unavailable(f"{topic}/{partition} ends at {end}, before the offset {first} that is to be read from: was it made anew?")
        consumer.assign([TopicPartition(topic, partition, max(first, low))])
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            for message in consumer.consume(5000, _READ_S):
                if not _stands_at_end(message, topic, partition):
                    if message.error() is None:
                        found.append(_plain(message))
                        deadline = time.monotonic() + patience_s
                elif message.offset() >= until:
                    return found
        raise Unavailable(f"the end of {topic}/{partition} was not reached in {patience_s:g} s; a transaction may be open there")
    finally:
        consumer.close()


def _watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    except KafkaException as error:
        raise Unavailable(f"{topic}/{partition} cannot be read: {error.args[0].str()}") from None
    return low, high


def _stands_at_end(message: KafkaMessage, topic: str, partition: int) -> bool:
    """Whether a poll told the end of the partition. Raises Unavailable for what the client does not mend by itself."""
    error: KafkaError | None = message.error()
    if error is None or error.code() in _PASSING:
        return False
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    raise Unavailable(f"{topic}/{partition} cannot be read: {error.str()}")


def _plain(message: KafkaMessage) -> Message:
    stamp = message.timestamp()[1]
    return Message(message.topic(), message.partition(), message.offset(), stamp, message.key(), message.value(), message.headers() or [])
