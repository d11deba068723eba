"""Where a link stands, asked of the target itself: which messages of a source partition can a reader there see?

Two marks per partition lie at the target as the offsets of two consumer groups. They are written in the very transactions that carry the
messages, so they hold what was committed and nothing else: `forwarded`, the source offset to go on at, and `since`, the target
offset after the last message of that transaction. On a broker that hides aborted messages they alone would do. Some brokers show
aborted messages to every reader; what a reader sees must not be sent again, so all from `since` on is read back, as readers read it,
and the last hop of each message says which one it is.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.kafka import Kafka
from headwater.flows.route import hops_of
from headwater.flows.source import end_of
from headwater.lineage.errors import Invalid, Unavailable

_log = structlog.get_logger("headwater.bridge")

PATIENCE_S = 90.0
"""How long a reader waits for what an open transaction of another writer hides: longer than brokers let a transaction stand open."""
_POLL_S = 0.05
_ASK_S = 10.0
_PASSING = frozenset((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT))


class Mark(NamedTuple):
    """Of one partition: source messages before the offset `forwarded` are at the target, or stayed; all later ones lie from `since` on."""

    forwarded: int
    since: int


class Groups:
    """The two consumer groups that hold the marks of one source broker; their names hold for every bridge between the two brokers."""

    def __init__(self, kafka: Kafka, source: str) -> None:
        self._kafka, self._names = kafka, (f"headwater-bridge-{source}-forwarded", f"headwater-bridge-{source}-since")

    def members(self) -> list[Any]:
        """What a transaction must be told to write the marks, in the order of a Mark's fields."""
        found = []
        for name in self._names:
            consumer = self._kafka.consumer(name)
            found.append(consumer.consumer_group_metadata())
            consumer.close()
        return found

    def marks(self, topic: str, partitions: int) -> dict[int, Mark]:
        """The marks that are there; none for a partition: 0, 0. Raises KafkaException."""
        columns = []
        for name in self._names:
            consumer = self._kafka.consumer(name)
            try:
                found = consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=_ASK_S)
            finally:
                consumer.close()
            for each in found:
                if each.error is not None:
                    raise KafkaException(each.error)
            columns.append([max(0, each.offset) for each in found])
        return {p: Mark(*both) for p, both in enumerate(zip(*columns, strict=True))}


def read_back(kafka: Kafka, source: str, topic: str, partitions: int, marks: Mapping[int, Mark], stop: threading.Event) -> dict[int, Mark]:
    """The marks, moved on over what readers of the target see beyond them. Only after the fence: then nobody adds to it.

    Raises Unavailable, KafkaException.
    """
    firsts = {p: _first(kafka, topic, p, marks[p].since) for p in range(partitions)}
    # Ends cannot be compared between readers: markers count for some only. So the last message must be seen by both.
    ends = {p: 0 for p in firsts}
    for message in _scan(kafka, topic, firsts, "read_uncommitted", {}, stop):
        ends[message.partition()] = message.offset() + 1
    found = {p: Mark(marks[p].forwarded, max(first, ends[p])) for p, first in firsts.items()}
    for message in _scan(kafka, topic, firsts, "read_committed", ends, stop):
        p = message.partition()
        offset = _offset(message, source, topic)
        if offset is not None and offset >= found[p].forwarded:
            found[p] = found[p]._replace(forwarded=offset + 1)
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
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_ASK_S)
    finally:
        consumer.close()
    # Beyond the end some brokers say nothing at all. The watermark may lie too low, so it only says when to look.
    if since > high and since > (end := end_of(kafka, topic, partition, "read_uncommitted")):
        _log.warning("the target's topic was made anew", topic=topic, partition=partition, known=since, end=end)
        return int(low)
    return int(max(low, since))


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
                    raise Unavailable(f"{topic} cannot be read back: {error.str()}")
            if stop.is_set() or (left and time.monotonic() > deadline):
                places = ", ".join(f"{topic}/{p}" for p in sorted(left))
                raise Unavailable(f"the end of {places} was not reached; a transaction may be open there")
    finally:
        consumer.close()
