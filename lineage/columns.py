"""columns: records as they land, one column for each field. What many records have in common stands there once.

A document is *open* here: the texts that it says, and the ids by which people ask for it, stand beside the rest of its data.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, chain
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np

from headwater.lineage.opening import Form, open_document
from headwater.lineage.record import Record
from headwater.lineage.row import Row, Short, rows_of

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


class Common(NamedTuple):
    """What records have in common. `form`: what is beside a document's data, None if nothing is, or it is no document."""

    kind: str
    flow: str
    step: str
    broker: str
    topic: str
    partition: Short
    outcome: str
    form: Form | None = None


COMMON = Common._fields[:-1]
"""Those that are columns of the database."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Records in their order, field by field.

    common   what records have in common;  of: for each record, its place there
    parents  those of all records after each other;  counts: how many are each record's
    at       event times as µs since 1970, None where there is none
    data     JSON objects;  texts, names: of all open documents after each other, see `Form`
    """

    common: Sequence[Common]
    of: Numbers
    id: list[str]
    ref: list[str]
    parents: list[str]
    counts: list[int]
    first: Numbers
    next: Numbers
    count: Numbers
    logged: list[int]
    at: list[int | None]
    data: list[bytes]
    texts: Sequence[bytes | msgspec.Raw]
    names: list[str]

    @property
    def size(self) -> int:
        """How many records."""
        return len(self.id)

    def kinds(self, kinds: Iterable[str]) -> Numbers:
        """The places of the records of these kinds."""
        wanted = frozenset(kinds)
        chosen = [one.kind in wanted for one in self.common]
        return np.flatnonzero(np.array(chosen, bool)[self.of]) if any(chosen) else _NONE

    def speaking(self) -> list[int]:
        """The places of the records that are no open documents and say something."""
        closed = np.flatnonzero(np.array([one.form is None for one in self.common], bool)[self.of]).tolist()
        silent = [one.kind in _SILENT for one in self.common]
        return [place for place in closed if self.data[place] != b"{}" or self.ref[place] or not silent[self.of[place]]]

    def rows(self, places: Iterable[int]) -> Iterator[Row]:
        """The records at these places, which are no open documents, as rows."""
        begins = list(accumulate(self.counts, initial=0))
        for place in places:
            kind, flow, step, broker, topic, partition, outcome, _ = self.common[self.of[place]]
            yield Row(
                id=self.id[place], kind=kind, flow=flow, step=step, logged=self.logged[place], ref=self.ref[place],
                parents=tuple(self.parents[begins[place] : begins[place + 1]]), broker=broker, topic=topic, partition=partition,
                first=int(self.first[place]), next=int(self.next[place]), count=int(self.count[place]), outcome=outcome,
                at=self.at[place], data=msgspec.Raw(self.data[place]),
            )  # fmt: skip

    def at_places(self, places: Sequence[int]) -> "Columns":
        """The records at these places, in that order; a place may come twice."""
        texts, names = [0] * len(self.common), [0] * len(self.common)
        for number, one in enumerate(self.common):
            if one.form is not None:
                texts[number], names[number] = one.form.texts, one.form.names
        of = self.of.tolist()
        chosen = np.array(places, np.int64)
        return Columns(
            self.common, self.of[chosen],
            [self.id[place] for place in places], [self.ref[place] for place in places],
            _picked(self.parents, self.counts, places), [self.counts[place] for place in places],
            self.first[chosen], self.next[chosen], self.count[chosen],
            [self.logged[place] for place in places], [self.at[place] for place in places], [self.data[place] for place in places],
            _picked(self.texts, [texts[one] for one in of], places), _picked(self.names, [names[one] for one in of], places),
        )  # fmt: skip


    def exchanged(self, rows: Mapping[int, Sequence[Row]]) -> "Columns":
        """The records, but at these places others that differ in id and offsets alone, or none."""
        chosen: list[tuple[int, Row | None]] = []
        for place in range(self.size):
            chosen.extend([(place, row) for row in rows[place]] if place in rows else [(place, None)])
        found = self.at_places([place for place, _ in chosen])
        for place, (_, row) in enumerate(chosen):
            if row is not None:
                found.id[place], found.first[place], found.next[place], found.count[place] = row.id, row.first, row.next, row.count
        return found


_NONE = np.empty(0, np.int64)
_SILENT = frozenset(("consumed", "absent", "outcome"))


def _picked(values: Sequence[Any], counts: Sequence[int], places: Sequence[int]) -> list[Any]:
    """Of values that are so many for each record, those of the records at these places."""
    ends = list(accumulate(counts, initial=0))
    return [value for place in places for value in values[ends[place] : ends[place + 1]]]


def columns_of(records: Sequence[Record | Row], *, open: bool = True) -> Columns:
    """Records as they land, their documents open or as they are."""
    rows = rows_of(records)
    common: dict[Common, int] = {}
    of, data, texts, names = list[int](), list[bytes](), list[bytes](), list[str]()
    for row in rows:
        opened = open_document(row) if open and row.kind == "document" else None
        form, told = None, bytes(row.data)
        if opened is not None:
            form, told = opened.form, opened.data
            texts += opened.texts
            names += opened.names
        one = Common(row.kind, row.flow, row.step, row.broker, row.topic, row.partition, row.outcome, form)
        of.append(common.setdefault(one, len(common)))
        data.append(told)
    first, following, count = (np.array([getattr(row, name) for row in rows], np.int64) for name in ("first", "next", "count"))
    return Columns(
        list(common), np.array(of, np.int64), [row.id for row in rows], [row.ref for row in rows],
        [parent for row in rows for parent in row.parents], [len(row.parents) for row in rows], first, following, count,
        [row.logged for row in rows], [row.at for row in rows], data, texts, names,
    )  # fmt: skip


def joined(pieces: Sequence[Columns]) -> Columns:
    """All of them, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    common: dict[Common, int] = {}
    of = [np.array([common.setdefault(one, len(common)) for one in piece.common], np.int64)[piece.of] for piece in pieces if piece.size]
    columns: dict[str, Any] = {"common": list(common), "of": np.concatenate([_NONE, *of])}
    for name in _JOINED:
        parts = [getattr(piece, name) for piece in pieces]
        whole = isinstance(parts[0], np.ndarray) if parts else name in ("first", "next", "count")
        columns[name] = np.concatenate([_NONE, *parts]) if whole else list(chain.from_iterable(parts))
    return Columns(**columns)


_JOINED = tuple(field.name for field in fields(Columns))[2:]
