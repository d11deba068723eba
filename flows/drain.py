"""Reading one partition to its end, outside the flows: where it ends, and everything in it."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Unavailable
from headwater.lineage.event import Message

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
