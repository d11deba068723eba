"""erase: what there is about a subject, and its removal. Pure reading; `Store.remove` does it.

A subject is a document (`type/id`, or its bare id), a key of events, or an event. What goes: the texts of its documents in every record,
what agents that were shown them asked, were told and answered, and what was decided for that key. Ids, keys, times, numbers stay.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from headwater.lineage.contents import LISTS, NOT_KEPT, SLOTS, in_place_of, number_of
from headwater.lineage.errors import NotFound
from headwater.lineage.names import Connection, lying_at, mentioning
from headwater.lineage.record import Record
from headwater.lineage.records import records
from headwater.lineage.removal import Removal
from headwater.lineage.verify import Source

MOST = 1_000_000
"""Records about one subject."""
LISTED = 1_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What erasing a subject would take.

    documents  whose texts go;  decisions  whose reasoning goes
    records    that are concerned;  texts  contents that go
    followed   documents that came of what those decisions published: they are erased by their own names, if they are to go
    """

    subject: str
    documents: tuple[str, ...]
    decisions: tuple[str, ...]
    records: int
    texts: int
    followed: tuple[str, ...] = ()


def plan(source: Source, subject: str, *, by: str, why: str, day: str) -> tuple[Plan, Removal]:
    """What is about a subject, and how it is removed: `day` is told in its place. Raises NotFound if nothing names it."""
    with source.cursor() as cursor:
        cursor.begin()
        try:
            return _plan(cursor, subject.strip(), by, why, day)
        finally:
            cursor.rollback()


def _plan(cursor: Connection, subject: str, by: str, why: str, day: str) -> tuple[Plan, Removal]:
    about = _about(cursor, subject)
    documents = frozenset(record.ref for record in about if record.kind == "document")
    versions = [record for record in mentioning(cursor, list(documents), limit=MOST) if record.ref in documents]
    chunks = [chunk["id"] for record in versions for chunk in record.data.get("chunks") or ()]
    looks = [record for record in mentioning(cursor, chunks, limit=MOST) if record.kind == "retrieval"]
    woken = [record.ref for record in about if record.kind == "activation"]
    decided = [record for record in mentioning(cursor, woken, limit=MOST) if record.kind == "decision"]
    decisions = {record.ref.partition(":")[0] for record in (*looks, *decided)}
    reasoning = mentioning(cursor, list(decisions), limit=MOST)
    reviews = mentioning(cursor, [record.ref for record in reasoning if record.kind == "review"], limit=MOST)
    events = [record.data.get("event") or "" for record in versions]
    buried = [record for record in mentioning(cursor, events, limit=MOST) if record.kind in ("dead_letter", "drop")]
    found = {record.id: record for record in (*about, *versions, *looks, *reasoning, *reviews, *buried) if record.kind in SLOTS}
    if not found:
        raise NotFound(f"no record is about {subject!r}: give a document (TYPE/ID or its id), the key of events, or an event's id")
    removal = Removal("erasure", by, why, subject)
    _collect(cursor, found, documents, f"erased on {day}", removal)
    followed = _followed(cursor, reasoning, documents)
    removal.told = {"documents": sorted(documents)[:LISTED], "decisions": sorted(decisions)[:LISTED], "concerned": len(found)}
    texts = len(removal.contents) + len(removal.rewritten)
    plan = Plan(
        subject=subject, documents=tuple(sorted(documents)), decisions=tuple(sorted(decisions)), records=len(found), texts=texts,
        followed=followed,
    )  # fmt: skip
    return plan, removal


def _about(cursor: Connection, subject: str) -> list[Record]:
    """Documents, activations and whatever else names the subject: as its id, as the key or the subject of its events."""
    found = mentioning(cursor, [subject], limit=MOST)
    quoted = msgspec.json.encode(subject).decode()
    where = "kind IN ('activation', 'document', 'effect', 'review') AND contains(data::VARCHAR, ?)"
    for record in records(cursor, [where], [quoted]).values():
        data = record.data
        mine = [event for event in data.get("events") or () if event.get("key") == subject]
        if subject in (data.get("key"), data.get("subject"), data.get("document")) or mine:
            found.append(record)
            broker = record.parents[0].partition("/")[0] if record.parents else ""
            found += lying_at(cursor, [f"{broker}/{event['topic']}/{event['partition']}/{event['offset']}" for event in mine])
    return found


def _followed(cursor: Connection, reasoning: Iterable[Record], documents: frozenset[str]) -> tuple[str, ...]:
    places = [record.data.get("position") for record in reasoning if record.kind == "effect"]
    found = lying_at(cursor, [place for place in places if place and place.count("/") == 3])
    return tuple(sorted({record.ref for record in found if record.kind == "document"} - documents))


def _collect(cursor: Connection, found: dict[str, Record], documents: frozenset[str], words: str, removal: Removal) -> None:
    """Which contents of the records go, and how records look that hold their texts themselves."""
    numbers: dict[int, str] = {}
    for seq, kind, data, held in _as_stored(cursor, list(found)):
        if held is None:
            if bare := _without(kind, msgspec.json.decode(data), documents, words):
                removal.rewritten[seq] = msgspec.json.encode(bare).decode()
        else:
            numbers.update(_going(kind, msgspec.json.decode(data), msgspec.json.decode(held), documents, words))
    there = cursor.execute("SELECT n FROM contents WHERE salt IS NOT NULL AND list_contains(?, n)", [list(numbers)]).fetchall()
    removal.contents = {n: body for n, body in sorted(numbers.items()) if (n,) in there}


def _as_stored(cursor: Connection, ids: list[str]) -> Iterable[tuple[int, str, str, str | None]]:
    for start in range(0, len(ids), 10_000):
        query = "SELECT seq, kind, data, held FROM records WHERE list_contains(?, id)"
        yield from cursor.execute(query, [ids[start : start + 10_000]]).fetchall()


def _going(kind: str, data: dict[str, Any], held: dict[str, Any], documents: frozenset[str], words: str) -> Iterable[tuple[int, str]]:
    for field, reference in held.items():
        if field == "instructions":  # the application's words, the same for every decision
            continue
        if isinstance(reference, str):
            yield number_of(reference), msgspec.json.encode(in_place_of(kind, field, words)).decode()
            continue
        for item, one in zip(data.get(field) or (), reference, strict=False):
            if kind == "document" or item.get("document") in documents:
                yield number_of(one), msgspec.json.encode(words).decode()


def _without(kind: str, data: dict[str, Any], documents: frozenset[str], words: str) -> dict[str, Any] | None:
    """The data of a record that holds its texts itself, without them; None if there are none, or they went before."""
    bare = dict(data)
    for field in SLOTS[kind]:
        value = data.get(field)
        if (value or value == 0) and field != "instructions" and not _gone(value):
            bare[field] = in_place_of(kind, field, words)
    listed = LISTS.get(kind, "")
    if data.get(listed):
        bare[listed] = [_bare(item, kind, documents, words) for item in data[listed]]
    return bare if bare != data else None


def _bare(item: dict[str, Any], kind: str, documents: frozenset[str], words: str) -> dict[str, Any]:
    if (kind != "document" and item.get("document") not in documents) or _gone(item.get("text")):
        return item
    return {**item, "text": words, **({"hash": ""} if "hash" in item else {})}


def _gone(value: Any) -> bool:
    text = value.get("erased") if isinstance(value, dict) and len(value) == 1 else value
    return isinstance(text, str) and (text.startswith("erased on ") or text == NOT_KEPT)
