"""The newest messages of a partition, or those from an offset on, one after another: however many there are, few are in memory."""

import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Unavailable
from headwater.lineage.event import Message

PATIENCE_S = 30.0
"""How long the broker may say nothing."""
_PASSING = frozenset((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT))


def tail(
    kafka: Kafka, topic: str, partition: int, many: int, first: int | None = None, patience_s: float = PATIENCE_S
) -> Iterator[Message]:
    """Messages in offset order to the partition's end: about the newest `many`, or all from offset `first` on. Raises Unavailable.

    Where a start lies is told by watermarks, which may lie too low: then it is a few more than `many`.
    What others have in open transactions is read too: it must not hide what lies behind it.
    """
    consumer = kafka.consumer("headwater-tail", isolation_level="read_uncommitted")
    try:
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        except KafkaException as wrong:
            raise Unavailable(f"{topic}/{partition} cannot be read: {wrong.args[0].str()}") from None
        start = max(low, high - many) if first is None else max(low, first)
        consumer.assign([TopicPartition(topic, partition, start)])
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.02):
                error = message.error()
                if error is None:
                    deadline = time.monotonic() + patience_s
                    stamp = message.timestamp()[1]
                    yield Message(topic, partition, message.offset(), stamp, message.key(), message.value(), message.headers() or [])
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    return  # it was asked for what does not lie there (any more): nothing does
                elif error.code() not in _PASSING:
                    raise Unavailable(f"{topic}/{partition} cannot be read: {error.str()}")
        raise Unavailable(f"the end of {topic}/{partition} was not reached: nothing came for {patience_s:g} s")
    finally:
        consumer.close()
