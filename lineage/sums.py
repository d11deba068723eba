"""sums: how much events, decisions and all else have added to the database, kept as batches land and things are removed.

Whoever asks need not size every record then. They change in the transaction of what they tell of, so they are right whatever is killed.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this module; what comes from outside is a parameter)

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.lineage.name_pages import placed

Connection = duckdb.DuckDBPyConnection
Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

EVENT, DECISION, OTHER = WHAT = ("event", "decision", "other")
"""What a record falls to. A document's texts fall to events, also where a decision's search told of them first."""

_DECIDING = ("activation", "retrieval", "model", "tool", "note", "ruling", "decision", "effect", "review", "verdict")
_DECIDE = "decide/"
_OF_EVENTS = ("document", "dead_letter", "redrive", "drop", "consumed", "absent", "outcome")

_FALLS_TO = f"""CASE WHEN kind IN {_DECIDING} OR starts_with(flow, '{_DECIDE}') THEN '{DECISION}'
    WHEN kind IN {_OF_EVENTS} THEN '{EVENT}' ELSE '{OTHER}' END"""

_FIXED = 92
"""Bytes of a record's numbers, times and leaf; its texts are counted as they are."""
_TEXTS = ("id", "kind", "flow", "step", "ref", "broker", "topic", "outcome", "data", "held")
_NUMBER = 16
"""Bytes of a content's number and name."""
NAME = 8
"""Bytes of a name and its place, as pages have them."""

_RECORD_BYTES = f"{_FIXED} + strlen(array_to_string(parents, '')) + " + " + ".join(f"coalesce(strlen({of}::VARCHAR), 0)" for of in _TEXTS)
_CONTENT_BYTES = f"{_NUMBER} + strlen(body) + coalesce(strlen(salt), 0)"

STATEMENTS = (
    "CREATE TABLE IF NOT EXISTS sums (what VARCHAR, records BIGINT, record_bytes BIGINT, texts BIGINT, text_bytes BIGINT, names BIGINT)",
    # Whether a content falls to decisions: it does not where it is one of a list, as documents' are.
    "ALTER TABLE contents ADD COLUMN IF NOT EXISTS decided BOOLEAN DEFAULT false",
    f"""UPDATE contents SET decided = true WHERE n IN (
        SELECT number_of(told.value->>'$') FROM records, json_each(held) told
        WHERE held IS NOT NULL AND {_FALLS_TO} = '{DECISION}' AND json_type(told.value) = 'VARCHAR')""",
)
"""The form of the database that this needs."""


class Sum(NamedTuple):
    """How many records, contents and names fall to something, and bytes of the former two, as they are before the file packs them."""

    records: int = 0
    record_bytes: int = 0
    texts: int = 0
    text_bytes: int = 0
    names: int = 0


def own(kind: str, flow: str, held: str) -> list[str]:
    """The references of a record's texts that fall to decisions."""
    if kind not in _DECIDING and not flow.startswith(_DECIDE):
        return []
    return [one for one in msgspec.json.decode(held, type=dict[str, str | list[str]]).values() if isinstance(one, str)]


def added(rows: pa.Table, contents: pa.Table | None, names: pa.Table | None) -> dict[str, Sum]:
    """What a batch adds: rows as `landing.table` makes them, in landing order, and the contents and names that land with them."""
    falls = _falls_to(rows)
    sizes = _FIXED + _parents(rows["parents"].combine_chunks()) + _lengths(rows, _TEXTS)
    decided = _numbers(contents["decided"]).astype(np.int64) if contents else np.empty(0, np.int64)
    bodies = _NUMBER + _lengths(contents, ("body", "salt")) if contents else decided
    named = falls[_numbers(names["seq"]) - rows["seq"][0].as_py()] if names else decided
    found = {}
    for place, what in enumerate(WHAT):
        mine, texts = falls == place, decided == place
        found[what] = Sum(*map(int, (mine.sum(), sizes[mine].sum(), texts.sum(), bodies[texts].sum(), (named == place).sum())))
    return found


def _falls_to(rows: pa.Table) -> Numbers:
    """Of each row the place in WHAT of what it falls to."""
    kinds, of_events = pa.array(_DECIDING), pa.array(_OF_EVENTS)
    deciding = _of_each(rows["kind"], lambda kind: pc.is_in(kind, kinds))
    deciding |= _of_each(rows["flow"], lambda flow: pc.starts_with(flow, _DECIDE))
    return np.where(deciding, 1, np.where(_of_each(rows["kind"], lambda kind: pc.is_in(kind, of_events)), 0, 2))


def _lengths(rows: pa.Table, texts: Iterable[str]) -> Numbers:
    """Of each row the bytes of these columns."""
    found = np.zeros(rows.num_rows, np.int64)
    for text in texts:
        found += _of_each(rows[text], lambda texts: pc.fill_null(pc.binary_length(texts), 0))
    return found


def _of_each(texts: pa.ChunkedArray, said: Callable[[Any], Any]) -> Numbers:
    """What is said of each text; where they are given as a dictionary, each of that is asked about once."""
    if not pa.types.is_dictionary(texts.type):
        return _numbers(said(texts))
    whole = texts.combine_chunks()
    return _numbers(said(whole.dictionary).take(whole.indices))


def _parents(lists: pa.ListArray) -> Numbers:
    """Bytes of all texts of each list."""
    until = np.concatenate(([0], np.cumsum(pc.binary_length(lists.flatten()).to_numpy(zero_copy_only=False))))
    ends = lists.offsets.to_numpy() - lists.offsets[0].as_py()
    return np.asarray(until[ends[1:]] - until[ends[:-1]])


def _numbers(column: pa.Array | pa.ChunkedArray) -> Numbers:
    return np.asarray(column)


def add(connection: Connection, more: Mapping[str, Sum], sign: int = 1) -> None:
    """Add to what is kept (or take away), within the transaction that lands (or removes) it."""
    plus = ", ".join(f"{field} = {field} + ?" for field in Sum._fields)
    for what, each in more.items():
        if any(each):
            connection.execute(f"UPDATE sums SET {plus} WHERE what = ?", [*(sign * number for number in each), what])


def begin(connection: Connection) -> None:
    """Count all that there is, unless sums are kept already."""
    if not connection.execute("SELECT count(*) FROM sums").fetchall()[0][0]:
        count_anew(connection)


def count_anew(connection: Connection) -> None:
    """Keep what counting everything says."""
    connection.execute("DELETE FROM sums")
    connection.executemany("INSERT INTO sums VALUES (?, ?, ?, ?, ?, ?)", [(what, *each) for what, each in counted(connection).items()])


def kept(connection: Connection) -> dict[str, Sum]:
    """The sums as they are kept."""
    rows = connection.execute(f"SELECT what, {', '.join(Sum._fields)} FROM sums").fetchall()
    return {what: Sum(*numbers) for what, *numbers in rows}


def counted(connection: Connection) -> dict[str, Sum]:
    """The sums by counting everything: at ten million records it takes half a minute of CPU."""
    found = _sized(connection, "true", "true")
    return {what: found[what]._replace(names=names) for what, names in zip(WHAT, _named(connection), strict=True)}


@contextmanager
def removing(connection: Connection, rewritten: Iterable[int], contents: Iterable[int], pruned: Sequence[int]) -> Iterator[None]:
    """Keep the sums right while records with these `seq` are changed or taken out, and contents with these numbers changed."""
    connection.register("sums_records", pa.table({"seq": pa.array([*rewritten, *pruned], pa.int64())}))
    connection.register("sums_contents", pa.table({"n": pa.array(list(contents), pa.int64())}))
    where = ("seq IN (FROM sums_records)", "n IN (FROM sums_contents)")
    try:
        add(connection, _sized(connection, *where), -1)
        yield
        add(connection, _sized(connection, *where))
    finally:
        connection.unregister("sums_records")
        connection.unregister("sums_contents")
    if len(pruned):
        for what, names in zip(WHAT, _named(connection), strict=True):
            connection.execute("UPDATE sums SET names = ? WHERE what = ?", [names, what])


def _sized(connection: Connection, records: str, contents: str) -> dict[str, Sum]:
    """The sums, but for names, of the records and contents of which these conditions hold."""
    told = f"SELECT {_FALLS_TO}, count(*), sum({_RECORD_BYTES})::BIGINT FROM records WHERE {records} GROUP BY ALL"
    found = {**dict.fromkeys(WHAT, Sum()), **{what: Sum(*numbers) for what, *numbers in connection.execute(told).fetchall()}}
    said = f"SELECT decided, count(*), sum({_CONTENT_BYTES})::BIGINT FROM contents WHERE {contents} GROUP BY ALL"
    for decided, texts, text_bytes in connection.execute(said).fetchall():
        found[WHAT[decided]] = found[WHAT[decided]]._replace(texts=texts, text_bytes=text_bytes)
    return found


def _named(connection: Connection) -> list[int]:
    """How many names fall to each of WHAT."""
    last = connection.execute("SELECT coalesce(max(seq), -1) FROM records").fetchall()[0][0]
    falls = np.zeros(last + 1, np.int8)
    query = f"SELECT seq FROM records WHERE {_FALLS_TO} = ?"
    for place, what in enumerate(WHAT[1:], 1):
        falls[connection.execute(query, [what]).fetchnumpy()["seq"].astype(np.int64)] = place
    found = np.zeros(len(WHAT), np.int64)
    for seqs in placed(connection):
        found += np.bincount(falls[seqs], minlength=len(WHAT))
    return [int(names) for names in found]
