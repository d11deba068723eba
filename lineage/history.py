"""history: a document's versions, and who saw which."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.names import Connection, mentioning
from headwater.lineage.record import Record
from headwater.lineage.records import question
from headwater.lineage.verify import Source

MOST = 5_000
"""Versions, and looks at them, that are read at most: the newest."""

SCHEMA: dict[str, Any] = {
    "version": pl.Int64, "outcome": pl.String, "time": pl.Datetime("us", "UTC"), "chunks": pl.Int64, "changed": pl.Int64,
    "seen_by": pl.Int64, "ms": pl.Float64, "text": pl.String, "searchable": pl.Datetime("us", "UTC"), "decisions": pl.List(pl.String),
    "document": pl.String, "event": pl.String, "position": pl.String,
}  # fmt: skip


def history(source: Source, document: str) -> pl.DataFrame:
    """One row per version of a document, in the order they reached the index; `document` is TYPE/ID, or the bare ID if one type has it.

    time        event time;  searchable  wall clock of its being retrievable, `ms` after its event was appended
    chunks      how many it has, `changed` of them with texts that the version before did not have
    decisions   ids of those whose agents were shown a chunk of this version, `seen_by` of them

    Raises NotFound; Misused where documents of several types have the bare id.
    """
    name = document.strip()
    with question(source) as cursor:
        versions = _versions(cursor, name)
        looks = _looks(cursor, versions)
    before: set[str] = set()
    rows = []
    for record in versions:
        hashes = {chunk.get("hash", "") for chunk in record.data.get("chunks") or ()}
        rows.append(_row(record, len(hashes - before), looks.get((record.ref, record.data.get("version")), ())))
        before = hashes or before
    return pl.DataFrame(rows, schema=SCHEMA)


def _versions(cursor: Connection, name: str) -> list[Record]:
    found = [record for record in mentioning(cursor, [name], limit=MOST) if record.kind == "document"]
    found = [record for record in found if name in (record.ref, record.ref.partition("/")[2])]
    whole = sorted({record.ref for record in found})
    if not found:
        raise NotFound(f'no document {name!r} has landed; `headwater sql "from documents"` lists those that have')
    if len(whole) > 1 and name not in whole:
        raise Misused(f"several documents are called {name!r}: give one of {', '.join(whole)}", candidates=whole)
    return [record for record in found if record.ref == (name if name in whole else whole[0])]


def _looks(cursor: Connection, versions: Sequence[Record]) -> dict[tuple[str, Any], tuple[str, ...]]:
    """(document, version) → the decisions that were shown one of its chunks, in order."""
    chunks = [chunk["id"] for record in versions for chunk in record.data.get("chunks") or ()]
    looks: dict[tuple[str, Any], dict[str, None]] = defaultdict(dict)
    for record in mentioning(cursor, chunks, limit=MOST):
        if record.kind == "retrieval":
            for result in record.data.get("results") or ():
                looks[result.get("document", ""), result.get("version")][record.ref.partition(":")[0]] = None
    return {seen: tuple(decisions) for seen, decisions in looks.items()}


def _row(record: Record, changed: int, decisions: Sequence[str]) -> dict[str, Any]:
    data: Mapping[str, Any] = record.data
    chunks = data.get("chunks") or ()
    appended, settled = data.get("appended"), data.get("settled")
    return {
        "document": record.ref, "version": data.get("version"), "time": record.at, "outcome": record.outcome, "chunks": len(chunks),
        "changed": changed, "searchable": settled, "ms": (settled - appended) / 1000 if settled and appended else None,
        "seen_by": len(decisions), "decisions": list(decisions), "text": "\n".join(str(chunk.get("text", "")) for chunk in chunks),
        "event": data.get("event"), "position": str(record.position),
    }  # fmt: skip
