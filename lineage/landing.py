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

from headwater.lineage.columns import COMMON, Columns, columns_of, joined
from headwater.lineage.keep import Kept
from headwater.lineage.numbering import numbers
from headwater.lineage.ranges import Ranges
from headwater.lineage.record import Record, record_id
from headwater.lineage.row import Row

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
    records: Sequence[Record | Row] | Columns
    run: str = ""

    @property
    def size(self) -> int:
        """How many records."""
        return self.records.size if isinstance(self.records, Columns) else len(self.records)


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
            columns = landing.records if isinstance(landing.records, Columns) else columns_of(landing.records)
            columns = self._uncut(_absent_first(columns), landing.run, sifted.replays)
            columns = sifted.once(columns, seen)
            self._suspected(columns, reach, sifted)
            sifted.add(columns)
        self.reach.update(reach)
        return sifted

    def _uncut(self, columns: Columns, run: str, replays: list[Replay]) -> Columns:
        """The records, of ranges only what is new."""
        said, cut = dict[Lane, Ranges](), dict[int, list[Row]]()
        places = columns.kinds(RANGED).tolist()
        for place, row in zip(places, columns.rows(places), strict=True):
            parts = self._cut(row, self._said(row, run, said), replays)
            if parts != [row]:
                cut[place] = parts
        return columns.exchanged(cut) if cut else columns

    def _suspected(self, columns: Columns, reach: dict[Lane, int], sifted: "Sifted") -> None:
        """A fact beyond all that its lane spoke of is new for certain; of any other the database must be asked."""
        lanes = [None if one.kind in RANGED else (one.kind, one.flow, one.broker, one.topic, one.partition) for one in columns.common]
        before = np.array([_NEVER if lane is None else self.reach.get(lane, -1) for lane in lanes], np.int64)
        for place in np.flatnonzero(columns.first <= before[columns.of]).tolist():
            sifted.suspects.append((sifted.size + place, columns.id[place], int(columns.first[place])))
        tops = np.full(len(lanes), _NEVER)
        np.maximum.at(tops, columns.of, columns.first)
        for lane, top in zip(lanes, tops.tolist(), strict=True):
            if lane is not None and top != _NEVER:
                reach[lane] = max(top, reach.get(lane, self.reach.get(lane, -1)))

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


def _absent_first(columns: Columns) -> Columns:
    """Absent offsets first: how many messages a cut run holds depends on them."""
    absent = columns.kinds(("absent",)).tolist()
    if not absent or absent[-1] < len(absent):
        return columns
    others = set(range(columns.size)).difference(absent)
    return columns.at_places([*absent, *sorted(others)])


def _common(new: Sequence[tuple[int, int]], first: int, next: int) -> tuple[int, int] | None:
    """From the first to the last offset of [first, next) that was not new."""
    parts = Ranges(new).missing(first, next)
    return (parts[0][0], parts[-1][1]) if parts else None


@dataclass
class Sifted:
    """A batch after sifting: records in landing order; suspects as (place in them, id, first); what was cut off."""

    pieces: list[Columns] = field(default_factory=list)
    size: int = 0
    suspects: list[tuple[int, str, int]] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    duplicates: int = 0

    def add(self, columns: Columns) -> None:
        """Records that are new, or suspects."""
        self.pieces.append(columns)
        self.size += columns.size

    def once(self, columns: Columns, seen: set[str]) -> Columns:
        """The records without the facts that are among those `seen`, which all are then."""
        ranged = set(columns.kinds(RANGED).tolist())
        facts = [id for place, id in enumerate(columns.id) if place not in ranged] if ranged else columns.id
        new = set(facts)
        if len(new) < len(facts) or not seen.isdisjoint(new):
            places = list[int]()
            for place, id in enumerate(columns.id):
                if place in ranged or id not in seen:
                    places.append(place)
                if place not in ranged:
                    seen.add(id)
            self.duplicates += columns.size - len(places)
            columns = columns.at_places(places)
        seen |= new
        return columns

    def without(self, landed: frozenset[str]) -> Columns:
        """The records to land, now that it is known which suspects landed before."""
        columns = joined(self.pieces)
        drop = {place for place, id, _ in self.suspects if id in landed}
        self.duplicates += len(drop)
        return columns.at_places([place for place in range(columns.size) if place not in drop]) if drop else columns


def lane_of(record: Row) -> Lane:
    """What a record's offsets are counted in."""
    kind = "open" if record.kind == "outcome" and record.outcome in OPEN else record.kind
    return (kind, record.flow, record.broker, record.topic, record.partition)


_NEVER = np.iinfo(np.int64).min
_MOMENT = pa.timestamp("us", tz="UTC")


def table(columns: Columns, first_seq: int, batch: int, kept: Kept | None = None) -> pa.Table:
    """The records as an Arrow table: the columns of `records` but for the leaf. `kept`: what they are without contents."""
    count, of = columns.size, pa.array(columns.of, pa.int32())
    types = {"partition": pa.int32()}
    common = {
        name: pa.DictionaryArray.from_arrays(of, pa.array([one[n] for one in columns.common], types.get(name, pa.string())))
        for n, name in enumerate(COMMON)
    }
    return pa.table({
        "seq": pa.array(np.arange(first_seq, first_seq + count)),
        "batch": pa.repeat(pa.scalar(batch, pa.int32()), count),
        "id": pa.array(columns.id, pa.string()),
        "ref": pa.array(columns.ref, pa.string()),
        "parents": pa.ListArray.from_arrays(np.cumsum([0, *columns.counts], dtype=np.int32), pa.array(columns.parents, pa.string())),
        **common,
        "first": pa.array(columns.first),
        "next": pa.array(columns.next),
        "count": pa.array(columns.count),
        "time": pa.array(columns.at, _MOMENT),
        "logged": pa.array(columns.logged, _MOMENT),
        "data": pa.array(kept.data if kept else columns.data, pa.string()),
        "held": kept.held if kept else pa.nulls(count, pa.string()),
    })


def named(kept: Kept, first_seq: int) -> pa.Table:
    """The names by which rows may be asked for, each with the `seq` of its row."""
    names = np.concatenate([numbers(each) for each in kept.names])
    return pa.table({"name": pa.array(names), "seq": pa.array(np.concatenate(kept.places) + first_seq)})
