"""Latest: facts from the latest event of another topic about the same thing."""

import bisect
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from headwater.enrichers.enrich import Answer, Known
from headwater.enrichers.row import Row, row_of, value_of
from headwater.lineage.decode import Received
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.topic import Topic, fields_of


class Kept(NamedTuple):
    """What one event of the other topic said about a key; `position`: `topic/partition@offset`."""

    time: int
    id: str
    row: Row
    position: str

    @property
    def order(self) -> tuple[int, str]:
        return self.time, self.id


class Latest:
    """The latest event of another topic about the same thing: the topic as a table.

    topic    the other topic; a reader in `flows` feeds it (`feed`, `forget`)
    on       the field of *this* event's model that is looked up
    key      the field of the other topic's model that it is compared with; None: the one called `on`
    history  how much event time is kept per key, behind that key's newest event; the newest event is always kept

    Facts are the newest row whose event time is not later than the event's own (so a replay sees what was known then),
    or the row of the other model's fields with None for each value: there is none yet, or a tombstone took it.
    """

    def __init__(self, topic: Topic[Any], on: str, key: str | None = None, *, history: str = "24h") -> None:
        self.topic = topic
        self.on = on
        self.key = key or on
        self.history_us = duration(history)
        if self.key not in fields_of(topic.model):
            names = ", ".join(fields_of(topic.model))
            raise Misused(f"Latest({topic.name}): key={self.key!r} is no field of {topic.model.__name__}; it has {names}")
        self._rows: dict[str, list[Kept]] = {}
        self._unknown: Row = dict.fromkeys(fields_of(topic.model))
        self._lock = threading.Lock()

    @property
    def reads(self) -> str:
        """What it reads, where nothing more exact is known."""
        return self.topic.name

    def bind(self, root: Path) -> Self:
        """Nothing to resolve; here so that applications can bind any of the two."""
        return self

    def feed(self, received: Sequence[Received]) -> None:
        """Take events of the other topic, in any order. An event fed twice counts once."""
        with self._lock:
            for one in received:
                if not one.is_mark:
                    row = Kept(one.event.time, one.event.id, row_of(one.model), one.position.short)
                    self._insert(str(value_of(one.model, self.key)), row)

    def forget(self, key: str, time: int, id: str, position: str) -> None:
        """Take a tombstone: from `time` (µs) on nothing is known of the key. Only a topic keyed by `key` can say that."""
        with self._lock:
            self._insert(key, Kept(time, id, self._unknown, position))

    def facts(self, model: Any, time: int) -> Row:
        """The newest row not later than `time` (µs)."""
        kept = self._kept(model, time)
        return kept.row if kept else self._unknown

    def facts_of(self, received: Sequence[Received]) -> list[Answer]:
        """For each event its row, and the position that the row stands at."""
        found: list[Answer] = []
        for one in received:
            try:
                kept = self._kept(one.model, one.event.time)
            except Exception as error:
                found.append(error)
            else:
                found.append(Known(kept.row, kept.position) if kept else Known(self._unknown, self.reads))
        return found

    def _kept(self, model: Any, time: int) -> Kept | None:
        key = str(value_of(model, self.on))
        with self._lock:
            rows = self._rows.get(key, [])
            place = bisect.bisect_right(rows, time, key=_time)
            return rows[place - 1] if place else None

    def _insert(self, key: str, row: Kept) -> None:
        rows = self._rows.setdefault(key, [])
        place = bisect.bisect_left(rows, row.order, key=_order)
        if place < len(rows) and rows[place].order == row.order:
            return
        rows.insert(place, row)
        # The last row before the horizon stays: it is what counted at the horizon.
        forgotten = bisect.bisect_right(rows, rows[-1].time - self.history_us, key=_time) - 1
        if forgotten > 0:
            del rows[:forgotten]


def _time(row: Kept) -> int:
    return row.time


def _order(row: Kept) -> tuple[int, str]:
    return row.order
