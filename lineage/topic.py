"""A topic as an application declares it: pure data that every package may look at."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import pydantic

from headwater.lineage.duration import duration
from headwater.lineage.errors import Invalid, Misused, Oversized, Undecodable

M = TypeVar("M")

INTERNAL = "headwater."
ACTIVATIONS = "headwater.activations"
DECISIONS = "headwater.decisions"
REVIEWS = "headwater.reviews"
LINEAGE = "headwater.lineage"
DEAD = "headwater.dead"
CATALOGUE = "headwater.topics"

MILLISECOND = 1_000

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Enricher(Protocol):
    """Adds knowledge to an event; what it added are facts."""

    def facts(self, model: Any, time: int) -> Any:
        """The facts for one decoded event at its event time (µs). Raises EnricherFailed."""
        ...


@dataclass(frozen=True, eq=False)
class Topic(Generic[M]):
    """A topic of events of one model.

    model       a pydantic model, or a msgspec.Struct where decoding speed matters
    key         the field whose value keys the message (and so chooses the partition); None: the event id
    partitions  how many; of a keyed topic they change by `headwater topics migrate` only
    enrich      facts name → enricher; `index` and `detect` see the same facts
    lateness    how far behind the newest event one may come and still count for rules
    idle_after  a partition that was silent this long no longer holds the watermark
    compact     the broker may drop an event that a later one with the same key follows
    retention   how long the broker keeps events, such as "7d"; None: its own default
    max_bytes   a larger value is a dead letter (oversized)
    """

    name: str
    model: type[M]
    key: str | None = None
    partitions: int = 1
    enrich: Mapping[str, Enricher] = field(default_factory=dict)
    lateness: str = "1s"
    idle_after: str = "5s"
    compact: bool = False
    max_bytes: int = 1_000_000
    retention: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misused(f"topic name {self.name!r}: use letters, digits, dot, dash and underscore, at most 249")
        if self.name.startswith(INTERNAL):
            raise Misused(f"topic name {self.name!r}: names under {INTERNAL} are headwater's own")
        if self.partitions < 1:
            raise Misused(f"topic {self.name}: partitions={self.partitions} must be at least 1")
        names = fields_of(self.model)
        if self.key is not None and self.key not in names:
            raise Misused(f"topic {self.name}: key={self.key!r} is no field of {self.model.__name__}; it has {', '.join(names)}")
        duration(self.lateness)
        duration(self.idle_after)
        if self.retention is not None and duration(self.retention) < MILLISECOND:
            raise Misused(f"topic {self.name}: retention={self.retention!r} must be at least 1ms")

    @property
    def settings(self) -> dict[str, str]:
        """What the broker is to know of it, as far as it is declared: `cleanup.policy`, `retention.ms`."""
        policies = [word for word, said in (("compact", self.compact), ("delete", self.retention is not None)) if said]
        settings = {"cleanup.policy": ",".join(policies)} if self.compact else {}
        if self.retention is not None:
            settings["retention.ms"] = str(duration(self.retention) // MILLISECOND)
        return settings

    def decode(self, value: bytes) -> M:
        """The model of an event's data. Raises Undecodable, Invalid, Oversized."""
        if len(value) > self.max_bytes:
            raise Oversized(f"{len(value)} bytes on {self.name}, which takes at most {self.max_bytes}")
        result: M = decoder(self.model)(value)  # type: ignore[arg-type]
        return result

    def encode(self, data: M) -> bytes:
        """The JSON text of a model."""
        if isinstance(data, pydantic.BaseModel):
            return data.model_dump_json().encode()
        return msgspec.json.encode(data)

    def key_of(self, data: M) -> str | None:
        """What keys a message with this data, or None if the topic declares no key."""
        return None if self.key is None else str(getattr(data, self.key))


def fields_of(model: type[Any]) -> tuple[str, ...]:
    """The field names of a pydantic model or a msgspec.Struct. Raises Misused."""
    if issubclass(model, pydantic.BaseModel):
        return tuple(model.model_fields)
    if issubclass(model, msgspec.Struct):
        return model.__struct_fields__
    raise Misused(f"{model.__name__} is neither a pydantic model nor a msgspec.Struct")


@functools.lru_cache(maxsize=1024)
def decoder(model: type[Any]) -> Any:
    """bytes → model, with our errors. Kept per model, for building one is slow."""
    if issubclass(model, msgspec.Struct):
        return functools.partial(_decode_struct, msgspec.json.Decoder(model).decode)
    return functools.partial(_decode_pydantic, model)


def _decode_struct(decode: Any, value: bytes) -> Any:
    try:
        return decode(value)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(str(error)) from None


def _decode_pydantic(model: type[pydantic.BaseModel], value: bytes) -> Any:
    try:
        return model.model_validate_json(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            raise Undecodable(first["msg"]) from None
        raise Invalid(f"{place}: {first['msg']}" if place else first["msg"]) from None
