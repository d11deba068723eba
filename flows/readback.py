"""Where a link stands, asked of the target itself: which messages of a source partition can a reader there see?

Within a partition the messages of one link stand in source order, and the last hop of each says which one it is. So it is enough to
find the last of them: everything up to it is there, nothing after it is. What counts is what readers see, for the embedded broker
shows aborted messages to every reader: those must not be sent again, and on all others they must.

So that not all of a topic must be read, two marks per partition are noted at the target now and then, as offsets of two consumer groups:
`since`, where the last message of this link lay, and `forwarded`, the source offset after it. Both are facts about what was committed
and stay true however old they are, whoever noted them, and if only one of them was: reading begins with the message at `since` itself,
and `forwarded` counts only where retention has taken that message meanwhile.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.drain import end_of, oldest
from headwater.flows.kafka import Kafka, is_embedded
from headwater.flows.route import hops_of
from headwater.lineage.errors import Invalid, Unavailable

_log = structlog.get_logger("headwater.bridge")

PATIENCE_S = 90.0
"""How long a reader waits for what an open transaction of another writer hides: longer than brokers let a transaction stand open."""
_POLL_S = 0.05
ASK_S = 5.0
_PASSING = frozenset((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT))


class Mark(NamedTuple):
    """Of one partition: source messages before the offset `forwarded` are at the target, or stayed; the last of them lies at `since`."""

    forwarded: int
    since: int


class Notes:
    """The marks of one source broker's messages, kept at the target. For all lanes of a link, from any thread."""

    def __init__(self, target: Kafka, source: str) -> None:
        self._consumers = [target.consumer(f"headwater-bridge-{source}-{name}") for name in Mark._fields]

    def read(self, topic: str, partitions: int) -> dict[int, Mark]:
        """The marks that are there; 0, 0 for a partition that has none. Raises KafkaException."""
        columns = []
        for consumer in self._consumers:
            found = consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=ASK_S)
            for each in found:
                if each.error is not None:
                    raise KafkaException(each.error)
            columns.append([max(0, each.offset) for each in found])
        return {p: Mark(*both) for p, both in enumerate(zip(*columns, strict=True))}

    def write(self, topic: str, marks: Mapping[int, Mark]) -> None:
        """Note marks, without waiting. One that cannot be noted is no loss: more is read back then."""
        for consumer, column in zip(self._consumers, Mark._fields, strict=True):
            told = [TopicPartition(topic, p, getattr(mark, column)) for p, mark in marks.items()]
            try:
                consumer.commit(offsets=told, asynchronous=True)
            except (KafkaException, RuntimeError) as error:  # RuntimeError: closed meanwhile
                _log.debug("marks not noted", topic=topic, error=str(error))

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()


def read_back(kafka: Kafka, source: str, topic: str, partitions: int, marks: Mapping[int, Mark], stop: threading.Event) -> dict[int, Mark]:
    """The marks, moved on to what readers of the target see. Only after the fence: then nobody adds to it.

    Raises Unavailable, KafkaException.
    """
    firsts = {p: _first(kafka, topic, p, marks[p].since) for p in range(partitions)}
    if is_embedded(kafka.broker_id()):  # all that lies there is seen, and it may leave a transaction open for ever: wait for none
        return _marked(_scan(kafka, topic, firsts, "read_uncommitted", {}, stop), source, topic, firsts, marks)
    # Ends cannot be compared between readers: markers count for some only. So the last message must be passed by both.
    ends: dict[int, int] = {}
    for message in _scan(kafka, topic, firsts, "read_uncommitted", {}, stop):
        ends[message.partition()] = message.offset() + 1
    return _marked(_scan(kafka, topic, firsts, "read_committed", ends, stop), source, topic, firsts, marks)


def _marked(
    messages: Iterable[KafkaMessage], source: str, topic: str, firsts: Mapping[int, int], marks: Mapping[int, Mark]
) -> dict[int, Mark]:
    """The marks, moved on past these messages."""
    found = {p: Mark(marks[p].forwarded, first) for p, first in firsts.items()}
    for message in messages:
        p = message.partition()
        offset = _offset(message, source, topic)
        if offset is not None and offset >= found[p].forwarded - 1:
            found[p] = Mark(offset + 1, int(message.offset()))
    return found


def _offset(message: KafkaMessage, source: str, topic: str) -> int | None:
    """Which message of the source partition of the same number this is, if it came over this link."""
    try:
        hops = hops_of(message.headers())
    except Invalid:
        return None
    if not hops or hops[-1][:3] != (source, topic, message.partition()):
        return None
    return hops[-1].offset


def _first(kafka: Kafka, topic: str, partition: int, since: int) -> int:
    consumer = kafka.consumer("headwater-readback")
    try:
        _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ASK_S)
        low = oldest(kafka, consumer, [(topic, partition)], ASK_S)[topic, partition]
    finally:
        consumer.close()
    # Beyond the end some brokers say nothing at all. The watermark may lie too low, so it only says when to look.
    if since > high and since > (end := end_of(kafka, topic, partition, "read_uncommitted")):
        _log.warning("the target's topic was made anew", topic=topic, partition=partition, known=since, end=end)
        return low
    return max(low, since)


def _scan(
    kafka: Kafka, topic: str, firsts: Mapping[int, int], isolation: str, until: Mapping[int, int], stop: threading.Event
) -> Iterator[KafkaMessage]:
    """Every message from the first offsets on, as it comes, to the end of each partition, which must reach `until`."""
    consumer = kafka.consumer("headwater-readback", isolation_level=isolation)
    left = set(firsts)
    try:
        consumer.assign([TopicPartition(topic, p, offset) for p, offset in firsts.items()])
        deadline = time.monotonic() + PATIENCE_S
        while left:
            for message in consumer.consume(5000, _POLL_S):
                error = message.error()
                if error is None:
                    deadline = time.monotonic() + PATIENCE_S
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    if message.offset() >= until.get(message.partition(), 0):
                        left.discard(message.partition())
                elif error.code() not in _PASSING:
                    raise Unavailable(f"{topic} cannot be read back: {kafka.told(error)}")
            if stop.is_set() or (left and time.monotonic() > deadline):
                places = ", ".join(f"{topic}/{p}" for p in sorted(left))
                raise Unavailable(f"the end of {places} was not reached; a transaction may be open there")
    finally:
        consumer.close()
