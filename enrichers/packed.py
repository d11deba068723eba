"""How points lie in the embedded engine: what it filters by as values of their own, all the rest as one text.

It takes a payload apart value by value and lets go of the interpreter some four to ten times for each, so that beside busy threads a
point of fifteen values takes milliseconds. Points in the form before this one, every value by itself, are read as well.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from headwater.enrichers.engine import Belonging, Point, State, tags_of
from headwater.enrichers.head import Head

BODY = "body"
"""The field that holds the whole point, or head, as JSON."""


BELONGS = (BODY, "document", "version", "event")
"""The fields that say it, in this form and in the one before."""


def pack_point(point: Point) -> dict[str, Any]:
    """A chunk's payload. `live` and `until` are those fields that change, and count before what the body says of them."""
    packed: dict[str, Any] = {"kind": "chunk", "type": point.type, "time": point.time, "live": int(point.until is None), BODY: _body(point)}
    if point.until is not None:
        packed["until"] = point.until
    if point.fields:
        packed |= {"tags": tags_of(point.fields), "fields": point.fields}
    return packed


def unpack_point(payload: Mapping[str, Any]) -> Point:
    """The chunk of a payload. Raises msgspec.ValidationError."""
    if BODY not in payload:
        return Point.of(payload)
    point = msgspec.json.decode(payload[BODY], type=Point)
    until = payload.get("until")
    return point if until == point.until else msgspec.structs.replace(point, until=until)


def unpack_state(id: object, payload: Mapping[str, Any]) -> State:
    """A chunk point as it lies."""
    return State(str(id), unpack_point(payload), payload.get("live") == 1)


def belonging(payload: Mapping[str, Any]) -> Belonging:
    """Of a payload that has at least the fields `BELONGS`."""
    return msgspec.json.decode(payload[BODY], type=Belonging) if BODY in payload else msgspec.convert(payload, Belonging)


def pack_head(head: Head) -> dict[str, Any]:
    """A head's payload."""
    packed = {"kind": "head", "type": head.type, "rev": head.rev, "deleted": int(head.current.deleted), BODY: _body(head)}
    return packed | {"floor": head.floor} if head.floor else packed


def unpack_head(payload: dict[str, Any]) -> Head:
    """The head of a payload. Raises msgspec.ValidationError."""
    return msgspec.json.decode(payload[BODY], type=Head) if BODY in payload else Head.of(payload)


def _body(whole: Point | Head) -> str:
    return msgspec.json.encode(whole).decode()
