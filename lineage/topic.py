"""A topic as an application declares it: pure data that every package may look at."""

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import pydantic

from headwater.lineage.duration import duration
from headwater.lineage.errors import HeadwaterError, Invalid, Misused, Oversized, Undecodable

M = TypeVar("M")

INTERNAL = "headwater."
ACTIVATIONS = "headwater.activations"
DECISIONS = "headwater.decisions"
REVIEWS = "headwater.reviews"
LINEAGE = "headwater.lineage"
DEAD = "headwater.dead"
RETRY = "headwater.retry."
"""The rungs of the retry ladder: this and a number from 1."""
CATALOGUE = "headwater.topics"
HEADS = "headwater.heads"
"""Signed heads of the lineage chain."""
LINKS = "headwater.links"
"""Marks of those who carry topics over a bridge, at the broker they carry them to."""

MILLISECOND = 1_000

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


def rung_of(topic: str) -> int:
    """Which rung of the retry ladder a topic is; 0: none."""
    number = topic.removeprefix(RETRY)
    return int(number) if number != topic and number.isascii() and number.isdigit() else 0


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

    @functools.cached_property
    def decode(self) -> Callable[[bytes], M]:
        """bytes → the model of an event's data; made once, for it is called for every event. Raises Undecodable, Invalid, Oversized."""
        decode, most = decoder(self.model), self.max_bytes  # type: ignore[arg-type]

        def read(value: bytes) -> M:
            if len(value) > most:
                raise Oversized(f"{len(value)} bytes on {self.name}, which takes at most {most}")
            try:
                model: M = decode(value)
            except (msgspec.DecodeError, pydantic.ValidationError, UnicodeDecodeError) as error:
                raise _fault(error) from None
            return model

        return read

    def decode_all(self, values: Sequence[bytes]) -> list[M]:
        """The models of many events' data, as `decode` gives them, for less. Raises for the first that is wrong, and gives none."""
        if max(map(len, values), default=0) <= self.max_bytes:
            decode = decoder(self.model)  # type: ignore[arg-type]
            with contextlib.suppress(msgspec.DecodeError, pydantic.ValidationError, UnicodeDecodeError):
                return [decode(value) for value in values]
        return [self.decode(value) for value in values]

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
def decoder(model: type[Any]) -> Callable[[bytes], Any]:
    """bytes → model, with the library's own errors. Kept per model, for building one is slow."""
    if issubclass(model, msgspec.Struct):
        return msgspec.json.Decoder(model).decode
    validate: Callable[[bytes], Any] = model.model_validate_json

    def read(value: bytes) -> Any:
        if b"NaN" in value or b"Infinity" in value:  # pydantic takes these for numbers; JSON has none such, and other readers fail on them
            msgspec.json.decode(value)
        return validate(value)

    return read


def _fault(error: Exception) -> HeadwaterError:
    """What a library says of a value, as an error of ours."""
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            return Undecodable(first["msg"])
        return Invalid(f"{place}: {first['msg']}" if place else first["msg"])
    return Invalid(str(error)) if isinstance(error, msgspec.ValidationError) else Undecodable(str(error))
