"""The Kafka sink: idempotent, every delivery acknowledged or raised, before the epoch that wrote it can close."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from headwater.flows.kafka import Kafka
from headwater.lineage.errors import HeadwaterError, Oversized, Unavailable
from headwater.lineage.event import Event, Position, to_binary

_log = structlog.get_logger("headwater.sink")

Delivered = Callable[[KafkaError | None, KafkaMessage], None]
PATIENCE_S = 5.0
"""How long a broker that does not answer is waited for once the flow was told to stop."""
LOOK_S = 0.01
"""How long the client waits until it is looked whether all that is waited for is acknowledged: it would wait for what others send too."""
UNDERWAY = 16_000_000
"""Bytes that one sender may have on their way."""


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
        self._broker, self._kafka = broker, kafka
        self._told = told
        self._stop = stop or threading.Event()

    def write(self, messages: Iterable[Outgoing]) -> list[Position]:
        """Their positions, in the order given. Raises Oversized, before anything is produced if the client can tell, and Unavailable."""
        given = list(messages)
        self.measure(given)
        report = _Report(self)
        count = len(given)
        for number, message in enumerate(given):
            self.produce(message, report.slot(number))
        self.wait(lambda: report.pending(count))
        positions = report.positions(count)
        self.tell(positions)
        return positions

    def measure(self, messages: Sequence[Outgoing]) -> None:
        """Raises Oversized for one that is larger than we send."""
        for message in messages:
            if message.size > self.largest:
                raise _oversized(f"{message.size} bytes with key and headers for {message.topic}; at most {self.largest}")

    def tell(self, positions: Sequence[Position]) -> None:
        """These are acknowledged."""
        if self._told is not None and positions:
            self._told(positions)

    def wait(self, pending: Callable[[], int]) -> None:
        """Until nothing is pending, for as long as it takes. Raises Unavailable when told to stop meanwhile, and what `pending` raises."""
        waited = 0.0
        while pending():
            self._producer.flush(LOOK_S)
            waited += LOOK_S
            if self._stop.is_set() and waited > PATIENCE_S and (left := pending()):
                raise Unavailable(f"{left} messages are not acknowledged by the broker, and the flow was told to stop")

    def produce(self, message: Outgoing, on_delivery: Delivered) -> None:
        """Hand a message to the client; `on_delivery` is called by whichever thread next waits for the broker. Raises Oversized."""
        more: dict[str, Any] = {} if message.partition < 0 else {"partition": message.partition}
        waited = 0.0
        while True:
            try:
                self._producer.produce(
                    message.topic, message.value, message.key, headers=message.headers or None, on_delivery=on_delivery, **more
                )
                return
            except BufferError:  # the client's queue is full: let the broker catch up
                self._producer.poll(0.1)
                waited += 0.1
                if self._stop.is_set() and waited > PATIENCE_S:
                    raise Unavailable("the client's queue is full, the broker takes nothing, and the flow was told to stop") from None
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise
                raise _oversized(f"{message.size} bytes with key and headers for {message.topic}") from None

    def position(self, message: KafkaMessage) -> Position:
        """Where an acknowledged message lies."""
        return Position(self._broker, message.topic(), message.partition(), message.offset())

    def refused(self, error: KafkaError, message: KafkaMessage) -> HeadwaterError:
        """What a message that was not taken means to its sender."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return _oversized(f"the broker takes no message of this size on {message.topic()}")
        return Unavailable(f"the broker refused a message on {message.topic()}: {self._kafka.told(error)}")

    def close(self) -> None:
        self._producer.flush(5)


class Sending:
    """Messages of one sender that need not be waited for one by one: sent at once, settled together. Of one thread; not to be shared.

    At most `most` bytes are on their way; beyond that `send` waits, as it does while the client's queue is full: that is the back-pressure.
    A delivery that failed is raised by the next `send` or `settle`, and by every one after it.
    """

    def __init__(self, writer: Writer, most: int = UNDERWAY) -> None:
        self._writer, self._most = writer, most
        self._sent = 0
        self._delivered: deque[tuple[int, Position | HeadwaterError]] = deque()
        self._underway = 0
        self._error: HeadwaterError | None = None

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Hand messages to the client, in this order. Raises Oversized before anything is produced if it can tell, and Unavailable."""
        self._writer.measure(messages)
        for message in messages:
            if self._sent and self._underway + message.size > self._most:
                self._collect()
                if self._underway + message.size > self._most:
                    self.settle()
            self._sent += 1
            self._underway += message.size
            self._writer.produce(message, partial(self._deliver, message.size))
        self._collect()

    def settle(self) -> None:
        """Wait until everything sent is acknowledged. Raises Unavailable: a delivery failed, or the flow was told to stop meanwhile."""
        self._writer.wait(self._collect)

    def _deliver(self, size: int, error: KafkaError | None, message: KafkaMessage) -> None:
        """In whatever thread the client calls us: only put down here, counted in our own."""
        self._delivered.append((size, self._writer.position(message) if error is None else self._writer.refused(error, message)))

    def _collect(self) -> int:
        """Count what came back; gives how many are still on their way."""
        positions: list[Position] = []
        while self._delivered:
            size, found = self._delivered.popleft()
            self._sent -= 1
            self._underway -= size
            if isinstance(found, Position):
                positions.append(found)
            else:
                self._error = self._error or found
        self._writer.tell(positions)
        if self._error is not None:
            raise self._error
        return self._sent


class _Report:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._done: dict[int, Position] = {}
        self._error: HeadwaterError | None = None

    def slot(self, index: int) -> Delivered:
        def delivered(error: KafkaError | None, message: KafkaMessage) -> None:
            if error is not None:
                self._error = self._writer.refused(error, message)
            else:
                self._done[index] = self._writer.position(message)

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
