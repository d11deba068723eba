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
_EMPTIEST = max(map(len, _EMPTY))
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
        ref, fields, reads, chunks = row.ref, False, False, document.chunks or ()
        scope = ref.encode() + _ENDS
        # A document is asked for by its bare name too, without its type.
        names = {ref, ref[ref.find("/") + 1 :] if "/" in ref else "", document.event or ""}
        if document.fields is not _ABSENT and (fields := self._take(scope, bytes(document.fields))):
            document.fields = _ABSENT
        if document.reads is not _ABSENT and (reads := self._take(scope, bytes(document.reads))):
            document.reads = _ABSENT
        for chunk in chunks:
            names.add(chunk.id)
            if not self._take(scope, bytes(chunk.text)):
                self._take(scope, _NO_TEXT, True)
            chunk.text = chunk.hash = _ABSENT
        names.discard("")
        self.names.extend(names)
        self.data.append(_plain(document))
        return _held(fields, reads, len(chunks))

    def _take(self, scope: bytes, body: bytes, always: bool = False) -> bool:
        """Take a JSON text if it says anything: what is empty is no content."""
        if len(body) > _EMPTIEST or always or body not in _EMPTY:
            self._bodies.append(body)
            self._told.append(scope + body)
            return True
        return False


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
