"""removal: contents and records out of the database for good, told by a record of its own, so that the chain proves as before."""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb
import msgspec
import pyarrow as pa

from headwater.lineage.chain import LEAF, ROOT
from headwater.lineage.name_pages import forget
from headwater.lineage.ranges import Ranges
from headwater.lineage.record import Record, fact
from headwater.lineage.sums import removing

Connection = duckdb.DuckDBPyConnection


@dataclass
class Removal:
    """What is to be removed, and who says so.

    contents   number → the JSON that stands in its place
    rewritten  record → its data without the texts that stand in it, of records that landed before contents were kept apart
    pruned     records that are taken out whole
    told       what the record says besides
    """

    kind: Literal["erasure", "retention"]
    by: str
    why: str
    ref: str = ""
    contents: dict[int, str] = field(default_factory=dict)
    rewritten: dict[int, str] = field(default_factory=dict)
    pruned: Sequence[int] = ()
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.contents or self.rewritten or len(self.pruned))


def remove(connection: Connection, removal: Removal, now: int) -> Record:
    """Do it, within a transaction; the record that is to land in the same one."""
    gone = Ranges()
    for n in sorted(removal.contents):
        gone.add(n, n + 1)
    data: dict[str, Any] = {
        **removal.told, "by": removal.by, "why": removal.why, "texts": len(removal.contents) + len(removal.rewritten),
        "contents": [list(each) for each in gone],
    }  # fmt: skip
    record = fact(removal.kind, "audit", "remove", removal.ref, logged=now, ordinal=now)
    with removing(connection, removal.rewritten, removal.contents, removal.pruned):
        if removal.contents:
            _blank(connection, removal.contents)
        if removal.rewritten:
            data["leaves"] = _rewrite(connection, removal.rewritten)
        if len(removal.pruned):
            data["records"], data["root"] = _prune(connection, removal.pruned, record.id)
    connection.execute("INSERT INTO unscrubbed VALUES (?)", [record.id])
    return msgspec.structs.replace(record, data=data)


def _blank(connection: Connection, contents: Mapping[int, str]) -> None:
    rows = pa.table({"n": pa.array(list(contents), pa.int64()), "words": pa.array(list(contents.values()), pa.string())})
    connection.register("removing", rows)
    try:
        connection.execute(
            "UPDATE contents SET name = NULL, salt = NULL, body = words FROM removing WHERE contents.n = removing.n"
        )
    finally:
        connection.unregister("removing")


def _rewrite(connection: Connection, rewritten: Mapping[int, str]) -> list[list[Any]]:
    """The leaves of the records as they are now: the only ones that `verify` accepts beside those they landed with."""
    rows = pa.table({"seq": pa.array(list(rewritten), pa.int64()), "words": pa.array(list(rewritten.values()), pa.string())})
    connection.register("removing", rows)
    try:
        connection.execute("UPDATE records SET data = words FROM removing WHERE records.seq = removing.seq")
        query = f"SELECT seq, lower(hex({LEAF})) FROM records WHERE seq IN (SELECT seq FROM removing) ORDER BY seq"
        return [list(row) for row in connection.execute(query).fetchall()]
    finally:
        connection.unregister("removing")


def _prune(connection: Connection, seqs: Sequence[int], id: str) -> tuple[int, str]:
    connection.register("removing", pa.table({"seq": pa.array(seqs, pa.int64())}))
    try:
        for table in ("records", "names_new"):
            if table == "records":
                connection.execute(
                    "INSERT INTO pruned SELECT seq, batch, leaf, ? FROM records WHERE seq IN (SELECT seq FROM removing) ORDER BY seq", [id]
                )
            connection.execute(f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM removing)")
    finally:
        connection.unregister("removing")
    forget(connection, seqs)
    count, root = connection.execute(f"SELECT count(*), {ROOT} FROM pruned WHERE removal = ?", [id]).fetchall()[0]
    return count, root
