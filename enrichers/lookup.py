"""Lookup: facts from a row of a CSV file, which is read again when it changes."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import structlog

from headwater.enrichers.enrich import Answer, Known
from headwater.enrichers.row import Row, value_of
from headwater.lineage.decode import Received
from headwater.lineage.errors import Misused

_log = structlog.get_logger("headwater.lookup")

DIGITS = 12
"""Hex digits of the file's SHA-256 that lineage keeps."""

Stamp = tuple[int, int, int]


class Table(NamedTuple):
    """A file's rows by key, the row of a key that is missing, and the beginning of the SHA-256 of what was read."""

    rows: Mapping[str, Row]
    unknown: Row
    digest: str


@dataclass
class _Watched:
    """What was last read, and the file's stamp when it was last tried: of one that cannot be read the last good table stays."""

    table: Table | None = None
    tried: Stamp | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, eq=False)
class Lookup:
    """A row of a CSV file, found by a field of the event.

    path  of the file; a relative one lies beside the application file (`bind`), else in the working directory
    on    the field of the event's model that is looked up
    key   the column it is compared with, as text; None: the column called `on`, else the first column

    A key that the file lacks gives the row of its columns with None for each value. Of a key given twice the first row counts.
    The file is read on first use, and again when its time or size changed: events from then on see the new rows. A new file that
    cannot be read, or lacks a column of the former, is warned of, and the last good rows stay. Replace the file by renaming a whole
    one over it.
    """

    path: str | Path
    on: str
    key: str | None = None
    root: Path | None = None
    _watched: _Watched = field(default_factory=_Watched, repr=False)

    def bind(self, root: Path) -> "Lookup":
        """The same look-up with relative paths resolved against `root`; the application calls it for its own folder."""
        return replace(self, root=root, _watched=_Watched())

    @property
    def file(self) -> Path:
        return Path(self.path) if self.root is None else self.root / self.path

    @property
    def reads(self) -> str:
        """The file's name with the digest of what was read of it. Raises Misused."""
        return self._named(self.table())

    def facts(self, model: Any, time: int) -> Row:
        """The row for the event. Raises EnricherFailed if the model lacks `on`, Misused if the file could never be read."""
        return self._row(self.table(), model)

    def facts_of(self, received: Sequence[Received]) -> list[Answer]:
        """The row for each event, all from one reading of the file. Raises Misused."""
        table = self.table()
        reads = self._named(table)
        found: list[Answer] = []
        for one in received:
            try:
                found.append(Known(self._row(table, one.model), reads))
            except Exception as error:
                found.append(error)
        return found

    def table(self) -> Table:
        """What the file holds now, or held when it could last be read. Raises Misused if it never could."""
        watched = self._watched
        with watched.lock:
            stamp = _stamp(self.file)
            if watched.table is None or stamp != watched.tried:
                try:
                    watched.table = self._read(watched.table)
                except Misused as error:
                    if watched.table is None:
                        raise
                    _log.warning("a look-up file changed and cannot be read; its last good rows stay", error=str(error))
                watched.tried = stamp  # of before it was read: what changed meanwhile is read with the next look
            return watched.table

    def _named(self, table: Table) -> str:
        return f"{self.file.name}#{table.digest}"

    def _row(self, table: Table, model: Any) -> Row:
        return table.rows.get(str(value_of(model, self.on)), table.unknown)

    def _read(self, former: Table | None) -> Table:
        """Raises Misused, also for a file that lacks columns it had: what reads the facts counts on them until the next start."""
        try:
            content = self.file.read_bytes()
            frame = pl.read_csv(content, infer_schema_length=None)
        except (OSError, pl.exceptions.PolarsError) as error:
            why = str(error).strip().split("\n", 1)[0]  # what follows are polars' hints to programmers
            raise Misused(f"look-up file {self.file} cannot be read: {why}; put a CSV file with a header line there") from None
        if former is not None and (lost := [column for column in former.unknown if column not in frame.columns]):
            raise Misused(f"look-up file {self.file} no longer has the column {lost[0]!r}; it has {', '.join(frame.columns)}")
        key = self.key or (self.on if self.on in frame.columns else frame.columns[0])
        if key not in frame.columns:
            raise Misused(f"look-up file {self.file} has no column {key!r}; it has {', '.join(frame.columns)}")
        rows: dict[str, Row] = {}
        for row in frame.iter_rows(named=True):
            rows.setdefault(str(row[key]), row)
        return Table(rows, dict.fromkeys(frame.columns), hashlib.sha256(content).hexdigest()[:DIGITS])


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file does; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
