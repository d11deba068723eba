"""An activation: a trigger rule fired for a key. One episode per key is opened, updated and closed."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from headwater.lineage.duration import to_datetime
from headwater.lineage.errors import Invalid
from headwater.lineage.event import Event, Position
from headwater.lineage.naming import naming
from headwater.lineage.record import Record, fact
from headwater.lineage.traceparent import following

TYPE = "headwater.activation."
NAMESPACE = uuid.UUID("b3d2f0a4-3f0e-5b52-8a4c-5f7f5a3c9d11")
_named = naming(NAMESPACE)

Phase = Literal["opened", "updated", "closed"]


class Cause(msgspec.Struct, frozen=True):
    """One event that woke a rule: where it lies, its id, its topic key."""

    topic: str
    partition: int
    offset: int
    id: str
    key: str


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """A firing of a rule. Two runs over the same events give equal activations, byte for byte.

    id        UUIDv5(rule, key, at)
    phase     opened, updated or closed; `episode` is the id of the activation that opened the episode
    at        event time of the firing, µs since 1970, strictly increasing per (rule, key)
    value     the measured level that crossed (a share, a delay, a visibility); `count` of `total` things in the window matched
    events    the newest events behind it, newest first, at most `EVENTS_KEPT`
    cut       "topic/partition" → the offset up to which every event not later than this one lies: what a reader must have seen
    via       the agents whose decisions led here, oldest first; of several events behind it, of the one with most
    correlation   of the cascade it belongs to; empty: it begins one, named by its episode
    trace     the `traceparent` of the event it follows from; empty: it begins a trace, named by its correlation id
    """

    id: str
    rule: str
    key: str
    phase: Phase
    at: int
    value: float
    episode: str
    count: int = 0
    total: int = 0
    events: tuple[Cause, ...] = ()
    cut: dict[str, int] = {}
    version: str = "1"
    via: tuple[str, ...] = ()
    correlation: str = ""
    trace: str = ""

    @property
    def when(self) -> datetime:
        """`at` as an aware UTC datetime."""
        return to_datetime(self.at)

    @property
    def correlationid(self) -> str:
        """What its decisions and all that follows from them share."""
        return self.correlation or self.episode

    @property
    def traceparent(self) -> str:
        """Its own trace context."""
        return following(self.trace, self.correlationid, self.id).header


EVENTS_KEPT = 50
_decode = msgspec.json.Decoder(Activation).decode


def activation_id(rule: str, key: str, at: int) -> str:
    """The id of a firing."""
    return _named(f"{rule}\x1f{key}\x1f{at}")


def activation_event(activation: Activation) -> Event:
    """The event that carries an activation: caused by the newest event behind it, correlated by its cascade."""
    return Event(
        id=activation.id,
        source=f"headwater/detect/{activation.rule}",
        type=TYPE + activation.phase,
        time=activation.at,
        subject=activation.key,
        data=msgspec.json.encode(activation),
        correlationid=activation.correlationid,
        causationid=activation.events[0].id if activation.events else None,
        traceparent=activation.traceparent,
    )


def activation_of(event: Event) -> Activation:
    """The activation that an event carries. Raises Invalid."""
    try:
        activation = _decode(event.data)
    except msgspec.DecodeError as error:
        raise Invalid(f"event {event.id} of type {event.type} carries no activation: {error}") from None
    if activation.id != event.id:
        raise Invalid(f"event {event.id} carries the activation {activation.id}: their ids must be the same")
    return activation


def activation_record(
    activation: Activation, broker: str, *, appended: int | None, logged: int, reads: Mapping[str, Mapping[str, Any]] = {},
    traces: Sequence[str] = (),
) -> Record:  # fmt: skip
    """The record of a firing; `appended` is when the newest event behind it was appended, `logged` the wall clock, both in µs.

    reads   of its events' facts, where they are from: `topic/partition@offset` → enricher → what it read
    traces  the trace contexts of its events, where they have any
    """
    return fact(
        "activation", "detect", "rules", activation.id,
        logged=logged, at=activation.at,
        parents=[str(Position(broker, cause.topic, cause.partition, cause.offset)) for cause in activation.events],
        data={
            "rule": activation.rule, "key": activation.key, "phase": activation.phase, "episode": activation.episode,
            "value": activation.value, "count": activation.count, "total": activation.total, "version": activation.version,
            "events": msgspec.to_builtins(activation.events), "cut": activation.cut, "appended": appended,
            "via": list(activation.via), "correlation": activation.correlationid,
            "traceparent": activation.traceparent, **({"follows": activation.trace} if activation.trace else {}),
            **({"reads": reads} if reads else {}), **({"traces": list(traces)} if traces else {}),
        },
    )  # fmt: skip
