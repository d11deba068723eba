"""name_pages: names in sorted runs, each cut into pages, so that a look-up reads one page of every run and no more.

Names come into `names_new` as they are. So many of them become a short run, so many short runs a long one, which is never sorted again.
Of a name a page keeps the upper half, 32 bits: that now and then finds a record too many, which its text then tells. A page is a row of
`name_pages`: the least and the greatest name in it, what its `seq` have in common (`base`), and a body of all names, then all `seq` less
`base`, as little-endian numbers of 32 bits.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside are numbers)

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa

Connection = duckdb.DuckDBPyConnection
Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Between: TypeAlias = tuple[int, int]
"""Names of 64 bits from the first to the second, both included."""

NAMES_IN_A_RUN = 131_072
"""So many names wait unsorted, at most: a look-up reads them all."""
NAMES_IN_A_LONG_RUN = 4_194_304
NAMES_IN_A_PAGE = 1_024
PAGES_AT_ONCE = 4_096
SINGLY = 128
"""So many names are looked up one by one, each in the pages that may hold it; for more of them all pages are read."""
SHORT, LONG = 1, 2

_HALF = 32
_LOWER = 0xFFFF_FFFF
_PAGE = "low, high, base, body"


def sort_names(connection: Connection) -> None:
    """Once enough names have come, make a run of them; once enough short runs are there, make a long one of these."""
    count = connection.execute("SELECT count(*) FROM names_new").fetchall()[0][0]
    if count < NAMES_IN_A_RUN:
        return
    for start in range(0, count, NAMES_IN_A_LONG_RUN):
        rows = connection.execute("SELECT name, seq FROM names_new LIMIT ? OFFSET ?", [NAMES_IN_A_LONG_RUN, start]).fetchnumpy()
        level = LONG if len(rows["seq"]) == NAMES_IN_A_LONG_RUN else SHORT
        _add(connection, rows["name"].astype(np.uint64) >> _HALF, rows["seq"].astype(np.int64), level)
    connection.execute("DELETE FROM names_new")
    _lengthen(connection)


def _lengthen(connection: Connection) -> None:
    pages = connection.execute(f"SELECT count(*) FROM name_pages WHERE level = {SHORT}").fetchall()[0][0]
    if pages * NAMES_IN_A_PAGE >= NAMES_IN_A_LONG_RUN:
        rows = connection.execute(f"SELECT base, body FROM name_pages WHERE level = {SHORT}").fetchall()
        names, places = zip(*(_unpacked(body, base) for base, body in rows), strict=True)
        connection.execute(f"DELETE FROM name_pages WHERE level = {SHORT}")
        _add(connection, np.concatenate(names).astype(np.uint64), np.concatenate(places), LONG)


def _add(connection: Connection, names: Numbers, places: Numbers, level: int) -> None:
    """A run of these names; of more than 2^32 places more than one."""
    upper = places >> _HALF
    for base in np.unique(upper).tolist():
        chosen = upper == base
        both = names[chosen] << _HALF | (places[chosen] & _LOWER).astype(np.uint64)
        both.sort()
        pages = [both[start : start + NAMES_IN_A_PAGE] for start in range(0, len(both), NAMES_IN_A_PAGE)]
        rows = [(int(page[0]) >> _HALF, int(page[-1]) >> _HALF, base << _HALF, _packed(page)) for page in pages]
        _insert(connection, rows, level)


def _packed(page: Numbers) -> bytes:
    return (page >> _HALF).astype("<u4").tobytes() + (page & _LOWER).astype("<u4").tobytes()


def _unpacked(body: bytes, base: int) -> tuple[Numbers, Numbers]:
    """The names of a page and, for each, the record that it names."""
    names, places = np.frombuffer(body, "<u4").reshape(2, -1)
    return names, places.astype(np.int64) + base


def _insert(connection: Connection, rows: Sequence[tuple[int, int, int, bytes]], level: int) -> None:
    low, high, base, body = zip(*rows, strict=True)
    table = {
        "level": pa.repeat(pa.scalar(level, pa.uint8()), len(rows)), "low": pa.array(low, pa.uint32()), "high": pa.array(high, pa.uint32()),
        "base": pa.array(base, pa.int64()), "body": pa.array(body, pa.binary()),
    }  # fmt: skip
    connection.register("paging", pa.table(table))
    try:
        connection.execute("INSERT INTO name_pages BY NAME FROM paging")
    finally:
        connection.unregister("paging")


def places(cursor: Connection, ranges: Iterable[Between]) -> list[int]:
    """The `seq` of each record that may have a name in one of these ranges, in order; a record may be there that has none."""
    asked = sorted(set(ranges))
    if not asked:
        return []
    several = len(asked) > SINGLY
    new = "SELECT NULL AS low, NULL AS high, seq AS base, NULL AS body FROM names_new WHERE " + _waiting(asked)
    halves = sorted({(low >> _HALF, high >> _HALF) for low, high in asked})
    paged = (
        (f"SELECT {_PAGE} FROM name_pages",) if several
        else tuple(f"SELECT {_PAGE} FROM name_pages WHERE low <= {high} AND high >= {low}" for low, high in halves)
    )  # fmt: skip
    cursor.execute(" UNION ALL ".join((new, *paged)))
    found: set[int] = set()
    while rows := cursor.fetchmany(PAGES_AT_ONCE):
        for low, high, base, body in rows:
            if body is None:
                found.add(base)
            else:
                found.update(_on_page(body, base, _overlapping(halves, low, high)))
    return sorted(found)


def _waiting(asked: Sequence[Between]) -> str:
    single = ", ".join(str(low) for low, high in asked if low == high)
    wide = [f"name BETWEEN {low} AND {high}" for low, high in asked if low != high]
    return " OR ".join(([f"name IN ({single})"] if single else []) + wide)


def _overlapping(halves: Sequence[Between], low: int, high: int) -> Sequence[Between]:
    """Those of the sorted ranges that reach into a page. Wide ranges are asked for alone, so that their ends are sorted too."""
    return halves[bisect_left(halves, low, key=_end) : bisect_right(halves, high, key=_begin)]


def _begin(one: Between) -> int:
    return one[0]


def _end(one: Between) -> int:
    return one[1]


def _on_page(body: bytes, base: int, halves: Iterable[Between]) -> Iterator[int]:
    numbers = memoryview(body).cast("I")
    count = len(numbers) // 2
    for low, high in halves:
        start = bisect_left(numbers, low, 0, count)
        for at in range(start, bisect_right(numbers, high, start, count)):
            yield base + numbers[count + at]


def forget(connection: Connection, seqs: Sequence[int]) -> None:
    """Take the names of these records out of all pages."""
    gone = np.array(sorted(seqs), dtype=np.int64)
    for level, rows in _batches(connection):
        changed = [(at, _without(row, gone)) for at, *row in rows]
        new = [(at, row) for at, row in changed if row is not None]
        if not new:
            continue
        listed = ", ".join(str(at) for at, _ in new)
        connection.execute(f"DELETE FROM name_pages WHERE rowid BETWEEN {new[0][0]} AND {new[-1][0]} AND rowid IN ({listed})")
        if left := [row for _, row in new if row[3]]:
            _insert(connection, left, level)


def _without(row: Sequence[Any], gone: Numbers) -> tuple[int, int, int, bytes] | None:
    """The page without what is gone, within the bounds that it had; None if it has nothing of it."""
    low, high, base, body = row
    names, seqs = _unpacked(body, base)
    stays = ~np.isin(seqs, gone)
    if stays.all():
        return None
    return low, high, base, names[stays].tobytes() + (seqs[stays] - base).astype("<u4").tobytes()


def counted(cursor: Connection) -> pa.Table:
    """seq, many: how many names each record has, as far as they are in pages; a record may be told of several times."""
    tables = [pa.table({"seq": pa.array([], pa.int64()), "many": pa.array([], pa.int64())})]
    for _, rows in _batches(cursor):
        seqs, many = np.unique(np.concatenate([_unpacked(body, base)[1] for _, _, _, base, body in rows]), return_counts=True)
        tables.append(pa.table({"seq": seqs, "many": many}))
    return pa.concat_tables(tables)


def _batches(cursor: Connection) -> Iterator[tuple[int, list[Any]]]:
    """(level, [(rowid, low, high, base, body), …]) of all pages there are now, some at a time."""
    last = cursor.execute("SELECT coalesce(max(rowid), -1) FROM name_pages").fetchall()[0][0]
    for start in range(0, last + 1, PAGES_AT_ONCE):
        within = f"rowid BETWEEN {start} AND {min(last, start + PAGES_AT_ONCE - 1)}"
        for level in (SHORT, LONG):
            query = f"SELECT rowid, {_PAGE} FROM name_pages WHERE {within} AND level = {level} ORDER BY rowid"
            if rows := cursor.execute(query).fetchall():
                yield level, rows
