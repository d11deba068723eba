"""The gateway: what comes from outside becomes CloudEvents on a topic; no acknowledgement before the broker's.

Every way in (HTTP, webhooks, dropped files, schedules, polling) ends here, so that all events have one shape: an origin, a priority,
an id that is taken once. An event is checked against its topic's model before it is produced: the sender is told at once, where a
consumer could only dead-letter it.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from headwater.flows.drain import tail
from headwater.flows.kafka import Kafka
from headwater.flows.seen import WINDOW, Seen
from headwater.flows.sink import Writer, outgoing
from headwater.flows.telemetry import Telemetry
from headwater.lineage.duration import duration
from headwater.lineage.errors import HeadwaterError, Invalid, NotFound, Oversized, Unavailable, Undecodable
from headwater.lineage.event import JSON, STRUCTURED, Event, Position, from_binary, from_structured, spoken
from headwater.lineage.select import NORMAL, ORIGIN, PRIORITIES, PRIORITY
from headwater.lineage.topic import INTERNAL, Topic
from headwater.lineage.traceparent import context_of

BATCH = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"
LARGEST = 16_000_000
HTTP = "http"
"""The origin of what is published over HTTP."""
HOUR = duration("1h")
AHEAD = HOUR
"""How far an event's time may lie ahead of the clock: beyond it, it would make every other event of its partition late for the rules."""


class Accepted(NamedTuple):
    """One event and its place."""

    event: Event
    position: Position


class Gateway:
    """Normalises and produces. `ids` and `clock` (µs) are injected; `ahead` is how far beyond the clock an event's time may lie, in µs.

    Names under `headwater.` are not for what comes from outside: neither topics nor event types (a time mark would end a partition's hour).
    Our own topics are published to by us alone, with the topic itself in hand (the watched files), and what we say there is not questioned.

    An id counts once per topic, within the `window` newest: published again it gives the first one's position and produces nothing.
    """

    def __init__(
        self,
        topics: Mapping[str, Topic[Any]],
        writer: Writer,
        clock: Callable[[], int],
        ids: Callable[[], str] | None = None,
        ahead: int = AHEAD,
        largest: int = LARGEST,
        window: int = WINDOW,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._topics = {name: topic for name, topic in topics.items() if not name.startswith(INTERNAL)}
        self._ahead = ahead
        self._writer = writer
        self._clock = clock
        self.new_id = ids or (lambda: str(uuid.uuid4()))
        self.largest = largest
        self._seen = {name: Seen(name, window) for name in self._topics}
        self._window, self._telemetry = window, telemetry
        self._next: dict[tuple[str, int], int] = {}
        self._closed = threading.Event()

    def remember(self, kafka: Kafka, broker: str, topic: Topic[Any]) -> None:
        """Learn the ids of a topic's newest events, or of those that came since it was last asked. Raises Unavailable."""
        for partition in range(topic.partitions):
            place = (topic.name, partition)
            for message in tail(kafka, *place, self._window, self._next.get(place)):
                self._next[place] = message.offset + 1
                try:
                    event = from_binary(message.headers, message.value, topic=topic.name, appended=message.timestamp * 1000)
                except HeadwaterError:
                    continue  # no event, no id
                self._seen[topic.name].learn([(event, Position(broker, *place, message.offset))])

    def close(self) -> None:
        """Take nothing more: what is asked from now on is refused as Unavailable."""
        self._closed.set()

    def topic(self, name: str) -> Topic[Any]:
        if name not in self._topics:
            raise NotFound(f"no topic {name!r}; the application declares {', '.join(sorted(self._topics)) or 'none'}")
        return self._topics[name]

    def publish(
        self, topic: Topic[Any], events: list[Event], origin: str = HTTP, priority: str = NORMAL, *, once: bool = True
    ) -> list[Accepted]:
        """Produce events and wait for the broker.

        Raises Undecodable, Invalid, Oversized, Conflict, before anything is produced, and Unavailable.

        origin    the gateway they came by;  priority  of those that do not say their own
        once      whether ids are looked up and remembered; a sender that keeps count itself does without
        """
        self.goes_on()
        ours = topic.name.startswith(INTERNAL)
        keyed = [(event, topic.key_of(self._checked(topic, event, n, len(events)))) for n, event in enumerate(events, 1)]
        if not ours:
            keyed = [(tagged(event, origin, priority), key) for event, key in keyed]

        traced = self._telemetry if not ours else None
        if traced is not None:
            keyed = [(traced.begun(topic.name, event), key) for event, key in keyed]

        def produce(numbers: list[int]) -> list[Position]:
            started = self._clock()
            positions = self._writer.write(outgoing(topic.name, *keyed[number]) for number in numbers)
            if traced is not None:
                traced.published(topic.name, [events[n] for n in numbers], [keyed[n][0] for n in numbers], positions, started)
            return positions

        seen = self._seen.get(topic.name) if once and not ours else None
        positions = produce(list(range(len(keyed)))) if seen is None else seen.once(events, produce)
        return [Accepted(event, position) for (event, _), position in zip(keyed, positions, strict=True)]

    def goes_on(self) -> None:
        """Raises Unavailable when it is closed: what waits for its turn need not wait for it."""
        if self._closed.is_set():
            raise Unavailable("headwater is stopping; send it again when it runs", retry_after=5)

    def refusal(self, topic: Topic[Any], event: Event) -> HeadwaterError | None:
        """Why an event would not be published, if so."""
        try:
            self._checked(topic, event, 1, 1)
        except HeadwaterError as error:
            return error
        return None

    def events(self, topic: Topic[Any], body: bytes, content_type: str = JSON, headers: Mapping[str, str] | None = None) -> list[Event]:
        """The events of a body: JSON data (an object, or an array of them), NDJSON, or CloudEvents (structured, batch, binary)."""
        if len(body) > self.largest:
            raise Oversized(f"{len(body)} bytes in one request; at most {self.largest}: send several, or lines of JSON as {NDJSON}")
        kind = media(content_type)
        now = self._clock()
        return in_trace(self._events(topic, body, kind, headers or {}, now), headers or {})

    def _events(self, topic: Topic[Any], body: bytes, kind: str, headers: Mapping[str, str], now: int) -> list[Event]:
        if kind == STRUCTURED:
            return [from_structured(body, now=now)]
        if kind == BATCH:
            return [from_structured(bytes(raw), now=now + n) for n, raw in enumerate(_array(body))]
        attributes = ce_headers(headers)
        key, priority = idempotency_key(headers), attributes.get(PRIORITY)
        if kind == NDJSON:
            lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
            return self.lines(topic, lines, key, priority)
        if "id" in attributes:
            spoken(attributes.get("specversion", "1.0"))
            binary = [(f"ce_{name}", value) for name, value in attributes.items()]
            return [from_binary([*binary, ("content-type", JSON)], body, topic=topic.name, appended=now)]
        if body.lstrip().startswith(b"["):
            return self._plain(topic, [bytes(raw) for raw in _array(body)], now, key, priority)
        return self._plain(topic, [body] if body.strip() else [], now, key, priority)

    def lines(self, topic: Topic[Any], lines: list[tuple[int, bytes]], key: str | None = None, priority: str | None = None) -> list[Event]:
        """The events of a stream's lines, given with their numbers; `key` (an Idempotency-Key) and the number make their ids."""
        return self._plain(topic, [line for _, line in lines], self._clock(), key, priority, [number for number, _ in lines])

    def _plain(
        self, topic: Topic[Any], data: list[bytes], now: int, key: str | None = None, priority: str | None = None,
        numbers: list[int] | None = None,
    ) -> list[Event]:  # fmt: skip
        """What came together keeps its order: a microsecond apart, for equal times are put in order by id, and these ids are random."""
        source = "headwater/gateway"
        more = {} if priority is None else {PRIORITY: priority}
        if key is None:
            ids = [self.new_id() for _ in data]
        elif numbers is None and len(data) == 1:
            ids = [key]
        else:
            ids = [f"{key}/{number}" for number in numbers or range(1, len(data) + 1)]
        return [
            Event(id=id, source=source, type=topic.name, time=now + n, data=each, extensions=more)
            for n, (id, each) in enumerate(zip(ids, data, strict=True))
        ]

    def _checked(self, topic: Topic[Any], event: Event, number: int, many: int) -> Any:
        """The event's model; what is wrong with it is told with its place in the request."""
        try:
            if not topic.name.startswith(INTERNAL):
                self._admit(event)
            return topic.decode(event.data)
        except HeadwaterError as error:
            place = f"event {number} of {many} for {topic.name}" if many > 1 else f"the event for {topic.name}"
            raise type(error)(f"{place}: {error}", **error.details, **({"event": number} if many > 1 else {})) from None

    def _admit(self, event: Event) -> None:
        """Whether something from outside may say this at all."""
        if event.type.startswith(INTERNAL):
            raise Invalid(f"type {event.type!r}: types under {INTERNAL} are headwater's own; use another")
        if (stated := event.extensions.get(PRIORITY) or NORMAL) not in PRIORITIES:
            raise Invalid(f"priority {stated!r} is none of {', '.join(PRIORITIES)}")
        if (error := too_far_ahead(event, self._clock(), self._ahead)) is not None:
            raise error


def too_far_ahead(event: Event, now: int, ahead: int) -> Invalid | None:
    """What is wrong with an event whose time lies more than `ahead` µs beyond the clock, if it does."""
    if event.time - now <= ahead:
        return None
    return Invalid(
        f"its time lies {(event.time - now) / HOUR:.1f} h ahead of the clock, and at most {ahead / HOUR:g} h is taken; "
        "set the sender's clock, or give the time at which it happened"
    )


def _array(body: bytes) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise Undecodable(f"not a JSON array: {error}") from None


def media(content_type: str) -> str:
    """A media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def ce_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The CloudEvents attributes of HTTP headers; the HTTP binding percent-encodes what headers cannot carry."""
    return {name[3:].lower(): unquote(value) for name, value in headers.items() if name.lower().startswith("ce-")}


def in_trace(events: list[Event], headers: Mapping[str, str]) -> list[Event]:
    """The events in the trace of the request they came by, if it names one; those that name their own keep it."""
    given = next((value for name, value in headers.items() if name.lower() == "traceparent"), None)
    if context_of(given) is None:  # none, or malformed
        return events
    return [event if event.traceparent else msgspec.structs.replace(event, traceparent=given) for event in events]


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """What the sender calls this request, so that it may send it twice. Raises Invalid."""
    key = next((value for name, value in headers.items() if name.lower() == "idempotency-key"), None)
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise Invalid("Idempotency-Key: give 1 to 200 printable characters, such as a UUID")
    return key


def tagged(event: Event, origin: str, priority: str = NORMAL) -> Event:
    """The event with its origin, which nobody else may state, and its priority, if it states none."""
    stated = event.extensions.get(PRIORITY) or priority
    return msgspec.structs.replace(event, extensions={**event.extensions, ORIGIN: origin, PRIORITY: stated})
