"""keep: contents for the database, each once, and the rows that refer to them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.lineage import texts
from headwater.lineage.parting import Documents, is_document, part
from headwater.lineage.row import Row
from headwater.lineage.sums import own
from headwater.lineage.texts import RECENT, Texts

KEY_BYTES = 32

_KNOWN = """
    SELECT c.hash, c.n FROM contents c JOIN asked f ON c.name = f.name AND c.hash = f.hash"""
_HASH = re.compile(r'"([0-9a-f]{64})"')


Stored: TypeAlias = Callable[[Sequence[str]], Mapping[str, int]]
"""Hashes → the numbers of those contents that the database has, all that was made ready before included."""


class Kept(NamedTuple):
    """Of rows in their order: their data without contents, and what each holds; and each id by which a row may be asked for, with its
    row's place. `contents`: the rows of `contents` that are to land with them, in the order of their numbers; None if there are none.
    """

    data: list[bytes]
    held: list[str | None]
    names: list[str]
    places: list[int]
    contents: pa.Table | None = None


def opened(connection: duckdb.DuckDBPyConnection, key: bytes) -> Texts:
    """Contents to go on from those that the database has; the newest are known."""
    following = int(connection.execute("SELECT coalesce(max(n) + 1, 0) FROM contents").fetchall()[0][0])
    query = "SELECT hash, n FROM contents WHERE n >= ? AND salt IS NOT NULL ORDER BY n"
    return Texts(key, following, dict(connection.execute(query, [following - RECENT]).fetchall()))


def keep(known: Texts, rows: Sequence[Row], stored: Stored) -> Kept:
    """Take the contents out of rows that are to land.

    A text that the database has already is referred to, not stored again: what an agent was shown or said wherever it is, what a document
    says if it was said lately. To look for each text of each document in all that there is would cost more with every document.
    """
    kept = _documents(known, rows)
    decided = _others(known, rows, stored, kept)
    contents = known.take()
    if contents is not None:
        contents = contents.append_column("decided", pc.is_in(contents["hash"], pa.array(decided, pa.string())))
    return kept._replace(contents=contents)


def _documents(known: Texts, rows: Sequence[Row]) -> Kept:
    """The rows, so far as they are documents of a form that is known; of all others `data` is empty yet."""
    chosen = [place for place, row in enumerate(rows) if is_document(row)]
    documents = Documents([rows[place] for place in chosen], known.references)
    kept = Kept([b""] * len(rows), [None] * len(rows), documents.names, np.repeat(chosen, documents.named).tolist())
    for place, data, held in zip(chosen, documents.data, documents.held, strict=True):
        kept.data[place], kept.held[place] = data, held
    return kept


def _others(known: Texts, rows: Sequence[Row], stored: Stored, kept: Kept) -> list[str]:
    """All other rows; the hashes of texts that fall to decisions, see `sums`."""
    found: dict[str, tuple[str, bytes]] = {}

    def noted(scope: bytes, body: bytes) -> str:
        hash, salt = known.seal(scope, body)
        found[hash] = (salt, body)
        return hash

    holding, decided = list[int](), list[str]()
    for place in [place for place, data in enumerate(kept.data) if not data]:
        kept.data[place], held, names = part(rows[place], noted)
        kept.names.extend(names)
        kept.places.extend([place] * len(names))
        if held is not None:
            kept.held[place] = held
            holding.append(place)
            decided.extend(own(rows[place].kind, rows[place].flow, held))
    if not found:
        return decided
    if unknown := known.unknown(list(found)):
        known.learn(stored(unknown))
    numbers = {hash: known.number(hash, salt, body) for hash, (salt, body) in found.items()}
    for place in holding:
        kept.held[place] = _referring(str(kept.held[place]), numbers)
    return decided


def _referring(held: str, numbers: Mapping[str, int]) -> str:
    """`held` with each hash's number before it; nothing but names of fields and hashes stands there."""
    return _HASH.sub(lambda match: f'"{numbers[match[1]]}:{match[1]}"', held)


def stored(connection: duckdb.DuckDBPyConnection, hashes: Sequence[str]) -> dict[str, int]:
    """The numbers of those of these contents that the database has."""
    connection.register("asked", pa.table({"name": texts.names(hashes), "hash": pa.array(hashes, pa.string())}))
    try:
        return dict(connection.execute(_KNOWN).fetchall())
    finally:
        connection.unregister("asked")
