"""keep: contents into the database, each once, and the records that refer to them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import duckdb
import pyarrow as pa

from headwater.lineage.contents import Content, parted, referring
from headwater.lineage.record import Record

KEY_BYTES = 32

_KNOWN = """
    SELECT c.hash, c.n FROM contents c JOIN new_contents f ON c.name = f.name AND c.hash = f.hash"""
_PUT = "INSERT INTO contents SELECT n, name, hash, salt, body FROM new_contents ORDER BY n"


class Kept(NamedTuple):
    """Of records in their order: their data without contents, and what each holds; `next` is the number after the last content."""

    data: list[bytes]
    held: list[str | None]
    next: int


def keep(connection: duckdb.DuckDBPyConnection, key: bytes, next: int, records: Sequence[Record]) -> Kept:
    """Store the contents of records that are to land, numbered from `next`.

    Within the transaction of the landing. A text that the database has already is referred to, not stored again.
    """
    found: dict[str, Content] = {}
    parts = [parted(record, key, found) for record in records]
    numbers: dict[str, int] = {}
    if found:
        numbers = _known(connection, found)
        fresh = [content for hash, content in found.items() if hash not in numbers]
        numbers.update((content.hash, next + place) for place, content in enumerate(fresh))
        if fresh:
            connection.register("new_contents", _table(fresh, next))
            try:
                connection.execute(_PUT)
            finally:
                connection.unregister("new_contents")
            next += len(fresh)
    return Kept([part.data for part in parts], [referring(part.held, numbers) for part in parts], next)


def _known(connection: duckdb.DuckDBPyConnection, hashes: Iterable[str]) -> dict[str, int]:
    looked_for = list(hashes)
    connection.register("new_contents", pa.table({"name": _names(looked_for), "hash": pa.array(looked_for, pa.string())}))
    try:
        return dict(connection.execute(_KNOWN).fetchall())
    finally:
        connection.unregister("new_contents")


def _table(contents: Sequence[Content], first: int) -> pa.Table:
    hashes, salts, bodies = zip(*contents, strict=True)
    columns = {"hash": hashes, "salt": salts, "body": bodies}
    return pa.table(
        {
            "n": pa.array(range(first, first + len(contents)), pa.int64()),
            "name": _names(hashes),
            **{name: pa.array(values, pa.string()) for name, values in columns.items()},
        }
    )


def _names(hashes: Sequence[str]) -> pa.Array:
    """The beginnings of hashes as numbers: what is looked for is found by comparing numbers."""
    return pa.array([int(hash[:16], 16) for hash in hashes], pa.uint64())
