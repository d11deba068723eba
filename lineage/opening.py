"""opening: a document's data without the texts that it says, which stand beside it, as do the ids by which people ask for it."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from headwater.lineage.row import Row

_ABSENT = Raw(b"")
_EMPTY = frozenset((b"", b'""', b"{}", b"[]", b"null", b"false"))
_EMPTIEST = max(map(len, _EMPTY))
_NO_TEXT = b'""'


Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**31)]


class Form(NamedTuple):
    """What stands beside the data of an open document: first its fields and what was read for it, if there are any, then the texts of
    so many chunks; and how many names it has besides its own.
    """

    fields: bool
    reads: bool
    chunks: Count
    names: Count

    @property
    def texts(self) -> int:
        """How many texts."""
        return self.fields + self.reads + self.chunks


class Opened(NamedTuple):
    """A document: its data without its texts, these as JSON, and its names but for its id with and without its type."""

    form: Form
    data: bytes
    texts: list[bytes]
    names: list[str]


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


Said: TypeAlias = tuple[bool, bool, int, int]
"""A `Form`, in a tenth of the time."""

_USUAL = frozenset((_Document.__struct_fields__, _Document.__struct_fields__[:-1]))
"""What documents say, in the order in which it lands."""

_decode = msgspec.json.Decoder(_Document).decode
_encode = msgspec.json.Encoder().encode


def bare(ref: str) -> str:
    """A document's id without its type, by which it is asked for too; empty if it names none."""
    return ref.partition("/")[2]


def open_document(row: Row) -> Opened | None:
    """A row that says that a document reached the index; None if its form is not known here."""
    try:
        document = _decode(row.data)
    except msgspec.ValidationError:
        return None
    chunks, texts = document.chunks or (), list[bytes]()
    names = [name for name in (document.event, *(chunk.id for chunk in chunks)) if name]
    fields, reads = bytes(document.fields), bytes(document.reads)
    if has_fields := _says(fields):
        texts.append(fields)
        document.fields = _ABSENT
    if has_reads := _says(reads):
        texts.append(reads)
        document.reads = _ABSENT
    for chunk in chunks:
        text = bytes(chunk.text)
        texts.append(text if _says(text) else _NO_TEXT)
        chunk.text = chunk.hash = _ABSENT
    return Opened(Form(has_fields, has_reads, len(chunks), len(names)), _encode(document), texts, names)


def _says(body: bytes) -> bool:
    """What is empty is no content."""
    return len(body) > _EMPTIEST or body not in _EMPTY


def open_said(data: Mapping[str, Any], texts: list[Any], names: list[str]) -> tuple[Said, dict[str, Any]] | None:
    """The same of what a flow says, before it is JSON; of the forms that flows use. Its texts and names are put to those that are there."""
    event = data.get("event")
    if tuple(data) not in _USUAL or type(event) is not str:
        return None
    told, pieces = dict(data), list[Any]()
    if event:
        names.append(event)
    fields, reads = data["fields"], data.get("reads")
    if fields:
        texts.append(told.pop("fields"))
    if reads:
        texts.append(told.pop("reads"))
    try:
        for chunk in data["chunks"]:
            id, text = chunk["id"], chunk["text"]
            if type(id) is not str or type(text) is not str or not id or len(chunk) != 4 + ("hash" in chunk):
                return None
            texts.append(text)
            names.append(id)
            pieces.append({"id": id, "n": chunk["n"], "section": chunk["section"]})
    except (KeyError, TypeError):
        return None
    if not isinstance(fields, dict) or not (reads is None or isinstance(reads, dict)):
        return None
    told["chunks"] = pieces
    return (bool(fields), bool(reads), len(pieces), len(pieces) + bool(event)), told


def closed(form: Form, data: dict[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """The document with its texts in their places, as it was before it was opened, but for the hashes of chunks."""
    rest = iter(texts)
    for name, there in (("fields", form.fields), ("reads", form.reads)):
        if there:
            data[name] = next(rest)
    for chunk, text in zip(data.get("chunks", ()), rest, strict=True):
        chunk["text"] = text
    return data


@cache
def held_of(fields: bool, reads: bool, chunks: int) -> str:
    """What a document holds, as JSON, with %s for each reference."""
    parts = [f'"{name}":"%s"' for name, there in (("fields", fields), ("reads", reads)) if there]
    if chunks:
        parts.append('"chunks":[' + ",".join(['"%s"'] * chunks) + "]")
    return "{" + ",".join(parts) + "}"
