"""Look-ups into other topics: one reader per process keeps every `Latest` current, read to its end before any flow starts."""

import threading
from collections.abc import Sequence

import structlog
from confluent_kafka import KafkaError, TopicPartition

from headwater.enrichers.lookup import Latest
from headwater.flows.kafka import Kafka
from headwater.flows.meter import Meter
from headwater.lineage.decode import decode
from headwater.lineage.event import Message

_log = structlog.get_logger("headwater.tables")

FLOW = "tables"


class Tables:
    """Feeds the look-ups from their topics, from the beginning of what the broker keeps.

    The constructor returns when every partition was read to its end. The meter's flow `tables` tells how far they are.
    """

    def __init__(self, kafka: Kafka, broker: str, tables: Sequence[Latest], meter: Meter) -> None:
        self._broker, self._meter = broker, meter
        self._tables = list(tables)
        self._topics = {table.topic.name: table.topic for table in tables}
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        if not self._topics:
            return
        self._consumer = kafka.consumer("headwater-tables")
        places = [(topic.name, partition) for topic in self._topics.values() for partition in range(topic.partitions)]
        starts = [self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=10)[0] for place in places]
        self._consumer.assign([TopicPartition(*place, start) for place, start in zip(places, starts, strict=True)])
        self._behind = set(places)
        self._thread = threading.Thread(target=self._run, name="tables", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        while not self._stop.is_set():
            by_topic: dict[str, list[Message]] = {}
            for message in self._consumer.consume(2000, 0.02):
                error = message.error()
                if error is None:
                    place = (message.topic(), message.partition(), message.offset())
                    plain = Message(*place, message.timestamp()[1], message.key(), message.value(), message.headers() or [])
                    by_topic.setdefault(message.topic(), []).append(plain)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._behind.discard((message.topic(), message.partition()))
                else:
                    _log.warning("broker", error=error.str())
            for name, messages in by_topic.items():
                self._feed(name, messages)
            if not self._behind:
                self._ready.set()
        self._consumer.close()

    def _feed(self, name: str, messages: list[Message]) -> None:
        """What cannot be decoded is not for us to bury: the flow that reads the topic does."""
        received, _ = decode(self._topics[name], self._broker, messages)
        for table in self._tables:
            if table.topic.name == name:
                table.feed([each for each in received if not each.is_mark])
        for message in messages:
            self._meter.reached(FLOW, name, message.partition, message.offset + 1)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
