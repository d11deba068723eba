"""Look-ups: facts from a table (Lookup), facts from the latest event of another topic (Latest)."""

import bisect
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import msgspec
import polars as pl
import pydantic

from headwater.lineage.decode import Received
from headwater.lineage.duration import duration
from headwater.lineage.errors import EnricherFailed, Misused
from headwater.lineage.topic import Topic, fields_of

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Lookup:
    """A row of a CSV file, found by a field of the event.

    path  of the file; a relative one lies beside the application file (`bind`), else in the working directory
    on    the field of the event's model that is looked up
    key   the column it is compared with, as text; None: the column called `on`, else the first column

    A key that the file lacks gives the row of its columns with None for each value. Of a key given twice the first row counts.
    The file is read on first use and kept.
    """

    path: str | Path
    on: str
    key: str | None = None
    root: Path | None = None
    _table: list[tuple[Mapping[str, Row], Row]] = field(default_factory=list, repr=False)

    def bind(self, root: Path) -> "Lookup":
        """The same look-up with relative paths resolved against `root`; the application calls it for its own folder."""
        return replace(self, root=root, _table=[])

    def facts(self, model: Any, time: int) -> Row:
        """The row for the event. Raises EnricherFailed if the model lacks `on`, Misused if the file cannot be read."""
        rows, unknown = self.table()
        return rows.get(str(_value(model, self.on)), unknown)

    def table(self) -> tuple[Mapping[str, Row], Row]:
        """Key → row, and the row of a missing key. Raises Misused."""
        if not self._table:
            self._table.append(self._read())
        return self._table[0]

    def _read(self) -> tuple[Mapping[str, Row], Row]:
        path = Path(self.path) if self.root is None else self.root / self.path
        try:
            frame = pl.read_csv(path, infer_schema_length=None)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise Misused(f"look-up file {path} cannot be read: {error}; put a CSV file with a header line there") from None
        key = self.key or (self.on if self.on in frame.columns else frame.columns[0])
        if key not in frame.columns:
            raise Misused(f"look-up file {path} has no column {key!r}; it has {', '.join(frame.columns)}")
        rows: dict[str, Row] = {}
        for row in frame.iter_rows(named=True):
            rows.setdefault(str(row[key]), row)
        return rows, dict.fromkeys(frame.columns)


class Latest:
    """The latest event of another topic about the same thing: the topic as a table.

    topic    the other topic; a reader in `flows` feeds it (`feed`)
    on       the field of *this* event's model that is looked up
    key      the field of the other topic's model that it is compared with; None: the one called `on`
    history  how much event time is kept per key, behind that key's newest event; the newest event is always kept

    Facts are the newest row whose event time is not later than the event's own (so a replay sees what was known then),
    or the row of the other model's fields with None for each value.
    """

    def __init__(self, topic: Topic[Any], on: str, key: str | None = None, *, history: str = "24h") -> None:
        self.topic = topic
        self.on = on
        self.key = key or on
        self.history_us = duration(history)
        if self.key not in fields_of(topic.model):
            names = ", ".join(fields_of(topic.model))
            raise Misused(f"Latest({topic.name}): key={self.key!r} is no field of {topic.model.__name__}; it has {names}")
        self._rows: dict[str, list[tuple[int, str, Row]]] = {}
        self._unknown: Row = dict.fromkeys(fields_of(topic.model))
        self._lock = threading.Lock()

    def bind(self, root: Path) -> Self:
        """Nothing to resolve; here so that applications can bind any of the two."""
        return self

    def feed(self, received: Sequence[Received]) -> None:
        """Take events of the other topic, in any order. An event fed twice counts once."""
        with self._lock:
            for one in received:
                if not one.is_mark:
                    self._insert(str(_value(one.model, self.key)), (one.event.time, one.event.id, _row(one.model)))

    def facts(self, model: Any, time: int) -> Row:
        """The newest row not later than `time` (µs)."""
        key = str(_value(model, self.on))
        with self._lock:
            rows = self._rows.get(key, [])
            place = bisect.bisect_right(rows, time, key=_time)
            return rows[place - 1][2] if place else self._unknown

    def _insert(self, key: str, row: tuple[int, str, Row]) -> None:
        rows = self._rows.setdefault(key, [])
        place = bisect.bisect_left(rows, row[:2], key=_order)
        if place < len(rows) and _order(rows[place]) == row[:2]:
            return
        rows.insert(place, row)
        # The last row before the horizon stays: it is what counted at the horizon.
        forgotten = bisect.bisect_right(rows, rows[-1][0] - self.history_us, key=_time) - 1
        if forgotten > 0:
            del rows[:forgotten]


def _time(row: tuple[int, str, Row]) -> int:
    return row[0]


def _order(row: tuple[int, str, Row]) -> tuple[int, str]:
    return row[:2]


def _row(model: Any) -> Row:
    if isinstance(model, pydantic.BaseModel):
        return model.model_dump()
    return msgspec.structs.asdict(model)


def _value(model: Any, name: str) -> Any:
    try:
        return getattr(model, name)
    except AttributeError:
        raise EnricherFailed(f"{type(model).__name__} has no field {name!r} to look up") from None
