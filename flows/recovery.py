"""Where a flow's state survives: one recovery store per flow and broker life, locked against a second run.

Offsets of two broker lives never compare, so a new broker id starts every flow on an empty store.
"""

import fcntl
import shutil
from datetime import timedelta
from pathlib import Path
from typing import IO

from bytewax.recovery import RecoveryConfig, init_db_dir

from headwater.lineage.errors import Misused

PARTITIONS = 4
"""Recovery partitions are fixed when a store is made: as many as processes may ever share it."""

LIVES_KEPT = 5

EPOCH = timedelta(seconds=0.5)


class Recovery:
    """A locked recovery store. `lock=False` for the second and further processes of one cluster."""

    def __init__(self, home: Path, flow: str, broker: str, *, lock: bool = True) -> None:
        self.path = home / "recovery" / flow / broker
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = hold(self.path / "lock", f"flow {flow}") if lock else None
        _make(self.path)
        _forget(self.path.parent)

    @property
    def config(self) -> RecoveryConfig:
        return RecoveryConfig(str(self.path))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()


def _make(path: Path) -> None:
    """Make the store once, whichever process comes first; one that was killed while being made is made again."""
    with (path / "making").open("a") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        made = path / "made"
        if made.exists():
            return
        for part in path.glob("part-*"):
            part.unlink()
        init_db_dir(path, PARTITIONS)  # type: ignore[no-untyped-call]
        made.touch()


def _forget(lives: Path) -> None:
    """Keep the stores of the newest broker lives only: an embedded broker has a new one at every start."""
    newest = sorted((life for life in lives.iterdir() if life.is_dir()), key=lambda life: life.stat().st_mtime, reverse=True)
    for life in newest[LIVES_KEPT:]:
        shutil.rmtree(life, ignore_errors=True)


def hold(path: Path, what: str) -> IO[str]:
    """Lock a file for as long as the answer lives. Raises Misused if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Misused(f"{what} runs already (its lock {path} is held); stop it first, or set HEADWATER_HOME to another folder") from None
    return file
