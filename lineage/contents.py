"""contents: what people and the outside said, kept apart from the records that tell that it was said.

Each text (a chunk, query, prompt, answer, argument, rationale, …) is stored once, in `contents`; its record holds in its place a reference
`number:hash`, in the column `held`. The hash is SHA-256 of a salt and the text, and a record's leaf covers `held`: so a content may be
removed, its salt with it, and the chain proves as before. Without the salt the hash tells nothing, not even to who guesses the text.

The salt is a keyed hash of the text and its scope (the document it is of, or the record it stands in): what is said again gets the same
reference, but two documents never share one. Every erasure throws the key away.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import duckdb
import msgspec

from headwater.lineage.record import Record

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
"""The SQL expression of a content's hash; `sealed` is the same in Python."""

REFERENCES = """regexp_extract_all(held::VARCHAR, '"([0-9]+:[0-9a-f]{64})"', 1)"""
"""The SQL expression of all references that a record holds."""

NOT_KEPT = "no longer kept"

_INSTRUCTIONS = "instructions"
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Content(NamedTuple):
    """A content with its hash; `body` is its JSON."""

    hash: str
    salt: str
    body: str


class Part(NamedTuple):
    """A record without its contents: `data` as JSON, and `held` (field → hash, or a list of hashes), None if it has none."""

    data: bytes
    held: dict[str, str | list[str]] | None


def sealed(key: bytes, scope: str, value: Any) -> Content:
    """A value as a content of a scope, under the store's key (32 bytes)."""
    body = _encode(value)
    salt = hashlib.blake2b(scope.encode() + b"\x1f" + body, key=key, digest_size=16).hexdigest()
    return Content(hashlib.sha256(salt.encode() + body).hexdigest(), salt, body.decode())


def parted(record: Record, key: bytes, found: dict[str, Content]) -> Part:
    """The record without its contents, which are put into `found` by their hashes."""
    slots, listed = SLOTS.get(record.kind), LISTS.get(record.kind)
    if slots is None:
        return Part(_encode(record.data), None)
    data: dict[str, Any] = dict(record.data)
    held: dict[str, str | list[str]] = {}
    ref = record.ref
    for field in slots:
        value = data.get(field)
        if value or value == 0:  # what is empty says nothing
            del data[field]
            content = sealed(key, field if field == _INSTRUCTIONS else ref, value)
            found[content.hash] = content
            held[field] = content.hash
    if listed and (items := data.get(listed)):
        own, hashes, rest = record.kind == "document", [], []
        for item in items:
            bare = dict(item)
            content = sealed(key, ref if own else str(item.get("document") or ref), bare.pop("text", None) or "")
            bare.pop("hash", None)
            found[content.hash] = content
            hashes.append(content.hash)
            rest.append(bare)
        held[listed], data[listed] = hashes, rest
    return Part(_encode(data), held or None)


def referring(held: Mapping[str, str | list[str]] | None, numbers: Mapping[str, int]) -> str | None:
    """`held` as it is stored: each hash with the number of its content."""
    if held is None:
        return None
    told = {
        field: f"{numbers[hash]}:{hash}" if isinstance(hash, str) else [f"{numbers[one]}:{one}" for one in hash]
        for field, hash in held.items()
    }
    return _encode(told).decode()


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
    wanted = sorted(numbers)
    if not wanted:
        return {}
    # Contents stand in the order of their numbers: the bounds leave little to read.
    query = "SELECT n, body FROM contents WHERE n BETWEEN ? AND ? AND list_contains(?, n)"
    return dict(cursor.execute(query, [wanted[0], wanted[-1], wanted]).fetchall())


def in_place_of(kind: str, field: str, words: str) -> Any:
    """What stands for a field that was removed."""
    match SLOTS.get(kind, {}).get(field, "text"):
        case "object":
            return {"erased": words}
        case "list":
            return []
    return words
