"""`headwater index status`: how much the index holds, of which making it is, and what a rebuild would be for."""

from typing import Any

import msgspec

from headwater.enrichers import fingerprint as prints
from headwater.flows.runtime import Runtime


class Change(msgspec.Struct, frozen=True):
    """What changed since the index was made: of a document type, or "" for all; how many documents it concerns."""

    type: str
    what: str
    documents: int


class Status(msgspec.Struct, frozen=True):
    """An index as it is. `by_words`: its vectors are another model's, so they are not compared. `rebuild`: none, begun or running."""

    engine: str
    model: str
    size: int
    documents: int
    chunks: int
    points: int
    changes: tuple[Change, ...]
    by_words: bool
    rebuild: str
    types: dict[str, dict[str, Any]] = {}


def status_of(run: Runtime) -> Status:
    """Of the index that answers. Raises Unavailable."""
    known = prints.stored(run.index)
    made = known or run.fingerprint
    count = run.index.count()
    per_type = {name: run.index.documents(name) for name in {*made.kinds, *run.fingerprint.kinds}}
    since = run.fingerprint.since(known) if known else {}
    changes = tuple(Change(name, what, per_type[name] if name else count.documents) for name, what in since.items())
    under_way = "running" if run.rebuild.running else "begun" if run.generations.begun() else "none"
    types = {name: {"documents": per_type[name], "topic": kind.topic, "chunker": kind.chunker} for name, kind in made.kinds.items()}
    engine = "Qdrant server" if run.settings.qdrant_url else "embedded"
    by_words = made.vectors != run.fingerprint.vectors
    return Status(engine, made.model, made.size, *count, changes, by_words, under_way, dict(sorted(types.items())))


def warnings(run: Runtime) -> list[str]:
    """A sentence for each thing that changed since the index was made; for a start. Raises Unavailable."""
    known = prints.stored(run.index)
    since = run.fingerprint.since(known) if known else {}
    return [
        f"the index was made otherwise: {f'document {name}: ' if name else ''}{what}; it goes on as it is, until: headwater index rebuild"
        for name, what in since.items()
    ]
