"""The event: a CloudEvents 1.0 event, and its forms on Kafka (binary, structured).

The SDK's codec costs 23 µs each way; this one, on msgspec, about a tenth. The SDK is the oracle of its tests.
Source: CloudEvents 1.0.2, Kafka protocol binding 1.0.2, JSON event format 1.0.2.
"""

import base64
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import msgspec

from headwater.lineage.duration import format_time, parse_time
from headwater.lineage.errors import Invalid, Misused, Undecodable

JSON = "application/json"
STRUCTURED = "application/cloudevents+json"
Headers = Iterable[tuple[str, bytes | str | None]]

_CONTEXT = ("traceparent", "causationid", "correlationid", "actor", "signature")
_CORE = ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64")


class Position(NamedTuple):
    """One event's place, `broker/topic/partition/offset`; as text it is the freshness token a publisher gets back."""

    broker: str
    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.broker}/{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, token: str) -> Self:
        """The position of a token. Raises Misused."""
        try:
            broker, topic, partition, offset = token.split("/")
            return cls(broker, topic, int(partition), int(offset))
        except ValueError:
            raise Misused(f"{token!r} is no token; it has the form broker/topic/partition/offset") from None

    @property
    def short(self) -> str:
        """`topic/partition@offset`, for people."""
        return f"{self.topic}/{self.partition}@{self.offset}"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A CloudEvents 1.0 event. `time` is in microseconds since 1970 (UTC); `data` is the JSON text as it travels."""

    id: str
    source: str
    type: str
    time: int
    data: bytes = b"null"
    subject: str | None = None
    datacontenttype: str = JSON
    dataschema: str | None = None
    traceparent: str | None = None
    causationid: str | None = None
    correlationid: str | None = None
    actor: str | None = None
    signature: str | None = None
    extensions: dict[str, str] = {}

    def json(self) -> Any:
        """The data as Python values. Raises Undecodable."""
        try:
            return msgspec.json.decode(self.data)
        except msgspec.DecodeError as error:
            raise Undecodable(f"event {self.id}: data is not JSON: {error}") from None


class Message(NamedTuple):
    """What a broker hands over or takes; `timestamp` is the append time in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def to_binary(event: Event) -> tuple[list[tuple[str, bytes]], bytes]:
    """Kafka headers and value in binary content mode."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
        ("ce_time", format_time(event.time).encode()),
        ("content-type", event.datacontenttype.encode()),
    ]
    headers.extend((f"ce_{name}", value.encode()) for name, value in _optional(event))
    return headers, event.data


def from_binary(headers: Headers, value: bytes | None, *, topic: str, appended: int) -> Event:
    """The event of a Kafka message in binary or structured content mode.

    A message of a plain producer needs an id only (`ce_id`): source and type then default to the topic's name, time to the
    append time (`appended`, µs). Of a header given twice the last counts. Raises Undecodable, Invalid.
    """
    fields = _attributes(headers)
    if "datacontenttype" in fields and fields["datacontenttype"].startswith(STRUCTURED):
        return from_structured(value or b"")
    if not fields.get("id"):
        raise Invalid(f"a message on {topic} has no id: set the header ce_id")
    if not fields.get("source"):
        fields["source"] = topic
    if not fields.get("type"):
        fields["type"] = topic
    fields["time"] = _time(fields.get("time"), appended)
    fields["data"] = value if value is not None else b"null"
    return Event(**fields)


def to_structured(event: Event) -> bytes:
    """The JSON event format. Data that is not JSON travels as `data_base64`."""
    document: dict[str, Any] = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
    document["time"] = format_time(event.time)
    document["datacontenttype"] = event.datacontenttype
    document.update(_optional(event))
    if _is_json(event.datacontenttype):
        document["data"] = msgspec.Raw(event.data)
    else:
        document["data_base64"] = base64.b64encode(event.data).decode()
    return msgspec.json.encode(document)


def from_structured(body: bytes, *, now: int = 0) -> Event:
    """The event of a JSON event format document; a missing time becomes `now` (µs). Raises Undecodable, Invalid."""
    try:
        document = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        text = {name: msgspec.json.decode(raw) for name, raw in document.items() if name not in ("data", "data_base64")}
    except msgspec.DecodeError as error:
        raise Undecodable(f"not a CloudEvents JSON document: {error}") from None
    missing = [name for name in ("specversion", "id", "source", "type") if not text.get(name)]
    if missing:
        raise Invalid(f"a CloudEvents document lacks {', '.join(missing)}")
    spoken(str(text["specversion"]))
    named = {name: str(value) for name, value in text.items() if value is not None}
    if "data_base64" in document:
        data = _base64(msgspec.json.decode(document["data_base64"]))
    else:
        data = bytes(document.get("data", b"null"))
    return Event(
        id=named["id"],
        source=named["source"],
        type=named["type"],
        time=_time(named.get("time"), now),
        data=data,
        datacontenttype=named.get("datacontenttype", JSON),
        subject=named.get("subject"),
        dataschema=named.get("dataschema"),
        **{name: named.get(name) for name in _CONTEXT},
        extensions={name: value for name, value in named.items() if name not in _CORE and name not in _CONTEXT},
    )


def spoken(version: str) -> None:
    """Raises Invalid for a version of CloudEvents other than 1.0: its attributes may mean something else."""
    if version != "1.0":
        raise Invalid(f"specversion {version!r}: CloudEvents 1.0 is understood here")


_NAMED = frozenset((*_CORE, *_CONTEXT))


def _optional(event: Event) -> list[tuple[str, str]]:
    pairs = [(name, getattr(event, name)) for name in ("subject", "dataschema", *_CONTEXT)]
    pairs.extend(event.extensions.items())
    return [(name, value) for name, value in pairs if value is not None]


_HEADERS = {f"ce_{name}": name for name in ("id", "source", "type", "time", "subject", "dataschema", *_CONTEXT)}
_HEADERS["content-type"] = "datacontenttype"
"""Header → the field of an event that it fills."""


def _attributes(headers: Headers) -> dict[str, Any]:
    """Field → text, for those fields that the headers speak of; this runs for every event of every flow, and is written for that."""
    fields: dict[str, Any] = {}
    extensions: dict[str, str] = {}
    for name, raw in headers:
        if raw is None:
            continue
        try:
            value = raw if isinstance(raw, str) else raw.decode()
        except UnicodeDecodeError:
            raise Undecodable(f"header {name} is not UTF-8") from None
        field = _HEADERS.get(name)
        if field is not None:
            fields[field] = value
        elif name.startswith("ce_"):
            if name[3:] not in _NAMED:
                extensions[name[3:]] = value
        elif name.lower() == "content-type":
            fields["datacontenttype"] = value
    if extensions:
        fields["extensions"] = extensions
    return fields


def _time(text: str | None, default: int) -> int:
    if not text:
        return default
    try:
        return parse_time(text)
    except ValueError:
        raise Invalid(f"time {text!r} is not RFC 3339") from None


def _is_json(content: str) -> bool:
    kind = content.partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json"))


def _base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        raise Undecodable("data_base64 is not base64") from None

