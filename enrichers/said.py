"""What an event says about a document: its function called, its text cut into chunks."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from headwater.enrichers.chunker import Measure, words
from headwater.enrichers.chunking import chunk
from headwater.enrichers.document import Delete, Document, DocumentType
from headwater.enrichers.embed import Embedder
from headwater.enrichers.head import Change
from headwater.lineage.decode import Received
from headwater.lineage.errors import DocumentUnavailable, IndexFailed, retryable

CARRIED_BYTES = 16_000_000
"""An id and fields stand beside every chunk of a document, in the engine's memory: so large they may be together."""


@dataclass(frozen=True)
class Said:
    """One event's change to one document."""

    received: Received
    change: Change

    @property
    def key(self) -> tuple[str, int, str]:
        return self.change.document, self.change.version, self.change.event


def measure_of(embedder: Embedder) -> Measure:
    """How an embedder counts tokens, if it says so (`tokens(word)`); else words are counted."""
    found: Measure = getattr(embedder, "tokens", words)
    return found


def change_of(kind: DocumentType, received: Received, tokens: Measure = words) -> Change | None:
    """What an event says about a document of a type, or None. Raises IndexFailed, DocumentUnavailable."""
    event = received.event
    try:
        said = kind(received.model, received.facts)
        if said is None:
            return None
        version = kind.version_of(received.model, event.time)
        name, deleted = f"{kind.name}/{said.id}", isinstance(said, Delete)
        chunks = () if isinstance(said, Delete) else tuple(chunk(said, kind.chunk, tokens))
        fields = {} if isinstance(said, Delete) else _fields(said)
        _bearable(name, fields, len(chunks))
    except Exception as error:
        why = f"document {kind.name!r} could not be made of event {event.id}: {type(error).__name__}: {error}"
        failed = DocumentUnavailable if retryable(error) else IndexFailed
        raise failed(why, document=kind.name, event=event.id) from error
    return Change(name, kind.name, version, event.id, event.time, chunks, fields, digest_of(chunks, fields, deleted), deleted)


def _fields(document: Document) -> dict[str, Any]:
    fields = dict(document.fields)
    for name, value in fields.items():
        if not isinstance(name, str) or not (value is None or isinstance(value, (str, int, float, bool))):
            raise TypeError(f"field {name!r} is {type(value).__name__}; fields are text, numbers, booleans or None")
        if isinstance(value, float) and not np.isfinite(value):
            raise ValueError(f"field {name!r} is {value}, which no search could match")
    return fields


def _bearable(name: str, fields: Mapping[str, Any], chunks: int) -> None:
    """Raises ValueError for a document that would fill the memory, though its event was no larger than its topic takes."""
    size = len(name) + len(msgspec.json.encode(fields))
    if size * chunks > CARRIED_BYTES:
        raise ValueError(
            f"its id and fields, {size:,} bytes, would stand beside each of its {chunks:,} chunks, and may be {CARRIED_BYTES:,} bytes "
            f"together: it begins {name[:40]!r}; take a shorter id, leave out long fields, or cut its text into fewer chunks"
        )


def digest_of(chunks: Sequence[Any], fields: Mapping[str, Any], deleted: bool) -> str:
    """Of all that a version says: its pieces, by their hashes, and its fields."""
    content = (deleted, [piece.hash for piece in chunks], sorted(fields.items()))
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:32]
