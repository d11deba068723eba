"""How points lie in a store, alike in every engine: names of vectors and payload fields, and the points that are no chunks."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from headwater.enrichers.document import NAMESPACE
from headwater.enrichers.engine import Point, Row, State, Vector

DENSE = "dense"
SPARSE = "bm25"
KEYWORDS = ("kind", "type", "tags", "document")
NUMBERS = ("live", "time", "until", "floor")
"""Payload fields with an index of their own. `live` and `deleted` are 1 or 0."""

NEVER = -1
"""A revision no head has."""


def progress_id(row: Row) -> str:
    """The point that holds a partition's progress."""
    return str(uuid.uuid5(NAMESPACE, f"progress\x1f{row.topic}\x1f{row.partition}"))


def to_progress(row: Row) -> dict[str, Any]:
    """The payload of a progress point; the row travels as text, for payloads have no integer keys."""
    return {"kind": "progress", "row": msgspec.json.encode(row).decode()}


def of_progress(payloads: Iterable[Mapping[str, Any] | None]) -> list[Row]:
    """The rows of progress points."""
    return [msgspec.json.decode(payload["row"], type=Row) for payload in payloads if payload]


def kept_id(name: str) -> str:
    """The point that holds a kept value."""
    return str(uuid.uuid5(NAMESPACE, f"kept\x1f{name}"))


def to_kept(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a kept value, as text like progress."""
    return {"kind": "kept", "name": name, "value": msgspec.json.encode(value).decode()}


def of_kept(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The value of its payload."""
    value: dict[str, Any] = msgspec.json.decode(payload["value"])
    return value


def state_of(id: object, payload: Mapping[str, Any]) -> State:
    """A chunk point as it lies."""
    return State(str(id), Point.of(payload), payload.get("live") == 1)


def unit(values: Sequence[float]) -> Vector:
    """A vector as the engine gave it back, of length 1 again (engines normalise on the way in, each with its own rounding)."""
    vector: Vector = np.asarray(values, dtype=np.float32)
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector
