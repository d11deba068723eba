"""The Kafka sink: idempotent, every delivery acknowledged or raised, before the epoch that wrote it can close."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import structlog
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from headwater.flows.kafka import Kafka
from headwater.lineage.errors import HeadwaterError, Oversized, Unavailable
from headwater.lineage.event import Event, Position, to_binary

_log = structlog.get_logger("headwater.sink")


class Outgoing(NamedTuple):
    """A message to be written; partition -1 lets the key choose."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int = -1

    @property
    def size(self) -> int:
        """Bytes on the wire, at most: the protocol's own for the message and for each header included."""
        headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + 100


def outgoing(topic: str, event: Event, key: str | None = None, partition: int = -1) -> Outgoing:
    """An event as a message in binary content mode; without a key the event id is the key."""
    headers, value = to_binary(event)
    return Outgoing(topic, (key if key is not None else event.id).encode(), value, headers, partition)


class Writer:
    """Writes messages and waits for the broker's acknowledgement of each. Thread-safe.

    `told` hears of every acknowledged position.
    While the broker does not answer, `write` waits (that is the back-pressure); when `stop` is set meanwhile, it raises.
    """

    def __init__(
        self,
        kafka: Kafka,
        broker: str,
        stop: threading.Event | None = None,
        producer: Producer | None = None,
        told: Callable[[Sequence[Position]], None] | None = None,
    ) -> None:
        self._producer = producer or kafka.producer()
        self.largest = kafka.largest
        self._broker = broker
        self._told = told
        self._stop = stop or threading.Event()

    def write(self, messages: Iterable[Outgoing]) -> list[Position]:
        """Their positions, in the order given. Raises Oversized, before anything is produced if the client can tell, and Unavailable."""
        given = list(messages)
        for message in given:
            if message.size > self.largest:
                raise _oversized(f"{message.size} bytes with key and headers for {message.topic}; at most {self.largest}")
        report = _Report(self._broker)
        count = len(given)
        for number, message in enumerate(given):
            self._produce(message, report.slot(number))
        waited = 0.0
        while report.pending(count):
            self._producer.flush(0.2)
            waited += 0.2
            if self._stop.is_set() and waited > 5 and report.pending(count):
                raise Unavailable(
                    f"{report.pending(count)} of {count} messages are not acknowledged by the broker, and the flow was told to stop"
                )
        positions = report.positions(count)
        if self._told is not None:
            self._told(positions)
        return positions

    def _produce(self, message: Outgoing, on_delivery: Callable[[KafkaError | None, KafkaMessage], None]) -> None:
        more: dict[str, Any] = {} if message.partition < 0 else {"partition": message.partition}
        while True:
            try:
                self._producer.produce(
                    message.topic, message.value, message.key, headers=message.headers or None, on_delivery=on_delivery, **more
                )
                return
            except BufferError:  # the client's queue is full: let the broker catch up
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise
                raise _oversized(f"{message.size} bytes with key and headers for {message.topic}") from None

    def close(self) -> None:
        self._producer.flush(5)


class _Report:
    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._done: dict[int, Position] = {}
        self._error: HeadwaterError | None = None

    def slot(self, index: int) -> Callable[[KafkaError | None, KafkaMessage], None]:
        def delivered(error: KafkaError | None, message: KafkaMessage) -> None:
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._error = _oversized(f"the broker takes no message of this size on {message.topic()}")
            elif error is not None:
                self._error = Unavailable(f"the broker refused a message on {message.topic()}: {error.str()}")
            else:
                self._done[index] = Position(self._broker, message.topic(), message.partition(), message.offset())

        return delivered

    def pending(self, count: int) -> int:
        if self._error is not None:
            raise self._error
        return count - len(self._done)

    def positions(self, count: int) -> list[Position]:
        return [self._done[index] for index in range(count)]


def _oversized(what: str) -> Oversized:
    return Oversized(f"{what}; send less at once, or raise the limit (HEADWATER_KAFKA__MESSAGE_MAX_BYTES, max.message.bytes of the topic)")


class TopicSink(DynamicSink[Outgoing]):
    """The Writer as a Bytewax sink; `written` is told every acknowledged position."""

    def __init__(self, writer: Writer, written: Callable[[list[Position]], None] | None = None) -> None:
        self._writer = writer
        self._written = written

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Partition":
        return _Partition(self._writer, self._written)


class _Partition(StatelessSinkPartition[Outgoing]):
    def __init__(self, writer: Writer, written: Callable[[list[Position]], None] | None) -> None:
        self._writer = writer
        self._written = written

    def write_batch(self, items: list[Outgoing]) -> None:
        positions = self._writer.write(items)
        if self._written is not None:
            self._written(positions)
