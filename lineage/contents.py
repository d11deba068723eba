"""contents: what people and the outside said, kept apart from the records that tell that it was said.

Each text (a chunk, query, prompt, answer, argument, rationale, …) is stored once, in `contents`; its record holds in its place a reference
`number:hash`, in the column `held`. The hash is SHA-256 of a salt and the text, and a record's leaf covers `held`: so a content may be
removed, its salt with it, and the chain proves as before. Without the salt the hash tells nothing, not even to who guesses the text.

The salt is a keyed hash of the text and its scope (the document it is of, or the record it stands in): what is said again gets the same
reference, but two documents never share one. Every erasure throws the key away.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside are numbers)

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import duckdb
import msgspec

from headwater.lineage.near import near

SLOTS: dict[str, dict[str, str]] = {
    "document": {"fields": "object", "reads": "object"},
    "activation": {"reads": "object"},
    "retrieval": {"query": "text", "where": "object"},
    "model": {"prompt": "text", "answer": "text", "instructions": "text", "turns": "list", "proposed": "list", "error": "text"},
    "tool": {"arguments": "object", "answer": "text", "error": "text"},
    "note": {"text": "text", "error": "text"},
    "decision": {
        "choice": "object", "summary": "text", "rationale": "text", "error": "text", "recalled": "object", "remembered": "object",
    },
    "effect": {"data": "object", "answer": "text", "error": "text"},
    "review": {"question": "text", "choice": "object", "summary": "text", "effects": "list"},
    "verdict": {"reason": "text", "choice": "object"},
    "dead_letter": {"error": "text"},
    "drop": {"reason": "text"},
}  # fmt: skip
"""Kind → the fields of its data that are contents, and what stands there once they are erased."""

LISTS = {"document": "chunks", "retrieval": "results"}
"""Kind → the list in its data whose items' texts are contents, of the scope of the document they are of."""

HASH = "sha256(salt || body)"
"""The SQL expression of a content's hash, which is stored in references only; `Texts.seal` is the same in Python."""

REFERENCES = """regexp_extract_all(held::VARCHAR, '"([0-9]+:[0-9a-f]{64})"', 1)"""
"""The SQL expression of all references that a record holds."""

NOT_KEPT = "no longer kept"

INSTRUCTIONS = "instructions"
"""The application's words, the same for every decision: their scope is their name."""


def number_of(reference: str) -> int:
    """The number of the content that a reference names."""
    return int(reference.partition(":")[0])


def references(held: str | None) -> list[str]:
    """All references of a record, in order."""
    if held is None:
        return []
    told = msgspec.json.decode(held, type=dict[str, str | list[str]])
    return [one for each in told.values() for one in ((each,) if isinstance(each, str) else each)]


def filled(cursor: duckdb.DuckDBPyConnection, rows: Sequence[tuple[str, str | None]]) -> list[dict[str, Any]]:
    """(data, held) of records → their data with the contents in their places; of what was removed, words that say so."""
    bodies = _bodies(cursor, {number_of(one) for _, held in rows for one in references(held)})

    def value(reference: str) -> Any:
        body = bodies.get(number_of(reference))
        return NOT_KEPT if body is None else msgspec.json.decode(body)

    return [_whole(msgspec.json.decode(data), held, value) for data, held in rows]


def _whole(data: dict[str, Any], held: str | None, value: Callable[[str], Any]) -> dict[str, Any]:
    if held is None:
        return data
    for field, reference in msgspec.json.decode(held, type=dict[str, str | list[str]]).items():
        if isinstance(reference, str):
            data[field] = value(reference)
        else:
            for item, one in zip(data.get(field) or (), reference, strict=False):
                item["text"], item["hash"] = value(one), one.partition(":")[2]
    return data


def _bodies(cursor: duckdb.DuckDBPyConnection, numbers: Iterable[int]) -> dict[int, str]:
    # Contents stand in the order of their numbers.
    arms = [f"SELECT n, body FROM contents WHERE {where}" for where in near("n", numbers)]
    return dict(cursor.execute(" UNION ALL ".join(arms)).fetchall()) if arms else {}


def in_place_of(kind: str, field: str, words: str) -> Any:
    """What stands for a field that was removed."""
    match SLOTS.get(kind, {}).get(field, "text"):
        case "object":
            return {"erased": words}
        case "list":
            return []
    return words
