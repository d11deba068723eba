"""scan: a partition read from an offset to its end, piece by piece, in bounded memory."""

import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Unavailable
from headwater.lineage.event import Message

PATIENCE_S = 60.0
_PIECE = 1000
_PASSING = frozenset((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT))


def low_of(kafka: Kafka, topic: str, partition: int) -> int:
    """The oldest offset that is still there. Raises Unavailable."""
    consumer = kafka.consumer("headwater-scan")
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[0])
    except KafkaException as error:
        raise Unavailable(f"{topic}/{partition} cannot be read: {error.args[0].str()}") from None
    finally:
        consumer.close()


def scan(kafka: Kafka, topic: str, partition: int, first: int, *, patience_s: float = PATIENCE_S) -> Iterator[Message]:
    """The committed messages from offset `first`, or the oldest there is, to the end as it then is.

    Raises Unavailable if for `patience_s` the broker tells neither a message nor the end.
    """
    start = max(first, low_of(kafka, topic, partition))
    consumer = kafka.consumer("headwater-scan", queued_max_messages_kbytes=4096)
    try:
        consumer.assign([TopicPartition(topic, partition, start)])
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            for message in consumer.consume(_PIECE, 0.05):
                error: KafkaError | None = message.error()
                if error is None:
                    deadline = time.monotonic() + patience_s
                    yield Message(
                        topic, partition, message.offset(), message.timestamp()[1], message.key(), message.value(), message.headers() or []
                    )
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.code() not in _PASSING:
                    raise Unavailable(f"{topic}/{partition} cannot be read: {error.str()}")
        raise Unavailable(f"the end of {topic}/{partition} was not reached: for {patience_s:g} s the broker told nothing")
    finally:
        consumer.close()


def messages_at(kafka: Kafka, topic: str, partition: int, offsets: set[int]) -> dict[int, Message]:
    """The messages at these offsets that are still there."""
    found: dict[int, Message] = {}
    if not offsets:
        return found
    for message in scan(kafka, topic, partition, min(offsets)):
        if message.offset in offsets:
            found[message.offset] = message
        if message.offset >= max(offsets):
            break
    return found
