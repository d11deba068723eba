"""Where a flow's state survives: one recovery store per flow and broker life, locked against a second run.

Offsets of two broker lives never compare, so a new broker id starts every flow on an empty store.
"""

import fcntl
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import IO

from bytewax.recovery import RecoveryConfig, init_db_dir

from headwater.lineage.errors import Misused

PARTITIONS = 1
"""Files of a store, for each process that shares it as it is made; any number of workers may share them later. A worker waits for the disk
some three times per file at the end of every epoch, and reads nothing meanwhile."""

SLOTS = 64
"""Parts of a flow's sources, unless the store was made with another number. More workers than this take as many as they are."""

SLOTS_UNTOLD = 8
"""What stores were made with before they told."""

LOCK = "lock"

LIVES_KEPT = 5

EPOCH = timedelta(seconds=0.5)


class Recovery:
    """A locked recovery store.

    process, addresses  which process of which cluster this is; those of one cluster share the store, each holds a lock of its own
    slots               parts of the flow's sources: what the store was made with counts, `slots` only where it is made now

    Raises Misused: this process runs already, or another cluster does, over this store.
    """

    def __init__(self, home: Path, flow: str, broker: str, *, process: int = 0, addresses: Sequence[str] = (), slots: int = SLOTS) -> None:
        self.path = home / "recovery" / flow / broker
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "making").open("a") as making:  # one process at a time gets its lock, and makes what is not made
            fcntl.flock(making, fcntl.LOCK_EX)
            self._lock = _join(self.path, f"flow {flow}", process, addresses)
            self.slots = _make(self.path, slots, PARTITIONS * max(1, len(addresses)))
            if process == 0:  # nobody reads the store before this process does
                _cut(self.path)
        _forget(self.path.parent)

    @property
    def config(self) -> RecoveryConfig:
        return RecoveryConfig(str(self.path))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._lock.close()


def _join(path: Path, what: str, process: int, addresses: Sequence[str]) -> IO[str]:
    """This process's lock, if whoever else holds one is of the same cluster. Raises Misused."""
    mine, cluster = path / (f"{LOCK}-{process}" if process else LOCK), path / "cluster"
    ours = ";".join(addresses)
    theirs = cluster.read_text() if cluster.exists() else None
    if theirs != ours:
        for other in sorted(path.glob(f"{LOCK}*")):
            hold(other, f"{what} in another cluster ({theirs or 'one process'})").close()
        cluster.write_text(ours)
    return hold(mine, what)


def _make(path: Path, slots: int, parts: int) -> int:
    """Make the store once, whichever process comes first; one that was killed while being made is made again. The number of its slots."""
    made, number = path / "made", path / "slots"
    if not made.exists():
        for part in path.glob("part-*"):
            part.unlink()
        init_db_dir(path, parts)  # type: ignore[no-untyped-call]
        number.write_text(str(slots))
        made.touch()
    return int(number.read_text()) if number.exists() else SLOTS_UNTOLD


def _cut(path: Path) -> None:
    """Remove snapshots of epochs that no execution completed.

    The engine resumes each key with its newest snapshot before the resume epoch, whichever execution wrote it. One that was killed leaves
    snapshots of epochs it did not complete; the next passes those epochs too, without writing what did not change; and if that one is
    killed as well, a third would take up the first one's: a state ahead of its source.
    """
    with ExitStack() as opened:
        parts = [opened.enter_context(closing(sqlite3.connect(part))) for part in sorted(path.glob("part-*.sqlite3"))]
        last = max((row for part in parts for row in part.execute("SELECT ex_num, resume_epoch FROM exs")), default=None)
        if last is None:
            return
        number, resume = last
        reached = [row[0] for part in parts for row in part.execute("SELECT worker_frontier FROM fronts WHERE ex_num = ?", [number])]
        begin = max(resume, min(reached, default=resume))  # the engine resumes there or earlier, never later
        for part in parts:
            with part:
                part.execute("DELETE FROM snaps WHERE snap_epoch >= ?", [begin])


def _forget(lives: Path) -> None:
    """Keep the stores of the newest broker lives only: an embedded broker has a new one at every start."""
    newest = sorted((life for life in lives.iterdir() if life.is_dir()), key=lambda life: life.stat().st_mtime, reverse=True)
    for life in newest[LIVES_KEPT:]:
        shutil.rmtree(life, ignore_errors=True)


def hold(path: Path, what: str) -> IO[str]:
    """Lock a file for as long as the answer lives. Raises Misused if another process holds it, or it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise Misused(f"{path.parent} cannot be written: {error.strerror}; set HEADWATER_HOME to a folder of yours") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Misused(f"{what} runs already (its lock {path} is held); stop it first, or set HEADWATER_HOME to another folder") from None
    return file
