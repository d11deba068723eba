"""names: how an id, or the beginning of one, finds its records among millions.

A name is kept as a number of 64 bits: the first sixteen hex digits of an id that has them (UUIDs, hashes), so that its beginnings are
ranges of numbers; else the MD5 of the text. What is found by number is compared by text afterwards.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import duckdb
import msgspec

from headwater.lineage.contents import filled
from headwater.lineage.event import Position
from headwater.lineage.record import Record

Connection = duckdb.DuckDBPyConnection

NAMES_IN_A_RUN = 4_000_000
"""A look-up reads a row group of every run, and all that is not in a run yet: runs of a million took four times as long to look into."""
SINGLY = 64
"""So many names are looked up one by one, each in the row groups that may hold it; more of them in one go through all that there is."""
SHORTEST = 6

_HEX = "replace(lower(text), '-', '')"
NAME = f"CASE WHEN regexp_matches({_HEX}, '^[0-9a-f]{{16}}') THEN ('0x' || left({_HEX}, 16))::UBIGINT ELSE md5_number_lower(text) END"
"""The SQL expression of a name over a column `text`; `number` is the same in Python, and a test holds them equal."""

_WHOLE = re.compile(r"[0-9a-f]{16}")
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


def number(text: str) -> int:
    """The name of an id, as a number."""
    digits = text.lower().replace("-", "")[:16]
    if _WHOLE.fullmatch(digits):
        return int(digits, 16)
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:], "little")


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
    found = _numbered(cursor, naming(wanted), limit)
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
    found: list[Record] = []
    for lane, offsets in lanes.items():
        listed = ", ".join(map(str, offsets))
        where = (
            f'"first" BETWEEN {min(offsets)} AND {max(offsets)} AND "first" IN ({listed}) AND kind IN (\'document\', \'dead_letter\') '
            'AND broker = ? AND topic = ? AND "partition" = ?'
        )
        found.extend(records(cursor, where, lane))
    return found


def beginning_with(cursor: Connection, text: str, *, limit: int = 500) -> list[Record]:
    """The records that name an id beginning with `text`."""
    ends = beginning(text)
    found = _numbered(cursor, _rows(f"name BETWEEN {ends[0]} AND {ends[1]}"), limit) if ends else []
    matching = [record for record in found if any(begins(id, text) for _, id in things(record))]
    if matching:
        return matching
    # Ids that are no hex digits have no order among the names: read the texts.
    quoted = msgspec.json.encode(text).decode().rstrip('"')
    where = (
        "kind IN ('document', 'dead_letter', 'activation') "
        "AND (starts_with(ref, $1) OR contains(ref, '/' || $1) OR contains(data::VARCHAR, $2))"
    )
    return records(cursor, where, [text, quoted], limit=limit)


def begins(id: str, text: str) -> bool:
    """Whether an id begins with a text; dashes and case do not count."""
    return id.startswith(text) or id.lower().replace("-", "").startswith(text.lower().replace("-", ""))


def naming(names: Sequence[str]) -> str:
    """The SQL that gives the `seq` of each record that names one of these, some of them more than once."""
    numbers = sorted({number(name) for name in names})
    listed = f"name IN ({', '.join(map(str, numbers))})"
    if len(numbers) > SINGLY:
        return _rows(listed)
    singly = (f"SELECT seq FROM names WHERE name = {one}" for one in numbers)
    return " UNION ALL ".join((f"SELECT seq FROM names_new WHERE {listed}", *singly))


def _rows(where: str) -> str:
    return f"SELECT seq FROM (SELECT seq, name FROM names UNION ALL SELECT seq, name FROM names_new) WHERE {where}"


def sort_names(connection: Connection) -> None:
    """Once enough names have come, put them into the long table as one sorted run, of which a look-up reads a small part."""
    if connection.execute("SELECT count(*) FROM names_new").fetchall()[0][0] >= NAMES_IN_A_RUN:
        connection.execute("INSERT INTO names SELECT name, seq FROM names_new ORDER BY name, seq")
        connection.execute("DELETE FROM names_new")


def _numbered(cursor: Connection, query: str, limit: int) -> list[Record]:
    numbers = [seq for (seq,) in cursor.execute(f"SELECT DISTINCT seq FROM ({query}) LIMIT {limit}").fetchall()]
    return records(cursor, f"seq IN ({', '.join(map(str, numbers))})") if numbers else []


_COLUMNS = (
    'id, kind, flow, step, ref, parents, broker, topic, "partition", "first", "next", "count", outcome, '
    'epoch_us("time"), epoch_us(logged), data, held'
)  # fmt: skip


def records(cursor: Connection, where: str, parameters: Iterable[object] = (), *, limit: int | None = None) -> list[Record]:
    """The records for which the SQL condition holds, in landing order, with their contents."""
    tail = f" LIMIT {limit}" if limit else ""
    rows = cursor.execute(f"SELECT {_COLUMNS} FROM records WHERE {where} ORDER BY seq{tail}", list(parameters)).fetchall()
    whole = filled(cursor, [row[-2:] for row in rows])
    return [_record(*(*row[:-2], data)) for row, data in zip(rows, whole, strict=True)]


def _record(
    id: str, kind: str, flow: str, step: str, ref: str, parents: list[str], broker: str, topic: str, partition: int,
    first: int, next: int, count: int, outcome: str, at: int | None, logged: int, data: dict[str, Any],
) -> Record:  # fmt: skip
    return Record(
        id=id, kind=kind, flow=flow, step=step, ref=ref, parents=tuple(parents), broker=broker, topic=topic, partition=partition,
        first=first, next=next, count=count, outcome=outcome, at=at, logged=logged, data=data,
    )  # fmt: skip
