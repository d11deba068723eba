"""parting: records without their contents: what each says, what it refers to, and by which ids it may be asked for.

Documents are nearly all that lands, and arrive open (see `opening`); all other kinds, and documents of a form that is not known there, go
this way.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec

from headwater.lineage.contents import INSTRUCTIONS, LISTS, SLOTS
from headwater.lineage.names import names_of
from headwater.lineage.row import Row, record_of

Refer: TypeAlias = Callable[[bytes, bytes], str]
"""(scope, JSON text) → what stands in `held` for it."""

ENDS = b"\x1f"
_encode = msgspec.json.Encoder(enc_hook=str).encode



class Part(NamedTuple):
    """A row without its contents: `data` and `held` as JSON (`held` is None if it has none), and `names`, by which people ask for it."""

    data: bytes
    held: str | None
    names: set[str]


def scoped(scope: str) -> bytes:
    """A scope as salts know it: no text of one is the text of another."""
    return scope.encode() + ENDS


def part(row: Row, refer: Refer) -> Part:
    """The row without its contents, which `refer` is given."""
    record = record_of(row)
    names = set(names_of(record))
    slots, listed = SLOTS.get(row.kind), LISTS.get(row.kind)
    if slots is None:
        return Part(bytes(row.data), None, names)
    data: dict[str, Any] = dict(record.data)
    held: dict[str, str | list[str]] = {}
    scope = scoped(row.ref)
    for field in slots:
        value = data.get(field)
        if value or value == 0:  # what is empty says nothing
            del data[field]
            held[field] = refer(scoped(field) if field == INSTRUCTIONS else scope, _encode(value))
    if listed and (items := data.get(listed)):
        references, rest = [], []
        for item in items:
            bare = dict(item)
            of = scope if row.kind == "document" else scoped(str(item.get("document") or row.ref))
            references.append(refer(of, _encode(bare.pop("text", None) or "")))
            bare.pop("hash", None)
            rest.append(bare)
        held[listed], data[listed] = references, rest
    return Part(_encode(data), _encode(held).decode() if held else None, names)
