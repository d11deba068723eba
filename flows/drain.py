"""Reading one partition outside the flows: where it begins and ends, and everything in it, piece by piece, in bounded memory."""

import time
from collections.abc import Iterable, Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.gaps import SETTLE_S
from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Unavailable
from headwater.lineage.event import Message

Place = tuple[str, int]

PATIENCE_S = 60.0
"""How long the broker may say nothing."""
ANSWER_S = 10.0
_PASSING = frozenset((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT))
"""What the client mends by itself."""
_PIECE = 5000
_READ_S = 0.02


def oldest(kafka: Kafka, consumer: Consumer, places: Iterable[Place], answer_s: float = ANSWER_S) -> dict[Place, int]:
    """The oldest offset that is there, of each partition. Raises KafkaException if the broker does not tell.

    A watermark other than 0 is not believed until the broker refuses what lies before it: of two batches that came first at the same
    moment the embedded broker keeps both, and takes the start of the second for the partition's. Who began there would miss the first.
    """
    lows = {place: int(consumer.get_watermark_offsets(TopicPartition(*place), timeout=answer_s)[0]) for place in places}
    doubtful = {place for place, low in lows.items() if low > 0}
    if not doubtful:
        return lows
    probe = kafka.consumer("headwater-oldest", isolation_level="read_uncommitted")
    try:
        probe.assign([TopicPartition(*place, 0) for place in doubtful])
        deadline = time.monotonic() + answer_s
        while doubtful:
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            for message in probe.consume(_PIECE, _READ_S):
                place, error = (message.topic(), message.partition()), message.error()
                if place in doubtful and (error is None or error.code() not in _PASSING):
                    doubtful.discard(place)
                    lows[place] = message.offset() if error is None else lows[place]
        return lows
    finally:
        probe.close()


def oldest_of(kafka: Kafka, topic: str, partition: int) -> int:
    """The oldest offset that is there in one partition. Raises Unavailable."""
    consumer = kafka.consumer("headwater-oldest")
    try:
        return oldest(kafka, consumer, [(topic, partition)])[topic, partition]
    except KafkaException as error:
        raise _unreadable(kafka, topic, partition, error.args[0]) from None
    finally:
        consumer.close()


def end_of(kafka: Kafka, topic: str, partition: int, isolation: str | None = None, *, patience_s: float = 100.0) -> int:
    """The offset after the last message, found by reading to the end: the embedded broker's watermarks are wrong. Raises Unavailable."""
    consumer = kafka.consumer("headwater-end", **_as(isolation))
    try:
        deadline = time.monotonic() + patience_s
        low, high = _watermarks(kafka, consumer, topic, partition, min(ANSWER_S, patience_s))
        consumer.assign([TopicPartition(topic, partition, max(low, high - 1))])
        while time.monotonic() < deadline:
            for message in consumer.consume(1000, _READ_S):
                if _stands_at_end(kafka, message, topic, partition):
                    return int(message.offset())
        raise Unavailable(f"the end of {topic}/{partition} was not reached")
    finally:
        consumer.close()


def scan(
    kafka: Kafka,
    topic: str,
    partition: int,
    first: int,
    isolation: str | None = None,
    *,
    until: int = 0,
    patience_s: float = PATIENCE_S,
) -> Iterator[Message]:
    """The messages from offset `first`, or the oldest there is, to the end of a partition as it then is, which must reach `until`.

    It reads as flows do (`Kafka.isolation`), unless told otherwise. A reader of what is committed sees the end before the first open
    transaction, whosever it is: with `until` it waits for that to end, as long as in `patience_s` something comes. Raises Unavailable: at
    once where waiting cannot help (no such partition, `first` lies beyond its end, access refused).
    """
    consumer = kafka.consumer("headwater-scan", **_as(isolation))
    try:
        low, high = _watermarks(kafka, consumer, topic, partition)
        # Beyond the end some brokers say nothing at all. The watermark may lie too low, so it only says when to look.
        if first > high and first > (end := end_of(kafka, topic, partition, "read_uncommitted")):
            raise Unavailable(f"{topic}/{partition} ends at {end}, before the offset {first} that is to be read from: was it made anew?")
        start = first if first >= low else max(first, oldest_of(kafka, topic, partition))
        consumer.assign([TopicPartition(topic, partition, start)])
        look = _Look(start, high, kafka.embedded())
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            told = [m for m in consumer.consume(_PIECE, _READ_S) if _stands_at_end(kafka, m, topic, partition) or m.error() is None]
            for message in told:
                if look.doubts(message.offset(), told[-1].offset()):
                    consumer.assign([TopicPartition(topic, partition, look.reached)])
                    break
                if message.error() is None:
                    look.reached = message.offset() + 1
                    deadline = time.monotonic() + patience_s
                    yield _plain(message)
                elif message.offset() >= until:
                    return
        raise Unavailable(f"the end of {topic}/{partition} was not reached in {patience_s:g} s; a transaction may be open there")
    finally:
        consumer.close()


def drain(
    kafka: Kafka, topic: str, partition: int, first: int, isolation: str | None = None, *, until: int = 0,
    patience_s: float = PATIENCE_S,
) -> list[Message]:  # fmt: skip
    """All that `scan` gives, at once. Raises Unavailable."""
    return list(scan(kafka, topic, partition, first, isolation, until=until, patience_s=patience_s))


def tail(kafka: Kafka, topic: str, partition: int, many: int, first: int | None = None) -> Iterator[Message]:
    """Messages to the partition's end: about the newest `many`, or all from offset `first` on, none if that lies beyond the end.

    Where a start lies is told by watermarks, which may lie too low: then it is a few more than `many`.
    What others have in open transactions is read too: it must not hide what lies behind it. Raises Unavailable.
    """
    consumer = kafka.consumer("headwater-tail")
    try:
        _, high = _watermarks(kafka, consumer, topic, partition)
    finally:
        consumer.close()
    start = max(0, high - many) if first is None else first
    if start > high and start > end_of(kafka, topic, partition, "read_uncommitted"):
        return
    yield from scan(kafka, topic, partition, start, "read_uncommitted")


class _Look:
    """How far a reader came, and whether the gap before an offset is believed (`flows/gaps.py`: what lies there may be stored late).

    What lay below the partition's end when reading began is settled soon after, so gaps before it wait once, those behind it each.

    reached  the offset to be read next;  end  the partition's, when reading began;  late  whether the broker stores late at all
    """

    def __init__(self, reached: int, end: int, late: bool) -> None:
        self.reached, self._sure, self._late = reached, end, late
        self._settled = time.monotonic() + SETTLE_S

    def doubts(self, offset: int, last: int) -> bool:
        """Whether to read again from `reached`, having waited, before what stands at `offset`. last: offset of the newest that came."""
        if not self._late or offset <= self.reached or (offset <= self._sure and time.monotonic() >= self._settled):
            return False
        if offset > self._sure:
            self._sure, self._settled = max(offset, last), time.monotonic() + SETTLE_S
        time.sleep(max(0.0, self._settled - time.monotonic()))
        return True


def _as(isolation: str | None) -> dict[str, str]:
    """What a consumer is told, if it is not to read as flows do."""
    return {"isolation_level": isolation} if isolation else {}


def _watermarks(kafka: Kafka, consumer: Consumer, topic: str, partition: int, answer_s: float = ANSWER_S) -> tuple[int, int]:
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=answer_s)
    except KafkaException as error:
        raise _unreadable(kafka, topic, partition, error.args[0]) from None
    return low, high


def _stands_at_end(kafka: Kafka, message: KafkaMessage, topic: str, partition: int) -> bool:
    """Whether a poll told the end of the partition. Raises Unavailable for what the client does not mend by itself."""
    error: KafkaError | None = message.error()
    if error is None or error.code() in _PASSING:
        return False
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    raise _unreadable(kafka, topic, partition, error)


def _unreadable(kafka: Kafka, topic: str, partition: int, error: KafkaError) -> Unavailable:
    return Unavailable(f"{topic}/{partition} cannot be read: {kafka.told(error)}")


def _plain(message: KafkaMessage) -> Message:
    stamp = message.timestamp()[1]
    return Message(message.topic(), message.partition(), message.offset(), stamp, message.key(), message.value(), message.headers() or [])
