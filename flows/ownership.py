"""Who owns a journal now: every owner leaves a mark in its partition, and whoever finds another's mark behind its own was fenced by it.

A broker tells a fenced owner so, and that is the rule. The embedded broker does not where the owner asks it to end a transaction: it
closes the connection, and the client asks again, for ever. There an owner whose commit stays without an answer looks here.
"""

import time
from collections.abc import Mapping

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.kafka import Kafka
from headwater.lineage.topic import DECISIONS

_PIECE = 1000
_POLL_S = 0.05


class Mark:
    """The mark of one owner of an agent's journal in one partition."""

    def __init__(self, kafka: Kafka, agent: str, partition: int) -> None:
        self._kafka, self._agent, self._partition = kafka, agent.encode(), partition
        self._next: int | None = None

    def leave(self, producer: Producer) -> None:
        """Put the mark into the producer's open transaction; it lies there once that is flushed."""
        told = msgspec.json.encode({"entry": "opened", "agent": self._agent.decode()})
        headers = [("opened", self._agent)]
        producer.produce(DECISIONS, told, self._agent, partition=self._partition, headers=headers, on_delivery=self._left)

    def _left(self, error: KafkaError | None, message: KafkaMessage) -> None:
        if error is None:
            self._next = message.offset() + 1

    def passed_by(self, patience_s: float) -> bool | None:
        """Whether a newer owner's mark lies behind this one; None: the broker did not answer in that time.

        What was read once is not read again. Call it from one thread at a time.
        """
        if self._next is None:
            return None
        consumer = self._kafka.consumer("headwater-owner", isolation_level="read_uncommitted")
        try:
            consumer.assign([TopicPartition(DECISIONS, self._partition, self._next)])
            return self._look(consumer, time.monotonic() + patience_s)
        except KafkaException:
            return None
        finally:
            consumer.close()

    def _look(self, consumer: Consumer, deadline: float) -> bool | None:
        while time.monotonic() < deadline:
            for message in consumer.consume(_PIECE, _POLL_S):
                error = message.error()
                if error is None:
                    if _opener(message) == self._agent:
                        return True
                    self._next = message.offset() + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    return False
        return None


def _opener(message: KafkaMessage) -> bytes | None:
    headers: Mapping[str, bytes] = dict(message.headers() or ())
    return headers.get("opened")
