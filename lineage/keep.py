"""keep: contents for the database, each once, and the rows that refer to them."""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

import re
from collections.abc import Callable, Mapping, Sequence
from operator import add
from typing import NamedTuple, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.lineage import texts
from headwater.lineage.columns import Columns, Numbers
from headwater.lineage.contents import HASH
from headwater.lineage.opening import Form, bare, held_of
from headwater.lineage.parting import ENDS, part
from headwater.lineage.sums import own
from headwater.lineage.texts import RECENT, Texts

KEY_BYTES = 32

_KNOWN = f"SELECT f.hash, c.n FROM contents c JOIN asked f ON c.name = f.name WHERE f.hash = {HASH}"
_HASH = re.compile(r'"([0-9a-f]{64})"')
_REFERENCE = re.compile(r'"([0-9]+):([0-9a-f]{64})"')
_AT_ONCE = 8_192
"""Records."""


Stored: TypeAlias = Callable[[Sequence[str]], Mapping[str, int]]
"""Hashes → the numbers of those contents that the database has, all that was made ready before included."""


class Kept(NamedTuple):
    """Of records in their order: their data without contents, and what each holds; and in lists of them, each id by which a record may be
    asked for, with its record's place. `contents`: the rows of `contents` that are to land with them, in the order of their numbers; None
    if there are none.
    """

    data: list[bytes]
    held: pa.Array
    names: list[list[str]]
    places: list[Numbers]
    contents: pa.Table | None = None


def opened(connection: duckdb.DuckDBPyConnection, key: bytes) -> Texts:
    """Contents to go on from those that the database has; those that the newest records refer to are known.

    Also such as were removed: their salts came of another key, so that no text has their hash any more.
    """
    following = int(connection.execute("SELECT coalesce(max(n) + 1, 0) FROM contents").fetchall()[0][0])
    end = int(connection.execute("SELECT coalesce(max(seq) + 1, 0) FROM records").fetchall()[0][0])
    newest: dict[str, int] = {}
    for until in range(end, max(0, end - RECENT), -_AT_ONCE):
        query = "SELECT held::VARCHAR FROM records WHERE seq >= ? AND seq < ? AND held IS NOT NULL ORDER BY seq DESC"
        for (held,) in connection.execute(query, [until - _AT_ONCE, until]).fetchall():
            for number, hash in reversed(_REFERENCE.findall(held)):
                newest.setdefault(hash, int(number))
        if len(newest) >= RECENT:
            break
    return Texts(key, following, dict(reversed(newest.items())))


def keep(known: Texts, columns: Columns, stored: Stored) -> Kept:
    """Take the contents out of records that are to land.

    A text that the database has already is referred to, not stored again: what an agent was shown or said wherever it is, what a document
    says if it was said lately. To look for each text of each document in all that there is would cost more with every document.
    """
    kept, decided = _others(known, columns, stored, _documents(known, columns))
    contents = known.take()
    if contents is not None:
        contents = contents.append_column("decided", pc.is_in(contents["n"], pa.array(decided, pa.int64())))
    return kept._replace(contents=contents)


def _documents(known: Texts, columns: Columns) -> Kept:
    """The records, so far as they are open documents."""
    forms = [one.form for one in columns.common]
    counts = np.array([(form.texts, form.names) if form else (0, 0) for form in forms] or [(0, 0)], np.int64)
    chosen = np.flatnonzero(np.array([form is not None for form in forms], bool)[columns.of])
    texts, named = counts[columns.of[chosen]].T
    refs = list(map(columns.ref.__getitem__, chosen.tolist()))
    scopes = [ref.encode() + ENDS for ref in refs]
    told = map(add, [scopes[n] for n in np.repeat(np.arange(len(scopes)), texts).tolist()], columns.texts)
    references = known.references(list(told), columns.texts)
    held = _held(forms, columns.of, counts[columns.of, 0], references)
    kept = Kept(list(columns.data), held, [columns.names], [np.repeat(chosen, named)])
    # A document is asked for by its bare name too, without its type.
    for names in (refs, list(map(bare, refs))):
        there = names if all(names) else [name for name in names if name]
        kept.names.append(there)
        kept.places.append(chosen if there is names else chosen[[bool(name) for name in names]])
    return kept


def _held(forms: Sequence[Form | None], of: Numbers, counts: Numbers, references: pa.Array) -> pa.Array:
    """What each record holds, by its form: of all references, which follow each other, as many as `counts` says."""
    begins, pieces, places = np.cumsum(counts) - counts, list[pa.Array](), list[Numbers]()
    for number, form in enumerate(forms):
        chosen = np.flatnonzero(of == number)
        places.append(chosen)
        if form is None or not form.texts or not len(chosen):
            pieces.append(pa.nulls(len(chosen), pa.string()))
            continue
        begin, *between = held_of(*form[:3]).split("%s")
        parts = [part for n, text in enumerate(between) for part in (references.take(pa.array(begins[chosen] + n)), text)]
        pieces.append(pc.binary_join_element_wise(begin, *parts, ""))
    if not pieces:
        return pa.nulls(0, pa.string())
    return pa.concat_arrays(pieces).take(pa.array(np.argsort(np.concatenate(places))))


def _others(known: Texts, columns: Columns, stored: Stored, kept: Kept) -> tuple[Kept, list[int]]:
    """All other records; the numbers of texts that fall to decisions, see `sums`."""
    found: dict[str, tuple[str, bytes]] = {}

    def noted(scope: bytes, body: bytes) -> str:
        hash, salt = known.seal(scope, body)
        found[hash] = (salt, body)
        return hash

    holding, decided, called, places = dict[int, str](), list[str](), list[str](), list[int]()
    speaking = columns.speaking()
    for place, row in zip(speaking, columns.rows(speaking), strict=True):
        kept.data[place], held, names = part(row, noted)
        called.extend(names)
        places.extend([place] * len(names))
        if held is not None:
            holding[place] = held
            decided.extend(own(row.kind, row.flow, held))
    kept = kept._replace(names=[*kept.names, called], places=[*kept.places, np.array(places, np.int64)])
    if not found:
        return kept, []
    if unknown := known.unknown(list(found)):
        known.learn(stored(unknown))
    numbers = {hash: known.number(hash, salt, body) for hash, (salt, body) in found.items()}
    mask = np.zeros(columns.size, bool)
    mask[list(holding)] = True
    held = pa.array([_referring(held, numbers) for held in holding.values()], pa.string())
    return kept._replace(held=pc.replace_with_mask(kept.held, pa.array(mask), held)), [numbers[hash] for hash in decided]


def _referring(held: str, numbers: Mapping[str, int]) -> str:
    """`held` with each hash's number before it; nothing but names of fields and hashes stands there."""
    return _HASH.sub(lambda match: f'"{numbers[match[1]]}:{match[1]}"', held)


def stored(connection: duckdb.DuckDBPyConnection, hashes: Sequence[str]) -> dict[str, int]:
    """The numbers of those of these contents that the database has."""
    names = texts.names(list(map(bytes.fromhex, hashes)))
    connection.register("asked", pa.table({"name": names, "hash": pa.array(hashes, pa.string())}))
    try:
        return dict(connection.execute(_KNOWN).fetchall())
    finally:
        connection.unregister("asked")
