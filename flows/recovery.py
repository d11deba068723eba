"""Where a flow's state survives: one recovery store per flow and broker life, locked against a second run.

Offsets of two broker lives never compare, so a new broker id starts every flow on an empty store.
"""

import fcntl
from datetime import timedelta
from pathlib import Path
from typing import IO

from bytewax.recovery import RecoveryConfig, init_db_dir

from headwater.lineage.errors import Misused

PARTITIONS = 4
"""Recovery partitions are fixed when a store is made: as many as processes may ever share it."""

EPOCH = timedelta(seconds=0.5)


class Recovery:
    """A locked recovery store. `lock=False` for the second and further processes of one cluster."""

    def __init__(self, home: Path, flow: str, broker: str, *, lock: bool = True) -> None:
        self.path = home / "recovery" / flow / broker
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = hold(self.path / "lock", f"flow {flow}") if lock else None
        self._make(lock)

    def _make(self, first: bool) -> None:
        """A store that a kill left half made was never used: it is made anew."""
        made, parts = self.path / "made", list(self.path.glob("part-*.sqlite3*"))
        if made.exists() or (parts and not first):
            return
        for part in parts:
            part.unlink()
        init_db_dir(self.path, PARTITIONS)  # type: ignore[no-untyped-call]
        made.touch()

    @property
    def config(self) -> RecoveryConfig:
        return RecoveryConfig(str(self.path))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()


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
