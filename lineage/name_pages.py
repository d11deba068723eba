"""name_pages: names in sorted runs, each cut into pages, so that a look-up reads one page of every run and no more.

Names come into `names_new` as they are. So many of them become a short run, several short runs a longer one, up to a length.
Of a name a page keeps the upper half, 32 bits: that now and then finds a record too many, which its text then tells. A page is a row of
`name_pages`: the least and the greatest name in it, what its `seq` have in common (`base`), and a body of all names, then all `seq` less
`base`, as little-endian numbers of 32 bits.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside are numbers)

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa

from headwater.lineage.beginnings import gather

Connection = duckdb.DuckDBPyConnection
Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Between: TypeAlias = tuple[int, int]
"""Names of 64 bits from the first to the second, both included."""

LENGTHS = (131_072, 1_048_576, 4_194_304, 16_777_216)
"""Names in a run, by level. So many wait unsorted for one of level 1, for a look-up reads them all; once a level holds as many as a run of
the next, it becomes one. So a look-up reads a page of each of some nine runs, and of one more with every four million records."""
NAMES_IN_A_PAGE = 1_024
NAMES_AT_ONCE = 2_097_152
PAGES_AT_ONCE = 4_096
SINGLY = 4
"""So many names are looked for in the pages one by one; more of them together, which costs as much as three and little more for each."""

_HALF = 32
_LOWER = 0xFFFF_FFFF
_PAGE = "low, high, base, body"


def waiting(connection: Connection) -> int:
    """How many names have come and are in no run yet."""
    return int(connection.execute("SELECT count(*) FROM names_new").fetchall()[0][0])


def enough(count: int) -> bool:
    """Whether so many names make a run."""
    return count >= LENGTHS[0]


def sort_names(connection: Connection) -> None:
    """Once enough names have come, make a run of them; once enough runs of a length are there, make a longer one of these."""
    count = waiting(connection)
    if not enough(count):
        return
    for start in range(0, count, LENGTHS[2]):
        rows = connection.execute("SELECT name, seq FROM names_new LIMIT ? OFFSET ?", [LENGTHS[2], start]).fetchnumpy()
        level = max(1, bisect_right(LENGTHS, len(rows["seq"])))
        _add(connection, rows["name"].astype(np.uint64) >> _HALF, rows["seq"].astype(np.int64), level)
        _lengthen(connection)
    connection.execute("DELETE FROM names_new")
    gather(connection)


def _lengthen(connection: Connection) -> None:
    for level, length in enumerate(LENGTHS[1:], 1):
        pages = connection.execute(f"SELECT count(*) FROM name_pages WHERE level = {level}").fetchall()[0][0]
        if pages * NAMES_IN_A_PAGE >= length:
            _merge(connection, level, -(-pages * NAMES_IN_A_PAGE // NAMES_AT_ONCE))


def _merge(connection: Connection, level: int, slices: int) -> None:
    """Make one run of all of a level, names from so many parts of all numbers after each other: memory holds one part at a time."""
    bounds = [(n << _HALF) // slices for n in range(slices + 1)]
    for low, following in pairwise(bounds):
        query = f"SELECT base, body FROM name_pages WHERE level = {level} AND low < {following} AND high >= {low}"
        pages = [_unpacked(body, base) for base, body in connection.execute(query).fetchall()]
        if pages:
            names, places = (np.concatenate(each) for each in zip(*pages, strict=True))
            inside = (names >= low) & (names < following)
            _add(connection, names[inside].astype(np.uint64), places[inside], level + 1)
    connection.execute(f"DELETE FROM name_pages WHERE level = {level}")


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


def places(cursor: Connection, ranges: Iterable[Between]) -> dict[Between, list[int]]:
    """Range of names → the `seq` of each record that may have a name in it, in order; a record may be there that has none."""
    found: dict[Between, set[int]] = {each: set() for each in ranges}
    if not found:
        return {}
    halves: dict[Between, list[set[int]]] = {}
    for (low, high), seqs in found.items():
        halves.setdefault((low >> _HALF, high >> _HALF), []).append(seqs)
    cursor.execute(" UNION ALL ".join((f"SELECT name, NULL, seq, NULL FROM names_new WHERE {_waiting(found)}", *_paged(list(halves)))))
    asked = sorted(halves)
    while rows := cursor.fetchmany(PAGES_AT_ONCE):
        for low, high, base, body in rows:
            if body is None:
                for first, last in found if len(found) == 1 else ((low, low),):
                    found[first, last].add(base)
                continue
            for half in _overlapping(asked, low, high):
                on_page = list(_on_page(body, base, half))
                for seqs in halves[half]:
                    seqs.update(on_page)
    return {each: sorted(seqs) for each, seqs in found.items()}


def _paged(halves: Sequence[Between]) -> Iterator[str]:
    """The SQL that gives the pages which may hold these."""
    if len(halves) <= SINGLY:
        yield from (f"SELECT {_PAGE} FROM name_pages WHERE low <= {high} AND high >= {low}" for low, high in halves)
        return
    # The bounds are compared first, and bodies read of those pages only.
    lows, highs = ", ".join(str(low) for low, _ in halves), ", ".join(str(high) for _, high in halves)
    wanted = f"SELECT unnest([{lows}]::UINTEGER[]) AS first, unnest([{highs}]::UINTEGER[]) AS last"
    reaching = f"SELECT p.rowid FROM name_pages p JOIN ({wanted}) ON low <= last AND high >= first"
    yield f"SELECT {_PAGE} FROM name_pages WHERE rowid IN ({reaching})"


def _waiting(asked: Iterable[Between]) -> str:
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


def _on_page(body: bytes, base: int, half: Between) -> Iterator[int]:
    numbers = memoryview(body).cast("I")
    count = len(numbers) // 2
    start = bisect_left(numbers, half[0], 0, count)
    for at in range(start, bisect_right(numbers, half[1], start, count)):
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


def placed(cursor: Connection) -> Iterator[Numbers]:
    """The `seq` that each name has, some at a time: one that several names have is there so often."""
    yield cursor.execute("SELECT seq FROM names_new").fetchnumpy()["seq"].astype(np.int64)
    for _, rows in _batches(cursor):
        yield np.concatenate([_unpacked(body, base)[1] for *_, base, body in rows])


def _batches(cursor: Connection) -> Iterator[tuple[int, list[Any]]]:
    """(level, [(rowid, low, high, base, body), …]) of all pages there are now, some at a time."""
    # Those of a transaction that goes on are numbered from 2^55 on, so rows are not counted up to.
    ids = cursor.execute("SELECT rowid FROM name_pages ORDER BY rowid").fetchnumpy()["rowid"]
    for start in range(0, len(ids), PAGES_AT_ONCE):
        within = f"rowid BETWEEN {ids[start]} AND {ids[start : start + PAGES_AT_ONCE][-1]}"
        for level in range(1, len(LENGTHS) + 1):
            query = f"SELECT rowid, {_PAGE} FROM name_pages WHERE {within} AND level = {level} ORDER BY rowid"
            if rows := cursor.execute(query).fetchall():
                yield level, rows
