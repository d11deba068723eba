"""Look-ups into other topics: one reader per process keeps every `Latest` current, read to its end before any flow starts."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from confluent_kafka import KafkaError, TopicPartition

from headwater.enrichers.latest import Latest
from headwater.flows.drain import Place, oldest
from headwater.flows.gaps import SETTLE_S, Doubt
from headwater.flows.kafka import Kafka, is_embedded
from headwater.flows.meter import Meter
from headwater.lineage.decode import decode
from headwater.lineage.errors import HeadwaterError, Unavailable
from headwater.lineage.event import Message, Position, from_binary

_log = structlog.get_logger("headwater.tables")

FLOW = "tables"
PATIENCE_S = 60.0
"""How long a start waits for the look-up topics to be read to their ends."""


class Tables:
    """Feeds the look-ups from their topics, from the beginning of what the broker keeps.

    The constructor returns when every partition was read to its end. The meter's flow `tables` tells how far they are.

    failed      told the error if reading ends by one later on; from then on the look-ups learn nothing
    patience_s  how long the constructor waits
    partitions  topic → how many there are, where it is not as declared

    Raises Unavailable: the topics could not be read to their ends.
    """

    def __init__(
        self, kafka: Kafka, broker: str, tables: Sequence[Latest], meter: Meter,
        failed: Callable[[BaseException], None] | None = None, patience_s: float = PATIENCE_S,
        partitions: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self._kafka, self._broker, self._meter = kafka, broker, meter
        self._tables = list(tables)
        self._topics = {table.topic.name: table.topic for table in tables}
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed = failed
        self._failure: BaseException | None = None
        self._reached: dict[Place, int] = {}
        self._doubts: dict[Place, tuple[int, Doubt]] = {}
        self._seen: dict[Place, int] = {}
        self._sure: dict[Place, int] = {}
        if not self._topics:
            return
        self._consumer = kafka.consumer("headwater-tables")
        counts = {name: (partitions or {}).get(name, topic.partitions) for name, topic in self._topics.items()}
        places = [(name, partition) for name, count in counts.items() for partition in range(count)]
        starts = oldest(kafka, self._consumer, places)
        self._consumer.assign([TopicPartition(*place, start) for place, start in starts.items()])
        self._behind = set(places)
        self._reached, self._seen = dict(starts), dict(starts)
        self._thread = threading.Thread(target=self._run, name="tables", daemon=True)
        self._thread.start()
        self._await_ready(patience_s)

    def positions(self) -> dict[Place, int]:
        """(topic, partition) → the offset up to which the look-ups have taken everything in."""
        return dict(self._reached)

    def _await_ready(self, patience_s: float) -> None:
        ready = self._ready.wait(patience_s)
        if ready and self._failure is None:
            return
        self.close()
        names = ", ".join(sorted({topic for topic, _ in self._behind})) or ", ".join(sorted(self._topics))
        if self._failure is not None:
            raise Unavailable(f"the look-up topics {names} could not be read: {self._failure}") from self._failure
        raise Unavailable(f"the look-up topics {names} were not read to their ends within {patience_s:g} s; does the broker answer?")

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:
            _log.error("look-ups are no longer kept current", topics=sorted(self._topics), error=repr(error))
            self._failure = error
            if self._ready.is_set() and self._failed is not None:
                self._failed(error)
            self._ready.set()
        finally:
            self._consumer.close()

    def _read(self) -> None:
        doubting = is_embedded(self._broker)
        while not self._stop.is_set():
            self._look_again()
            by_topic: dict[str, list[Message]] = {}
            for message in self._consumer.consume(2000, 0.02):
                error = message.error()
                if doubting and (error is None or error.code() == KafkaError._PARTITION_EOF):
                    self._doubt((message.topic(), message.partition()), message.offset(), error is None)
                if error is None:
                    place = (message.topic(), message.partition(), message.offset())
                    plain = Message(*place, message.timestamp()[1], message.key(), message.value(), message.headers() or [])
                    by_topic.setdefault(message.topic(), []).append(plain)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._behind.discard((message.topic(), message.partition()))
                else:
                    _log.warning("broker", error=self._kafka.told(error))
            for name, messages in by_topic.items():
                self._feed(name, messages)
            if not self._behind:
                self._ready.set()

    def _doubt(self, place: Place, offset: int, taken: bool) -> None:
        """Note a gap before this offset (`gaps`), to be read again; what was fed already may be fed a second time."""
        seen, until = self._seen[place], offset + taken
        if place not in self._doubts and offset > seen and until > self._sure.get(place, 0):
            self._doubts[place] = seen, Doubt(until, time.monotonic() + SETTLE_S)
        self._seen[place] = max(seen, until)

    def _look_again(self) -> None:
        now = time.monotonic()
        for place, (offset, doubt) in [*self._doubts.items()]:
            if now >= doubt.due:
                del self._doubts[place]
                self._seen[place], self._sure[place] = offset, doubt.until
                self._consumer.seek(TopicPartition(*place, offset))

    def _feed(self, name: str, messages: list[Message]) -> None:
        """What cannot be decoded is not for us to bury: the flow that reads the topic does."""
        topic = self._topics[name]
        received, _ = decode(topic, self._broker, [message for message in messages if message.value is not None])
        for table in self._tables:
            if table.topic.name == name:
                table.feed([each for each in received if not each.is_mark])
                if table.key == topic.key:
                    self._forget(table, [message for message in messages if message.value is None])
        for message in messages:
            place = (name, message.partition)
            self._reached[place] = max(self._reached.get(place, 0), message.offset + 1)
            self._meter.reached(FLOW, name, message.partition, message.offset + 1)

    def _forget(self, table: Latest, tombstones: list[Message]) -> None:
        """A message without value says that nothing is known of its key any more."""
        for message in tombstones:
            position = Position(self._broker, message.topic, message.partition, message.offset)
            try:
                time = from_binary(message.headers, None, topic=message.topic, appended=message.timestamp * 1000).time
            except HeadwaterError:  # without an id, as most tombstones are
                time = message.timestamp * 1000
            table.forget((message.key or b"").decode("utf-8", "replace"), time, str(position), position.short)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
