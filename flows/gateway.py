"""The gateway: what comes from outside becomes CloudEvents on a topic; no acknowledgement before the broker's.

An event is checked against its topic's model before it is produced: the sender is told at once, where a consumer could only dead-letter it.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from headwater.flows.sink import Writer, outgoing
from headwater.lineage.duration import duration
from headwater.lineage.errors import HeadwaterError, Invalid, NotFound, Oversized, Undecodable
from headwater.lineage.event import JSON, STRUCTURED, Event, Position, from_binary, from_structured
from headwater.lineage.topic import INTERNAL, Topic

BATCH = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"
LARGEST = 16_000_000
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
    """

    def __init__(
        self,
        topics: Mapping[str, Topic[Any]],
        writer: Writer,
        clock: Callable[[], int],
        ids: Callable[[], str] | None = None,
        ahead: int = AHEAD,
    ) -> None:
        self._topics = {name: topic for name, topic in topics.items() if not name.startswith(INTERNAL)}
        self._ahead = ahead
        self._writer = writer
        self._clock = clock
        self._ids = ids or (lambda: str(uuid.uuid4()))

    def topic(self, name: str) -> Topic[Any]:
        if name not in self._topics:
            raise NotFound(f"no topic {name!r}; the application declares {', '.join(sorted(self._topics)) or 'none'}")
        return self._topics[name]

    def publish(self, topic: Topic[Any], events: list[Event]) -> list[Accepted]:
        """Produce events and wait for the broker. Raises Undecodable, Invalid, Oversized, before anything is produced, and Unavailable."""
        keyed = [(event, topic.key_of(self._checked(topic, event, n, len(events)))) for n, event in enumerate(events, 1)]
        positions = self._writer.write(outgoing(topic.name, event, key) for event, key in keyed)
        return [Accepted(event, position) for event, position in zip(events, positions, strict=True)]

    def events(self, topic: Topic[Any], body: bytes, content_type: str = JSON, headers: Mapping[str, str] | None = None) -> list[Event]:
        """The events of a body: JSON data (an object, or an array of them), NDJSON, or CloudEvents (structured, batch, binary)."""
        if len(body) > LARGEST:
            raise Oversized(f"{len(body)} bytes in one request; at most {LARGEST}: send several, or NDJSON in pieces")
        kind = content_type.partition(";")[0].strip().lower()
        now = self._clock()
        if kind == STRUCTURED:
            return [from_structured(body, now=now)]
        if kind == BATCH:
            return [from_structured(bytes(raw), now=now + n) for n, raw in enumerate(_array(body))]
        if kind == NDJSON:
            return self._plain(topic, [line for line in body.splitlines() if line.strip()], now)
        # The HTTP binding percent-encodes what headers cannot carry.
        attributes = [
            (f"ce_{name[3:].lower()}", unquote(value)) for name, value in (headers or {}).items() if name.lower().startswith("ce-")
        ]
        if any(name == "ce_id" for name, _ in attributes):
            return [from_binary([*attributes, ("content-type", JSON)], body, topic=topic.name, appended=now)]
        if body.lstrip().startswith(b"["):
            return self._plain(topic, [bytes(raw) for raw in _array(body)], now)
        return self._plain(topic, [body] if body.strip() else [], now)

    def _plain(self, topic: Topic[Any], data: list[bytes], now: int) -> list[Event]:
        """What came together keeps its order: a microsecond apart, for equal times are put in order by id, and these ids are random."""
        source = "headwater/gateway"
        return [Event(id=self._ids(), source=source, type=topic.name, time=now + n, data=each) for n, each in enumerate(data)]

    def _checked(self, topic: Topic[Any], event: Event, number: int, many: int) -> Any:
        """The event's model; what is wrong with it is told with its place in the request."""
        try:
            if not topic.name.startswith(INTERNAL):
                self._admit(event)
            return topic.decode(event.data)
        except HeadwaterError as error:
            place = f"event {number} of {many} for {topic.name}" if many > 1 else f"the event for {topic.name}"
            raise type(error)(f"{place}: {error}", **error.details) from None

    def _admit(self, event: Event) -> None:
        """Whether something from outside may say this at all."""
        if event.type.startswith(INTERNAL):
            raise Invalid(f"type {event.type!r}: types under {INTERNAL} are headwater's own; use another")
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


def routes(gateway: Callable[[], Gateway]) -> APIRouter:
    """`POST /v1/events/{topic}`."""
    router = APIRouter(tags=["events"])

    @router.post("/v1/events/{topic}", status_code=202, summary="Publish events; the answer's token is a freshness token")
    async def publish(topic: str, request: Request) -> dict[str, Any]:
        door = gateway()
        found = door.topic(topic)
        events = door.events(found, await _body(request), request.headers.get("content-type", JSON), request.headers)
        if not events:
            raise Invalid(f"no event for {topic} in the request's body; send a JSON object, an array of them, or a line for each")
        accepted = await run_in_threadpool(door.publish, found, events)
        answers = [{"id": each.event.id, "token": str(each.position)} for each in accepted]
        return answers[0] if len(answers) == 1 else {"events": answers}

    return router


async def _body(request: Request) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > LARGEST:
            raise Oversized(f"more than {LARGEST} bytes in one request")
        pieces.append(piece)
    return b"".join(pieces)
