"""Reading a stretch of a partition again, for look-ups into what came before an event (`Recent`)."""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from headwater.enrichers.recent import Recent
from headwater.flows.drain import oldest_of
from headwater.flows.kafka import Kafka
from headwater.lineage.decode import Received, decode
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Message
from headwater.lineage.topic import Topic

PATIENCE_S = 20.0
"""How long the broker may say nothing."""
_PIECE = 1000
_READ_S = 0.02
_PASSING = frozenset((KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT))


def recents(topics: Mapping[str, Topic[Any]]) -> Iterator[tuple[Topic[Any], Recent]]:
    """Every `Recent` of these topics. Raises Misused for one whose events may lie in several partitions, where none is before another."""
    for topic in topics.values():
        for name, enricher in topic.enrich.items():
            if not isinstance(enricher, Recent):
                continue
            if enricher.by != topic.key and topic.partitions > 1:
                keyed = f"its key is {topic.key!r}" if topic.key else "it has no key"
                raise Misused(f"topic {topic.name}: {name} looks back by {enricher.by!r}, but {keyed}, and there are several partitions")
            yield topic, enricher


class Stretches:
    """Reads stretches of the topics' partitions, one at a time; the constructor hands this to every `Recent`."""

    def __init__(self, kafka: Kafka, broker: str, topics: Mapping[str, Topic[Any]], patience_s: float = PATIENCE_S) -> None:
        self._kafka, self._broker, self._topics, self._patience_s = kafka, broker, topics, patience_s
        self._lock = threading.Lock()
        self._consumer: Consumer | None = None
        for _, recent in recents(topics):
            recent.read = self.read

    def read(self, topic: str, partition: int, first: int, until: int) -> list[Received]:
        """The events at the offsets [first, until), as far as the broker keeps them and they can be decoded. Raises Unavailable."""
        with self._lock:
            if self._consumer is None:
                self._consumer = self._kafka.consumer("headwater-earlier", queued_min_messages=_PIECE)
            try:
                messages = self._messages(self._consumer, topic, partition, first, until)
            finally:
                self._consumer.unassign()
        received, _ = decode(self._topics[topic], self._broker, messages)
        return [one for one in received if not one.is_mark]

    def close(self) -> None:
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
            self._consumer = None

    def _messages(self, consumer: Consumer, topic: str, partition: int, first: int, until: int) -> list[Message]:
        consumer.assign([TopicPartition(topic, partition, first)])
        found: list[Message] = []
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            for message in consumer.consume(_PIECE, _READ_S):
                error = message.error()
                if error is None:
                    if message.offset() < until:
                        place = (topic, partition, message.offset())
                        found.append(Message(*place, message.timestamp()[1], message.key(), message.value(), message.headers() or []))
                        deadline = time.monotonic() + self._patience_s
                    if message.offset() >= until - 1:
                        return found
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # retention took the beginning
                    oldest = oldest_of(self._kafka, topic, partition)
                    if oldest >= until or oldest <= first:
                        return found
                    first = oldest
                    consumer.assign([TopicPartition(topic, partition, first)])
                elif error.code() not in _PASSING:
                    raise Unavailable(f"{topic}/{partition} cannot be read again: {self._kafka.told(error)}")
        raise Unavailable(f"{topic}/{partition} was not read again up to {until} in {self._patience_s:g} s; does the broker answer?")
