"""Who owns a journal or a lane now: every owner leaves a mark in a partition, and whoever finds another's last behind its own was fenced.

A broker tells a fenced owner so, and that is the rule. But who stood still for longer than a transaction may last is told the same, be
there another owner or not; and the embedded broker tells nothing where a fenced owner asks it to end a transaction: it closes the
connection, and the client asks again, for ever. An owner that cannot know from the broker looks here before it opens anew, for opening
fences whoever is there.
"""

import time
import uuid

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Unavailable

_PIECE = 1000
_POLL_S = 0.05
_MADE_ANEW = frozenset((KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE))
"""The partition ends before the mark that lay there, so nothing lies behind it."""


class Mark:
    """The mark of one owner, from whichever of its producers.

    owned             what there is one owner of, by one name for all who may own it
    topic, partition  where the marks lie
    """

    def __init__(self, kafka: Kafka, topic: str, partition: int, owned: str) -> None:
        self._kafka, self._topic, self._partition, self._owned = kafka, topic, partition, owned.encode()
        self._owner = uuid.uuid4().hex.encode()
        self._next: int | None = None
        self._passed = False
        self.refused: KafkaError | None = None

    @property
    def lies(self) -> bool:
        """Whether it was left, as far as the broker has said."""
        return self._next is not None

    def leave(self, producer: Producer) -> None:
        """Put the mark into the producer's open transaction; once that is flushed it lies there, or `refused` says why not."""
        told = msgspec.json.encode({"entry": "opened", "owned": self._owned.decode()})
        headers = [("opened", self._owned), ("owner", self._owner)]
        self.refused = None
        producer.produce(self._topic, told, self._owned, partition=self._partition, headers=headers, on_delivery=self._left)

    def _left(self, error: KafkaError | None, message: KafkaMessage) -> None:
        self.refused = error
        if error is None:
            self._next, self._passed = message.offset() + 1, False

    def passed_by(self, patience_s: float) -> bool | None:
        """Whether the last mark behind this one is another owner's; None: it was not left, or the broker did not answer in that time.

        What was read once is not read again. Call it from one thread at a time.
        """
        if self._next is None:
            return None
        deadline = time.monotonic() + patience_s
        try:
            if self._topic not in self._kafka.topics(patience_s):  # a reader of it may be told nothing at all
                return False
        except Unavailable:
            return None
        consumer = self._kafka.consumer("headwater-owner", isolation_level="read_uncommitted")
        try:
            consumer.assign([TopicPartition(self._topic, self._partition, self._next)])
            return self._look(consumer, deadline)
        except KafkaException:
            return None
        finally:
            consumer.close()

    def _look(self, consumer: Consumer, deadline: float) -> bool | None:
        while time.monotonic() < deadline:
            for message in consumer.consume(_PIECE, _POLL_S):
                error = message.error()
                if error is None:
                    self._see(message)
                elif error.code() == KafkaError._PARTITION_EOF or error.code() in _MADE_ANEW:
                    return self._passed
        return self._passed or None  # so much else is written there that its end was not reached

    def _see(self, message: KafkaMessage) -> None:
        self._next = message.offset() + 1
        headers = dict(message.headers() or ())
        if headers.get("opened") == self._owned:
            self._passed = headers.get("owner") != self._owner
