"""records: read from the database, with their contents in their places; and a question that reads each but once."""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, Protocol, cast

import duckdb

from headwater.lineage.contents import filled
from headwater.lineage.record import Record

Connection = duckdb.DuckDBPyConnection

_COLUMNS = (
    'id, kind, flow, step, ref, parents, broker, topic, "partition", "first", "next", "count", outcome, '
    'epoch_us("time"), epoch_us(logged), seq, data, held'
)  # fmt: skip


class Origin(Protocol):
    """What gives cursors: a Store or a DuckDB connection."""

    def cursor(self) -> Connection: ...


class Question:
    """A cursor over one snapshot, and what was read with it, so that nothing is read twice.

    known  seq → record;  found  name, as a number → the `seq` of the records that may have it
    """

    def __init__(self, cursor: Connection) -> None:
        self._cursor = cursor
        self.known: dict[int, Record] = {}
        self.found: dict[int, list[int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@contextmanager
def question(source: Origin) -> Iterator[Connection]:
    """One question: all that is read with it is of one moment, and read once."""
    with source.cursor() as cursor:
        cursor.begin()
        try:
            yield cast(Connection, Question(cursor))
        finally:
            cursor.rollback()


def known_to(cursor: Connection) -> dict[int, Record]:
    """seq → record, of those that this question has read; of a cursor that is none, an empty one."""
    return cursor.known if isinstance(cursor, Question) else {}


def found_by(cursor: Connection) -> dict[int, list[int]]:
    """Name, as a number → where it was found by this question; of a cursor that is none, an empty one."""
    return cursor.found if isinstance(cursor, Question) else {}


def records(
    cursor: Connection, conditions: Iterable[str], parameters: Iterable[object] = (), *, limit: int | None = None
) -> dict[int, Record]:
    """seq → record, of those for which one of the SQL conditions holds, with their contents, in landing order; `limit` of them at most.

    No record may fulfil two. Parameters are numbered, and the same for all.
    """
    arms = [f"SELECT {_COLUMNS} FROM records WHERE {where}" for where in conditions]
    if not arms:
        return {}
    tail = f" LIMIT {limit}" if limit else ""
    rows = cursor.execute(" UNION ALL ".join(arms) + tail, list(parameters)).fetchall()
    rows.sort(key=itemgetter(-3))
    whole = filled(cursor, [row[-2:] for row in rows])
    return {row[-3]: _record(*(*row[:-3], data)) for row, data in zip(rows, whole, strict=True)}


def _record(
    id: str, kind: str, flow: str, step: str, ref: str, parents: list[str], broker: str, topic: str, partition: int,
    first: int, next: int, count: int, outcome: str, at: int | None, logged: int, data: dict[str, Any],
) -> Record:  # fmt: skip
    return Record(
        id=id, kind=kind, flow=flow, step=step, ref=ref, parents=tuple(parents), broker=broker, topic=topic, partition=partition,
        first=first, next=next, count=count, outcome=outcome, at=at, logged=logged, data=data,
    )  # fmt: skip
