"""A drop at work: every row of a file becomes an event once, even if the process is killed at any moment.

Per file the home remembers how many rows are dealt with, and from which offset on in each partition later rows must lie. It is written
after the broker's acknowledgement of a batch and before the next is sent: so after a kill at most one batch is in doubt, and reading the
topic back from those offsets tells which of its rows are there.
"""

import hashlib
import os
import stat
import uuid
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from threading import Event as Flag
from typing import Any, BinaryIO

import msgspec
import structlog

from headwater.flows.attempt import ID
from headwater.flows.drain import end_of, tail
from headwater.flows.drop import Drop
from headwater.flows.foreign import Item
from headwater.flows.kafka import Kafka
from headwater.flows.parcel import Sender
from headwater.flows.rows import FORMATS, Row
from headwater.flows.run_file import write_whole
from headwater.lineage.duration import duration
from headwater.lineage.errors import HeadwaterError, Retryable
from headwater.lineage.topic import DEAD

_log = structlog.get_logger("headwater.drop")

NAMESPACE = uuid.UUID("b1d6a7f2-9a4b-5a0e-8a53-3f6a0f5d7c44")
BATCH = 1000
"""Rows that are acknowledged together, and that may be in doubt after a kill."""
LOOK_S = 1.0
_CHUNK = 1_000_000


class Progress(msgspec.Struct):
    """How far a file is. `places`: `topic/partition` → the offset from which on rows after `rows` lie, in the life of `broker`."""

    path: str
    identity: str
    size: int
    changed: int
    rows: int = 0
    buried: int = 0
    done: bool = False
    error: str = ""
    broker: str = ""
    places: dict[str, int] = msgspec.field(default_factory=dict)


class Dropping:
    """A drop at work. `memory` is a folder of its own; `stop` ends it between two batches."""

    def __init__(
        self, drop: Drop, root: Path, memory: Path, sender: Sender, kafka: Kafka, broker: str, clock: Callable[[], int], stop: Flag
    ) -> None:
        self.origin = drop.origin
        self._drop, self._root, self._memory, self._sender = drop, root, memory, sender
        self._kafka, self._broker, self._clock, self._stop = kafka, broker, clock, stop
        self._looked: dict[Path, tuple[int, int]] = {}
        self._finished: dict[Path, tuple[int, int]] = {}
        self._ends: dict[str, int] = {}
        self._counts = {"events": 0, "buried": 0}
        self._now: dict[str, Any] | None = None

    def turn(self) -> float:
        """Look at the folder once, and deal with the files that stand still. Raises Unavailable."""
        there: dict[Path, tuple[int, int]] = {}
        for path in self._drop.files(self._root):
            if self._stop.is_set():
                break
            try:
                known = path.stat()
            except OSError:
                continue  # it went away
            stamp = there[path] = (known.st_size, known.st_mtime_ns)
            if self._finished.get(path) == stamp:
                continue
            if self._looked.get(path) == stamp and self._clock() * 1000 - known.st_mtime_ns >= duration(self._drop.settle) * 1000:
                self._take(path, stamp)
        self._looked = there
        self._finished = {path: stamp for path, stamp in self._finished.items() if path in there}
        return LOOK_S

    def status(self) -> dict[str, Any]:
        looked = list(self._looked.items())
        files = sum(1 for path, stamp in looked if self._finished.get(path) == stamp)
        told = {"files": files, "waiting": len(looked) - files, **self._counts, "now": self._now}
        return {"gateway": self.origin, "into": self._drop.into.name, **told}

    def _take(self, path: Path, stamp: tuple[int, int]) -> None:
        file = _opened(path)
        if file is None:
            return
        with file:
            told = os.fstat(file.fileno())
            if (told.st_size, told.st_mtime_ns) != stamp:
                return  # it changed since
            progress = self._recall(path, stamp, file)
            if progress is None:
                return
            if not progress.done:
                self._read(path, file, progress)
            if progress.done:
                self._finished[path] = stamp

    def _recall(self, path: Path, stamp: tuple[int, int], file: BinaryIO) -> Progress | None:
        """What is known of this file; None if the stop came meanwhile. One whose contents changed is another file of the same name."""
        name = path.relative_to((self._root / self._drop.split[0]).resolve()).as_posix()
        known = self._load(name)
        if known is not None and known.done and (known.size, known.changed) == stamp:
            return known
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if self._stop.is_set():
                return None
        file.seek(0)
        identity = str(uuid.uuid5(NAMESPACE, f"{self._drop.name}\x1f{name}\x1f{digest.hexdigest()}"))
        if known is None or known.identity != identity:
            known = Progress(name, identity, *stamp)
        known.size, known.changed = stamp
        return known

    def _read(self, path: Path, file: BinaryIO, progress: Progress) -> None:
        """Send what is not sent yet, batch after batch, each remembered before the next."""
        there = self._there(progress)
        self._begin(progress)
        rows = FORMATS[path.suffix](file, progress.rows)
        try:
            while batch := list(islice(rows, BATCH)):
                self._send(progress, batch, there)
                there = frozenset()
                self._now = {"file": progress.path, "rows": progress.rows, "percent": _percent(file, progress.size)}
                if self._stop.is_set():
                    return
        except Retryable:
            raise
        except HeadwaterError as error:  # the file as a whole, from here on
            self._send(progress, [Row(progress.rows + 1, None, b"", error)], there)
            progress.error = str(error)
        finally:
            self._now = None
        progress.done = True
        self._save(progress)
        _log.info("file read", gateway=self.origin, file=progress.path, rows=progress.rows, buried=progress.buried)

    def _send(self, progress: Progress, batch: list[Row], there: frozenset[str]) -> None:
        ids = {row.number: row_id(progress.identity, row.number) for row in batch}
        folder = self._drop.split[0].as_posix()
        items = [
            Item(ids[row.number], f"{folder}/{progress.path}:{row.number}", row.value, row.raw or _shown(row.value), row.error)
            for row in batch
            if ids[row.number] not in there
        ]
        sent = self._sender.send(items, once=False)
        for position in sent.positions:
            place = f"{position.topic}/{position.partition}"
            self._ends[place] = progress.places[place] = max(self._ends.get(place, 0), position.offset + 1)
        progress.rows = batch[-1].number
        progress.buried += sent.buried
        self._counts["events"] += len(items) - sent.buried - sent.silent
        self._counts["buried"] += sent.buried
        self._save(progress)

    def _begin(self, progress: Progress) -> None:
        """From which offsets on this file's next rows will lie; remembered before the first is sent."""
        if progress.broker == self._broker and progress.places:
            return
        for topic, count in ((self._drop.into.name, self._drop.into.partitions), (DEAD, 1)):
            for partition in range(count):
                place = f"{topic}/{partition}"
                if place not in self._ends:
                    self._ends[place] = end_of(self._kafka, topic, partition)
        progress.broker, progress.places = self._broker, dict(self._ends)
        self._save(progress)

    def _there(self, progress: Progress) -> frozenset[str]:
        """The ids of those rows in doubt that lie at the broker already. Raises Unavailable."""
        if progress.broker != self._broker or not progress.places:
            return frozenset()
        doubtful = {row_id(progress.identity, number) for number in range(progress.rows + 1, progress.rows + BATCH + 1)}
        found = set()
        for place, first in progress.places.items():
            topic, _, partition = place.rpartition("/")
            for message in tail(self._kafka, topic, int(partition), 0, first):
                known = dict(message.headers)
                id = (known.get(ID) if topic == DEAD else known.get("ce_id")) or b""
                if id.decode(errors="replace") in doubtful:
                    found.add(id.decode())
        return frozenset(found)

    def _file(self, name: str) -> Path:
        return self._memory / f"{uuid.uuid5(NAMESPACE, name)}.json"

    def _load(self, name: str) -> Progress | None:
        try:
            return msgspec.json.decode(self._file(name).read_bytes(), type=Progress)
        except FileNotFoundError:
            return None

    def _save(self, progress: Progress) -> None:
        write_whole(self._file(progress.path), msgspec.json.encode(progress).decode())


def row_id(identity: str, number: int) -> str:
    """The id of a row's event."""
    return str(uuid.uuid5(NAMESPACE, f"{identity}\x1f{number}"))


def _opened(path: Path) -> BinaryIO | None:
    """The file, if it is one: no link, no pipe that would never end."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    return None


def _percent(file: BinaryIO, size: int) -> int:
    return 100 if file.closed or not size else min(100, 100 * file.tell() // size)


def _shown(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)
