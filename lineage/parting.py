"""parting: rows without their contents: what each says, what it refers to, and by which ids it may be asked for.

Documents are nearly all that lands, so they go a short way of their own: only what is needed of their data becomes Python's. All other
kinds, and documents of a form that is not known here, go the long one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from headwater.lineage.contents import INSTRUCTIONS, LISTS, SLOTS
from headwater.lineage.names import names_of
from headwater.lineage.row import EMPTY, Row, record_of

Refer: TypeAlias = Callable[[bytes, bytes], str]
"""(scope, JSON text) → what stands in `held` for it."""

_ABSENT = Raw(b"")
_EMPTY = frozenset((b"", b'""', b"{}", b"[]", b"null", b"false"))
_NO_TEXT = b'""'
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Part(NamedTuple):
    """A row without its contents: `data` and `held` as JSON (`held` is None if it has none), and `names`, by which people ask for it."""

    data: bytes
    held: str | None
    names: set[str]


class _Chunk(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    id: str
    n: Raw = _ABSENT
    section: Raw = _ABSENT
    text: Raw = _ABSENT
    hash: Raw = _ABSENT


class _Document(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    type: Raw = _ABSENT
    document: Raw = _ABSENT
    version: Raw = _ABSENT
    event: str | UnsetType = UNSET
    fields: Raw = _ABSENT
    chunks: list[_Chunk] | UnsetType = UNSET
    appended: Raw = _ABSENT
    settled: Raw = _ABSENT
    reads: Raw = _ABSENT


_document = msgspec.json.Decoder(_Document).decode
_plain = msgspec.json.Encoder().encode


def scoped(scope: str) -> bytes:
    """A scope as salts know it: no text of one is the text of another."""
    return scope.encode() + b"\x1f"


def is_document(row: Row) -> bool:
    """Whether a row says that a document reached the index."""
    return row.kind == "document"


def part(row: Row, refer: Refer) -> Part:
    """The row without its contents, which `refer` is given."""
    if row.kind == "document":
        try:
            document = _document(row.data)
        except msgspec.ValidationError:
            return _parted(row, refer)
        return _of_document(row, document, refer)
    if row.data is EMPTY and row.kind in ("consumed", "absent", "outcome") and not row.ref:
        return Part(b"{}", None, set())
    return _parted(row, refer)


def _says(body: bytes) -> bool:
    """Whether a JSON text says anything: what is empty is no content."""
    return len(body) > 5 or body not in _EMPTY


def _of_document(row: Row, document: _Document, refer: Refer) -> Part:
    scope, ref = scoped(row.ref), row.ref
    names = {ref, ref.partition("/")[2], document.event or ""}
    held = []
    if _says(body := bytes(document.fields)):
        held.append(f'"fields":"{refer(scope, body)}"')
        document.fields = _ABSENT
    if _says(body := bytes(document.reads)):
        held.append(f'"reads":"{refer(scope, body)}"')
        document.reads = _ABSENT
    if chunks := document.chunks or ():
        told = []
        for chunk in chunks:
            names.add(chunk.id)
            body = bytes(chunk.text)
            told.append(f'"{refer(scope, body if _says(body) else _NO_TEXT)}"')
            chunk.text = chunk.hash = _ABSENT
        held.append(f'"chunks":[{",".join(told)}]')
    names.discard("")
    return Part(_plain(document), f"{{{','.join(held)}}}" if held else None, names)


def _parted(row: Row, refer: Refer) -> Part:
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
