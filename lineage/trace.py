"""trace: all that has to do with one correlation id, in the order it happened.

A correlation is one episode of a rule and what followed from it: activations, decisions, effects, the events those published, and what
these woke in turn; and back to the episode that it came from itself. Any id on the way leads to all of it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from headwater.lineage.names import Connection, lying_at, mentioning, things
from headwater.lineage.record import Record
from headwater.lineage.records import question
from headwater.lineage.verify import Source
from headwater.lineage.why import resolve

MOST = 5_000
"""Records of one correlation; what is found beyond them is left out, and a last row says so."""
_CUT = "cut"
_OF_A_STORY = frozenset(
    ("document", "dead_letter", "redrive", "drop", "activation", "retrieval", "model", "tool", "note", "ruling", "decision", "effect",
     "review", "verdict", "outcome")
)  # fmt: skip
_LEADS = {"decision": "decision", "activation": "activation", "position": "position", "effect": "effect", "review": "review"}

SCHEMA: dict[str, Any] = {
    "ms": pl.Float64, "kind": pl.String, "what": pl.String, "flow": pl.String, "logged": pl.Datetime("us", "UTC"),
    "time": pl.Datetime("us", "UTC"), "id": pl.String,
}  # fmt: skip


def trace(source: Source, id: str) -> pl.DataFrame:
    """ms, kind, what, flow, logged, time, id: everything of the correlation that an id belongs to, first to last.

    `logged` is the wall clock, `ms` counts from the first row, `time` is event time. Takes what `why` takes. Raises NotFound, Misused.
    """
    with question(source) as cursor:
        _, found = resolve(cursor, id.strip())
        story, cut = _gather(cursor, found)
    rows = sorted(story, key=lambda record: (record.logged, record.id))
    first = rows[0].logged if rows else 0
    told = [_row(record, first) for record in rows]
    if cut:
        told.append({**dict.fromkeys(SCHEMA), "kind": _CUT, "what": f"more than {MOST:,} records; the rest is left out"})
    return pl.DataFrame(told, schema=SCHEMA)


def _gather(cursor: Connection, found: Iterable[Record]) -> tuple[list[Record], bool]:
    """Whatever is linked to what was found, link by link; and whether there was more than fits."""
    known: dict[str, Record] = {}
    asked: set[str] = set()
    pending = list(found)
    while pending and len(known) < MOST:
        fresh = [record for record in pending if record.id not in known and record.kind in _OF_A_STORY]
        known.update((record.id, record) for record in fresh)
        names = [name for name in dict.fromkeys(name for record in fresh for name in _leads(record)) if name not in asked]
        asked.update(names)
        places = [name for name in names if name.count("/") >= 3]
        pending = [*mentioning(cursor, names, limit=MOST), *lying_at(cursor, places)] if names else []
    records = list(known.values())
    return records[:MOST], len(records) > MOST or bool(pending)


def _leads(record: Record) -> Iterator[str]:
    """The names through which a record belongs to a correlation: not its document's, for a document belongs to many."""
    if record.kind == "document":
        yield str(record.position)
        return
    for thing in things(record):
        if thing.kind in _LEADS and thing.id:
            yield thing.id


def _row(record: Record, first: int) -> dict[str, Any]:
    return {
        "logged": record.logged, "ms": (record.logged - first) / 1000, "time": record.at, "kind": record.kind, "flow": record.flow,
        "what": words(record), "id": record.ref or (str(record.position) if record.first >= 0 else record.id),
    }  # fmt: skip


def words(record: Record) -> str:
    """What a record says, in one line."""
    data = record.data
    match record.kind:
        case "document":
            return f"{record.outcome} as {record.ref}, version {data.get('version')}: {_first_text(data.get('chunks') or ())}"
        case "activation":
            counted = f"{data.get('count')} of {data.get('total')}, level {data.get('value')}"
            return f"{data.get('rule')}/{data.get('key')} {data.get('phase')}, {counted}"
        case "retrieval":
            return f"saw {len(data.get('results') or ())} chunks for {data.get('query')!r}"
        case "model":
            return f"{data.get('model')} answered {data.get('answer')!r}"
        case "note":
            return str(data.get("text", ""))
        case "ruling":
            verb = "allowed" if data.get("allowed") else "refused"
            return f"{verb} {data.get('principal')} to {data.get('action')} {data.get('resource')}, by {data.get('policy')}"
        case "decision":
            chose = data.get("summary") or "nothing to do"
            return f"{data.get('agent')}@{data.get('version')}: {chose} ({_number(data.get('confidence'))})"
        case "effect":
            return f"{data.get('effect')} {data.get('target') or data.get('topic')}: {data.get('state')}"
        case "review":
            return str(data.get("question", ""))
        case "outcome":
            return record.outcome.replace("_", " ")
        case "dead_letter":
            return f"{data.get('cause')}: {data.get('error')}"
    return _pairs(data)


def _first_text(chunks: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(str(chunks[0].get("text", "")).split()) if chunks else ""


def _pairs(data: Mapping[str, Any]) -> str:
    """Data of a kind that has no words of its own here: its plain values."""
    return ", ".join(f"{name} {value}" for name, value in data.items() if isinstance(value, str | int | float))


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "?"
