"""landing: what of a batch of lineage messages is new. Pure; `store` does the I/O.

Flows repeat themselves after a crash: the same facts under the same ids, the same offsets in other ranges. Here both are cut:
ranges (`consumed`, `absent`, `outcome`) to the offsets not yet landed, facts by their ids.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from headwater.lineage.keep import Kept
from headwater.lineage.numbering import numbers
from headwater.lineage.ranges import Ranges
from headwater.lineage.record import Record, record_id
from headwater.lineage.row import Row, row_of

RANGED = frozenset(("consumed", "absent", "outcome"))
OPEN = frozenset(("waiting", "retrying"))
"""Outcomes that do not close a position: a later one may follow."""

Lane: TypeAlias = tuple[str, str, str, str, int]
"""(kind, flow, broker, topic, partition); the kind of an open outcome is `open`."""


class Landing(NamedTuple):
    """One message of the lineage topic: where it lay there, its records, and which run of a process said them."""

    broker: str
    partition: int
    offset: int
    records: Sequence[Record | Row]
    run: str = ""


class Replay(NamedTuple):
    """A range that was cut off. `within`: one message, or one run of a process, said it twice, which no replay explains."""

    kind: str
    flow: str
    broker: str
    topic: str
    partition: int
    first: int
    next: int
    positions: int
    within: bool


@dataclass
class Landed:
    """What became of a batch: rows landed, facts known already, and positions whose second outcome was cut off."""

    rows: int = 0
    duplicates: int = 0
    replayed: int = 0
    batch: int = 0


@dataclass
class Known:
    """What has landed so far, as far as landing must know it: the ranges, and the highest position facts speak of, per lane.

    said  what the newest run to speak of a lane has said. It is not stored: what a run says twice is noticed unless, between the two
          times, this process was started anew or another run spoke; then it counts as replayed
    """

    ranges: dict[Lane, Ranges] = field(default_factory=dict)
    reach: dict[Lane, int] = field(default_factory=dict)
    said: dict[Lane, tuple[str, Ranges]] = field(default_factory=dict)

    def sift(self, landings: Iterable[Landing]) -> "Sifted":
        """Cut a batch to what is new, and remember it as landed. Facts that need a look into the database are `suspects`."""
        sifted = Sifted()
        seen: set[str] = set()
        reach = dict[Lane, int]()
        for landing in landings:
            said = dict[Lane, Ranges]()
            for record in _absent_first(landing.records):
                if record.kind in RANGED:
                    sifted.records.extend(self._cut(record, self._said(record, landing.run, said), sifted.replays))
                elif record.id in seen:
                    sifted.duplicates += 1
                else:
                    seen.add(record.id)
                    # A fact beyond all that its lane spoke of is new for certain; of any other the database must be asked.
                    lane, first = (record.kind, record.flow, record.broker, record.topic, record.partition), record.first
                    before = self.reach.get(lane, -1)
                    if first <= before:
                        sifted.suspects.append((len(sifted.records), record.id, first))
                    reach[lane] = max(first, reach.get(lane, before))
                    sifted.records.append(record)
        self.reach.update(reach)
        return sifted

    def _said(self, record: Row, run: str, said: dict[Lane, Ranges]) -> Ranges:
        """What the same run, or if none is told the same message, has said of the record's lane."""
        lane = lane_of(record)
        if not run:
            return said.setdefault(lane, Ranges())
        if lane not in self.said or self.said[lane][0] != run:
            self.said[lane] = (run, Ranges())
        return self.said[lane][1]

    def _cut(self, record: Row, said: Ranges, replays: list[Replay]) -> list[Row]:
        lane = lane_of(record)
        known = self.ranges.setdefault(lane, Ranges())
        again = _common(said.add(record.first, record.next), record.first, record.next)
        closed = self.ranges.get(("outcome", *lane[1:])) if lane[0] == "open" else None
        parts = known.add(record.first, record.next)
        if closed is not None:
            parts = [part for first, following in parts for part in closed.missing(first, following)]
        cut = record.next - record.first - sum(following - first for first, following in parts)
        if cut:
            replays.append(Replay(*lane, *(again or (record.first, record.next)), cut, again is not None))
        if not cut:
            return [record]
        return [self._part(record, first, following) for first, following in parts]

    def _part(self, record: Row, first: int, next: int) -> Row:
        """A run cut to [first, next): what the absent offsets leave of it is its count, if it spanned any."""
        count = next - first
        if record.count != record.next - record.first:
            absent = self.ranges.get(("absent", record.flow, record.broker, record.topic, record.partition))
            count -= absent.overlap(first, next) if absent else 0
        return msgspec.structs.replace(record, id=record_id(record.id, first, next), first=first, next=next, count=count)


def _absent_first(records: Sequence[Record | Row]) -> list[Row]:
    """Absent offsets first: how many messages a cut run holds depends on them."""
    rows = [record if isinstance(record, Row) else row_of(record) for record in records]
    if "absent" in {row.kind for row in rows}:
        rows.sort(key=lambda row: row.kind != "absent")
    return rows


def _common(new: Sequence[tuple[int, int]], first: int, next: int) -> tuple[int, int] | None:
    """From the first to the last offset of [first, next) that was not new."""
    parts = Ranges(new).missing(first, next)
    return (parts[0][0], parts[-1][1]) if parts else None


@dataclass
class Sifted:
    """A batch after sifting: records in landing order; suspects as (index in records, id, first); what was cut off."""

    records: list[Row] = field(default_factory=list)
    suspects: list[tuple[int, str, int]] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    duplicates: int = 0

    def without(self, landed: frozenset[str]) -> list[Row]:
        """The records to land, now that it is known which suspects landed before."""
        if not landed:
            return self.records
        drop = {index for index, id, _ in self.suspects if id in landed}
        self.duplicates += len(drop)
        return [record for index, record in enumerate(self.records) if index not in drop]


def lane_of(record: Row) -> Lane:
    """What a record's offsets are counted in."""
    kind = "open" if record.kind == "outcome" and record.outcome in OPEN else record.kind
    return (kind, record.flow, record.broker, record.topic, record.partition)


_MOMENT = pa.timestamp("us", tz="UTC")


def table(rows: Sequence[Row], first_seq: int, batch: int, kept: Kept | None = None) -> pa.Table:
    """The rows as an Arrow table: the columns of `records` but for the leaf. `kept`: what they are without contents."""
    count = len(rows)
    texts: dict[str, list[str]] = {
        "id": [row.id for row in rows],
        "kind": [row.kind for row in rows],
        "flow": [row.flow for row in rows],
        "step": [row.step for row in rows],
        "ref": [row.ref for row in rows],
        "broker": [row.broker for row in rows],
        "topic": [row.topic for row in rows],
        "outcome": [row.outcome for row in rows],
    }
    numbers: dict[str, list[int]] = {
        "first": [row.first for row in rows],
        "next": [row.next for row in rows],
        "count": [row.count for row in rows],
    }
    columns: dict[str, pa.Array] = {
        "seq": pa.array(np.arange(first_seq, first_seq + count)),
        "batch": pa.repeat(pa.scalar(batch, pa.int32()), count),
        **{name: pa.array(values, pa.string()) for name, values in texts.items()},
        "parents": pa.array([row.parents for row in rows], pa.list_(pa.string())),
        "partition": pa.array([row.partition for row in rows], pa.int32()),
        **{name: pa.array(values, pa.int64()) for name, values in numbers.items()},
        "time": pa.array([row.at for row in rows], _MOMENT),
        "logged": pa.array([row.logged for row in rows], _MOMENT),
        "data": pa.array(kept.data if kept else [bytes(row.data) for row in rows], pa.string()),
        "held": pa.array(kept.held if kept else [None] * count, pa.string()),
    }
    return pa.table(columns)


def named(kept: Kept, first_seq: int) -> pa.Table:
    """The names by which rows may be asked for, each with the `seq` of its row."""
    seqs = np.array(kept.places, np.int64) + first_seq
    return pa.table({"name": pa.array(numbers(kept.names)), "seq": pa.array(seqs)})
