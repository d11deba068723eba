"""names: how an id, or the beginning of one, finds its records among millions.

A name is kept as a number of 64 bits: the first sixteen hex digits of an id that has them (UUIDs, hashes), so that its beginnings are
ranges of numbers; else the MD5 of the text. What is found by number is compared by text afterwards.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from headwater.lineage.beginnings import KINDS, quoted, reaching
from headwater.lineage.event import Position
from headwater.lineage.name_pages import places
from headwater.lineage.near import near
from headwater.lineage.numbering import number as number
from headwater.lineage.record import Record
from headwater.lineage.records import Connection as Connection
from headwater.lineage.records import found_by, known_to, records

SHORTEST = 6

_HEX = "replace(lower(text), '-', '')"
NAME = f"CASE WHEN regexp_matches({_HEX}, '^[0-9a-f]{{16}}') THEN ('0x' || left({_HEX}, 16))::UBIGINT ELSE md5_number_lower(text) END"
"""The SQL expression of a name over a column `text`; `number` is the same in Python, and a test holds them equal."""

_ABOUT_EVENTS = "kind IN ('document', 'dead_letter') AND broker = $1 AND topic = $2 AND \"partition\" = $3"
_BEGINNING = re.compile(r"[0-9a-f]{6,16}")
_SILENT = frozenset(("consumed", "absent", "life", "run", "erasure", "retention"))
_OF_A_DECISION = frozenset(("retrieval", "model", "tool", "note", "ruling"))


class Thing(NamedTuple):
    """Something a record names. `kind` is position, event, document, chunk, activation, decision, effect, review or dead_letter."""

    kind: str
    id: str


def things(record: Record) -> Iterator[Thing]:
    """All that a record names: what it is about and what it came from. Where it lies itself needs no name, see `lying_at`."""
    kind, data = record.kind, record.data
    if kind in _SILENT or (kind == "outcome" and not record.ref):
        return
    if kind == "document":
        yield from _of_document(record, data)
    elif kind == "activation":
        yield Thing("activation", record.ref)
        yield Thing("activation", data.get("episode", ""))
        yield from (Thing("position", parent) for parent in record.parents)
        yield from (Thing("event", event["id"]) for event in data.get("events", ()))
    elif kind == "dead_letter":
        yield Thing("dead_letter", record.ref)
        yield Thing("event", data.get("event") or "")
    elif kind in ("redrive", "drop"):
        yield Thing("dead_letter", record.ref)
        yield Thing("event", data.get("event") or "")
        yield Thing("position", data.get("position") or "")
        yield from (Thing("position", parent) for parent in record.parents)
    elif kind == "verdict":
        yield Thing("review", record.ref)
        yield Thing("decision", data.get("decision", ""))
    elif kind == "outcome":
        yield Thing("position" if record.outcome == "moved" else "decision", record.ref)
    elif kind in _OF_A_DECISION:
        yield Thing("decision", record.ref.partition(":")[0])
        yield from (Thing("chunk", chunk["id"]) for chunk in data.get("results", ()))
    elif kind == "decision":
        yield Thing("decision", record.ref)
        yield Thing("activation", data.get("activation", ""))
    else:
        yield Thing(kind, record.ref)
        yield from (Thing("decision", parent) for parent in record.parents)
        yield Thing("position", data.get("position") or "")


def _of_document(record: Record, data: dict[str, Any]) -> Iterator[Thing]:
    yield Thing("document", record.ref)
    # A document is asked for by its bare name too, without its type.
    yield Thing("document", record.ref.partition("/")[2])
    yield Thing("event", data.get("event") or "")
    yield from (Thing("chunk", chunk["id"]) for chunk in data.get("chunks", ()))


def names_of(record: Record) -> list[str]:
    """Every id by which people may ask for this record."""
    if record.kind == "document":
        # The bulk of all records: the same as below, without the things in between.
        data, ref = record.data, record.ref
        names = {ref, ref.partition("/")[2], data.get("event") or ""}
        names.update([chunk["id"] for chunk in data.get("chunks", ())])
        names.discard("")
        return list(names)
    return [id for id in {id for _, id in things(record)} if id]


def beginning(text: str) -> tuple[int, int] | None:
    """The range of names (both ends included) that begin with the hex digits `text`; None if it is no beginning of a hex id."""
    digits = text.lower().replace("-", "")[:16]
    if not _BEGINNING.fullmatch(digits):
        return None
    return int(digits.ljust(16, "0"), 16), int(digits.ljust(16, "f"), 16)


def mentioning(cursor: Connection, names: Sequence[str], *, limit: int = 5_000) -> list[Record]:
    """The records that name one of these ids, in landing order."""
    wanted = [name for name in dict.fromkeys(names) if name]
    if not wanted:
        return []
    found = _numbered(cursor, naming(cursor, wanted), limit)
    asked = frozenset(wanted)
    return [record for record in found if any(id in asked for _, id in things(record))]


def lying_at(cursor: Connection, tokens: Iterable[str]) -> list[Record]:
    """The documents and dead letters of the events at these positions, in landing order.

    Offsets rise as records land, so the zone maps of `first` leave little to read, however many positions are asked for.
    """
    lanes: dict[tuple[str, str, int], list[int]] = {}
    for token in tokens:
        broker, topic, partition, offset = Position.parse(token)
        lanes.setdefault((broker, topic, partition), []).append(offset)
    known = known_to(cursor)
    seqs: set[int] = set()
    for lane, offsets in lanes.items():
        fresh = records(cursor, (f"{where} AND {_ABOUT_EVENTS}" for where in near('"first"', offsets)), lane)
        known.update(fresh)
        seqs.update(fresh)
    return [known[seq] for seq in sorted(seqs)]


def beginning_with(cursor: Connection, text: str, *, limit: int = 500) -> list[Record]:
    """The records that name an id beginning with `text`."""
    ends = beginning(text)
    found = _numbered(cursor, places(cursor, [ends])[ends], limit) if ends else []
    matching = [record for record in found if any(begins(id, text) for _, id in things(record))]
    if matching or (ends and ends[0] == ends[1]):  # whatever begins so has these digits, and was found if it is there
        return matching
    # Ids that are no hex digits have no order among the names: read the texts, of those that may have one.
    told = f"kind IN {KINDS} AND (starts_with(ref, $1) OR contains(ref, '/' || $1) OR contains(data::VARCHAR, $2))"
    conditions = (f"{where} AND {told}" for where in reaching(cursor, text))
    return list(records(cursor, conditions, [text, quoted(text)], limit=limit).values())


def begins(id: str, text: str) -> bool:
    """Whether an id begins with a text; dashes and case do not count."""
    return id.startswith(text) or id.lower().replace("-", "").startswith(text.lower().replace("-", ""))


def naming(cursor: Connection, names: Sequence[str]) -> list[int]:
    """The `seq` of each record that names one of these, in landing order; now and then of one that does not.

    A question looks for each name once: whoever will ask for several, one after the other, may ask for all of them first.
    """
    found = found_by(cursor)
    wanted = [number(name) for name in names]
    sought = {one: (one, one) for one in wanted if one not in found}
    placed = places(cursor, sought.values())
    found.update((one, placed[each]) for one, each in sought.items())
    return sorted({seq for one in wanted for seq in found[one]})


def _numbered(cursor: Connection, seqs: Sequence[int], limit: int) -> list[Record]:
    """The newest of these records, in landing order. Those that this question has read already are not read again."""
    wanted = seqs[-limit:]
    known = known_to(cursor)
    known.update(records(cursor, near("seq", (seq for seq in wanted if seq not in known))))
    return [known[seq] for seq in wanted if seq in known]
