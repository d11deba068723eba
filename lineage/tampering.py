"""tampering: law 8 as SQL. No record and no content was changed, dropped, put in or moved, but for what a record says was removed.

Removals are records themselves, chained like all others: an `erasure` or a `retention` names the contents that are gone, the leaves of
records that were rewritten without them, and the root over the leaves of records that were taken out.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb
import msgspec

from headwater.lineage.chain import LEAF, ROOT, Head, Link, broken
from headwater.lineage.contents import HASH, REFERENCES
from headwater.lineage.ranges import Ranges

Connection = duckdb.DuckDBPyConnection


@dataclass
class Removed:
    """What removals say.

    contents  numbers of contents that are gone
    leaves    record → the leaves it may have since it was rewritten
    pruned    removal → how many records it took out, and the root over their leaves
    """

    contents: Ranges = field(default_factory=Ranges)
    leaves: dict[int, set[str]] = field(default_factory=dict)
    pruned: dict[str, tuple[int, str]] = field(default_factory=dict)


def offences(cursor: Connection, kept: Iterable[Head] = ()) -> Iterator[str]:
    """Sentences that name what was tampered with, the first of each kind. `kept`: heads kept outside, which the chain must contain."""
    removed = _removed(cursor)
    yield from _changed(cursor, removed)
    yield from _batches(cursor)
    links = (Link(*row) for row in _rows(cursor, "SELECT batch, first_seq, next_seq, root, previous, head FROM chain ORDER BY batch"))
    if wrong := broken(links, kept):
        yield wrong
    yield from _pruned(cursor, removed)
    yield from _contents(cursor, removed)


def _removed(cursor: Connection) -> Removed:
    removed = Removed()
    query = "SELECT id, data FROM records WHERE kind IN ('erasure', 'retention') ORDER BY seq"
    for id, text in cursor.execute(query).fetchall():
        data: dict[str, Any] = msgspec.json.decode(text)
        for first, following in data.get("contents") or ():
            removed.contents.add(first, following)
        for seq, leaf in data.get("leaves") or ():
            removed.leaves.setdefault(seq, set()).add(leaf)
        if data.get("records"):
            removed.pruned[id] = data["records"], data.get("root", "")
    return removed


def _changed(cursor: Connection, removed: Removed) -> Iterator[str]:
    query = f"SELECT seq, kind, ref, id, lower(hex({LEAF})) FROM records WHERE leaf IS DISTINCT FROM {LEAF} ORDER BY seq"
    for seq, kind, ref, id, leaf in _rows(cursor, query):
        if leaf not in removed.leaves.get(seq, ()):
            yield f"record {seq} ({kind} {ref or id}) is not as it landed: it was changed afterwards, or put in"
            return


def _batches(cursor: Connection) -> Iterator[str]:
    for batch, first, following, found, lowest, highest in cursor.execute(_ROOTS).fetchall():
        if batch is None or first is None:
            yield f"{found} records from {lowest} to {highest} stand in no batch of the chain: they were put in afterwards"
        elif found != following - first:
            yield f"batch {batch} landed with {following - first} records ({first} to {following - 1}) and now holds {found}"
        else:
            yield f"the records {first} to {following - 1} of batch {batch} are not those that landed, or not in their order"


def _pruned(cursor: Connection, removed: Removed) -> Iterator[str]:
    found = {id: (count, root) for id, count, root in cursor.execute(_PRUNED).fetchall()}
    for id in sorted(found.keys() | removed.pruned.keys()):
        if found.get(id) != removed.pruned.get(id):
            many, said = found.get(id, (0, ""))[0], removed.pruned.get(id, (0, ""))[0]
            yield f"{many} records were taken out as by the removal {id}, whose record says that it took {said}: they are not the same"
            return


def _contents(cursor: Connection, removed: Removed) -> Iterator[str]:
    for n, there, seq, kind, ref in _rows(cursor, _OTHERS):
        if there:
            yield f"content {n} of record {seq} ({kind} {ref}) is not as it landed: it was changed afterwards"
            return
        if removed.contents.missing(n, n + 1):
            yield f"content {n} of record {seq} ({kind} {ref}) is gone, and no removal tells of it"
            return


def _rows(cursor: Connection, query: str) -> Iterator[tuple[Any, ...]]:
    cursor.execute(query)
    while rows := cursor.fetchmany(10_000):
        yield from rows


_LEAVES = "(SELECT batch, seq, leaf FROM records UNION ALL SELECT batch, seq, leaf FROM pruned)"

_ROOTS = f"""
    WITH found AS (SELECT batch, {ROOT} AS root, count(*) AS n, min(seq) AS lowest, max(seq) AS highest FROM {_LEAVES} GROUP BY batch)
    SELECT batch, first_seq, next_seq, coalesce(n, 0), lowest, highest FROM chain FULL JOIN found USING (batch)
    WHERE chain.root IS DISTINCT FROM found.root AND NOT (found.root IS NULL AND next_seq = first_seq)
        OR coalesce(n, 0) <> coalesce(next_seq - first_seq, -1)
        OR lowest <> first_seq OR highest <> next_seq - 1
    ORDER BY batch LIMIT 1"""

_PRUNED = f"SELECT removal, count(*), {ROOT} FROM pruned GROUP BY removal ORDER BY removal"

# Contents that records refer to and that are not there with that hash. What was removed has no salt, and so no hash.
_OTHERS = f"""
    WITH referred AS (SELECT seq, kind, ref, unnest({REFERENCES}) AS reference FROM records WHERE held IS NOT NULL),
    sealed AS (SELECT n, {HASH} AS hash FROM contents)
    SELECT number_of(reference) AS number, c.hash IS NOT NULL, seq, kind, ref
    FROM referred LEFT JOIN sealed c ON c.n = number_of(reference)
    WHERE c.hash IS DISTINCT FROM split_part(reference, ':', 2) ORDER BY seq, number"""
