"""parting: rows without their contents: what each says, what it refers to, and by which ids it may be asked for.

Documents are nearly all that lands, so they go a short way of their own: only what is needed of their data becomes Python's. All other
kinds, and documents of a form that is not known here, go the long one.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from headwater.lineage.contents import INSTRUCTIONS, LISTS, SLOTS
from headwater.lineage.names import names_of
from headwater.lineage.row import EMPTY, Row, record_of

Refer: TypeAlias = Callable[[bytes, bytes], str]
"""(scope, JSON text) → what stands in `held` for it."""

_ABSENT = Raw(b"")
_ENDS = b"\x1f"
_EMPTY = frozenset((b"", b'""', b"{}", b"[]", b"null", b"false"))
_NO_TEXT = b'""'
_encode = msgspec.json.Encoder(enc_hook=str).encode


ReferAll: TypeAlias = Callable[[Sequence[bytes], Sequence[bytes]], Sequence[str]]
"""The same of many: (each text after its scope, each text) → what stands for each."""


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
    return scope.encode() + _ENDS


def is_document(row: Row) -> bool:
    """Whether a row says that a document reached the index."""
    return row.kind == "document"


def part(row: Row, refer: Refer) -> Part:
    """The row without its contents, which `refer` is given."""
    if row.data is EMPTY and row.kind in ("consumed", "absent", "outcome") and not row.ref:
        return Part(b"{}", None, set())
    return _parted(row, refer)


def _says(body: bytes) -> bool:
    """Whether a JSON text says anything: what is empty is no content."""
    return len(body) > 5 or body not in _EMPTY


class Documents:
    """Documents without their contents, as columns: `data` (empty where the form is not known here), `held`, and `names`, `named` of which
    are of each. (Objects that stay, one of each document, would be gone through by the garbage collector again and again.)
    """

    def __init__(self, rows: Sequence[Row], refer: ReferAll) -> None:
        self.data, self.names, self.named = list[bytes](), list[str](), list[int]()
        self._told, self._bodies = list[bytes](), list[bytes]()
        forms, counts = list[str](), list[int]()
        for row in rows:
            before, known = len(self._bodies), len(self.names)
            forms.append(self._open(row))
            counts.append(len(self._bodies) - before)
            self.named.append(len(self.names) - known)
        references = iter(refer(self._told, self._bodies))
        self.held = [form % tuple(islice(references, count)) if count else None for form, count in zip(forms, counts, strict=True)]

    def _open(self, row: Row) -> str:
        """Take a document's texts and names out of it; what is held then, but for the references."""
        try:
            document = _document(row.data)
        except msgspec.ValidationError:
            self.data.append(b"")
            return ""
        ref, bodies = row.ref, self._bodies
        # A document is asked for by its bare name too, without its type.
        names = {ref, ref[ref.find("/") + 1 :] if "/" in ref else "", document.event or ""}
        before, fields, reads, chunks = len(bodies), False, False, document.chunks or ()
        if document.fields is not _ABSENT and (fields := _says(body := bytes(document.fields))):
            bodies.append(body)
            document.fields = _ABSENT
        if document.reads is not _ABSENT and (reads := _says(body := bytes(document.reads))):
            bodies.append(body)
            document.reads = _ABSENT
        for chunk in chunks:
            names.add(chunk.id)
            body = bytes(chunk.text)
            bodies.append(body if _says(body) else _NO_TEXT)
            chunk.text = chunk.hash = _ABSENT
        names.discard("")
        self.names.extend(names)
        scope = ref.encode() + _ENDS
        self._told.extend([scope + body for body in bodies[before:]])
        self.data.append(_plain(document))
        return _held(fields, reads, len(chunks))


@cache
def _held(fields: bool, reads: bool, chunks: int) -> str:
    """What a document holds, with %s for each reference."""
    parts = [f'"{name}":"%s"' for name, there in (("fields", fields), ("reads", reads)) if there]
    if chunks:
        parts.append('"chunks":[' + ",".join(['"%s"'] * chunks) + "]")
    return "{" + ",".join(parts) + "}"


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
