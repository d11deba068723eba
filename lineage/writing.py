"""writing: a batch that is ready to land, and the statements that land it within a transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

import duckdb
import pyarrow as pa

from headwater.lineage.chain import Link
from headwater.lineage.landing import Landed, Replay
from headwater.lineage.sums import Sum, add

Offset: TypeAlias = tuple[str, int, int]
"""(broker, partition of the lineage topic, offset at which to go on)."""

_COLUMNS = (
    "seq", "batch", "id", "kind", "flow", "step", "ref", "parents", "broker", "topic", "partition", "first", "next", "count", "outcome",
    "time", "logged", "data", "leaf", "held",
)  # fmt: skip
"""Those of `records`, in their order there."""


class Ready(NamedTuple):
    """A batch that is ready to land.

    rows      those of `records`; None if nothing is new;  link: theirs in the chain, with the head that it makes
    contents  what they say that was not said lately, see `texts`;  names: by which they are asked for, see `landing.named`
    sums      what all that adds
    offsets   where to go on reading; those of `begun` have no row yet
    replays   what was cut off;  at: when it was made ready
    """

    landed: Landed
    rows: pa.Table | None
    link: Link | None
    contents: pa.Table | None
    names: pa.Table | None
    sums: Mapping[str, Sum]
    offsets: Sequence[Offset]
    begun: Sequence[Offset]
    replays: Sequence[Replay]
    at: datetime


def write(connection: duckdb.DuckDBPyConnection, ready: Ready) -> None:
    """Land a batch, within a transaction."""
    if ready.rows is not None:
        # In the order of seq, as they are.
        connection.from_arrow(ready.rows.select(_COLUMNS)).insert_into("records")
        add(connection, ready.sums)
    if ready.link is not None:
        connection.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, ?)", [*ready.link, ready.at])
    if ready.contents is not None:
        # In the order of their numbers.
        connection.from_arrow(ready.contents).insert_into("contents")
    if ready.names is not None:
        connection.from_arrow(ready.names).insert_into("names_new")
    if ready.replays:
        rows = [(ready.landed.batch, *replay) for replay in ready.replays]
        columns = {name: [row[index] for row in rows] for index, name in enumerate(("batch", *Replay._fields))}
        connection.from_arrow(pa.table(columns)).insert_into("replays")
    for broker, partition, following in ready.offsets:
        connection.execute('UPDATE offsets SET "next" = ? WHERE broker = ? AND "partition" = ?', [following, broker, partition])
    for begun in ready.begun:
        connection.execute("INSERT INTO offsets VALUES (?, ?, ?)", begun)
