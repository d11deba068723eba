"""keep: contents into the database, each once, and the rows that refer to them."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import duckdb
import pyarrow as pa

from headwater.lineage import texts
from headwater.lineage.parting import is_document, part
from headwater.lineage.row import Row
from headwater.lineage.texts import RECENT, Texts

KEY_BYTES = 32

_KNOWN = """
    SELECT c.hash, c.n FROM contents c JOIN new_contents f ON c.name = f.name AND c.hash = f.hash"""
# The rows are in the order of n, and are put in as they are.
_PUT = "INSERT INTO contents SELECT n, name, hash, salt, body FROM new_contents"
_HASH = re.compile(r'"([0-9a-f]{64})"')


class Kept(NamedTuple):
    """Of rows in their order: their data without contents, and what each holds; each id by which a row may be asked for, with its place."""

    data: list[bytes]
    held: list[str | None]
    names: list[str]
    places: list[int]


def opened(connection: duckdb.DuckDBPyConnection, key: bytes) -> Texts:
    """Contents to go on from those that the database has; the newest are known."""
    following = int(connection.execute("SELECT coalesce(max(n) + 1, 0) FROM contents").fetchall()[0][0])
    query = "SELECT hash, n FROM contents WHERE n >= ? AND salt IS NOT NULL ORDER BY n"
    return Texts(key, following, dict(connection.execute(query, [following - RECENT]).fetchall()))


def keep(connection: duckdb.DuckDBPyConnection, known: Texts, rows: Sequence[Row]) -> Kept:
    """Store the contents of rows that are to land, within the transaction of the landing.

    A text that the database has already is referred to, not stored again: what an agent was shown or said wherever it is, what a document
    says if it was said lately. To look for each text of each document in all that there is would cost more with every document.
    """
    found: dict[str, tuple[str, bytes]] = {}

    def noted(scope: bytes, body: bytes) -> str:
        hash, salt = known.seal(scope, body)
        found[hash] = (salt, body)
        return hash

    kept = Kept([], [], [], [])
    others = list[int]()
    for place, row in enumerate(rows):
        plain = is_document(row)
        data, held, names = part(row, known.reference if plain else noted)
        kept.data.append(data)
        kept.held.append(held)
        kept.names.extend(names)
        kept.places.extend([place] * len(names))
        if held is not None and not plain:
            others.append(place)
    if found:
        known.learn(_known(connection, known.unknown(list(found))))
        numbers = {hash: known.number(hash, salt, body) for hash, (salt, body) in found.items()}
        for place in others:
            kept.held[place] = _referring(str(kept.held[place]), numbers)
    if (fresh := known.take()) is not None:
        connection.register("new_contents", fresh)
        try:
            connection.execute(_PUT)
        finally:
            connection.unregister("new_contents")
    return kept


def _referring(held: str, numbers: Mapping[str, int]) -> str:
    """`held` with each hash's number before it; nothing but names of fields and hashes stands there."""
    return _HASH.sub(lambda match: f'"{numbers[match[1]]}:{match[1]}"', held)


def _known(connection: duckdb.DuckDBPyConnection, hashes: Sequence[str]) -> dict[str, int]:
    if not hashes:
        return {}
    connection.register("new_contents", pa.table({"name": texts.names(hashes), "hash": pa.array(hashes, pa.string())}))
    try:
        return dict(connection.execute(_KNOWN).fetchall())
    finally:
        connection.unregister("new_contents")
