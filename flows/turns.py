"""Turns: on the embedded broker, transactions end one after another, whichever process of this machine ends them.

While two that wrote to one partition end at the same moment, that broker may take the one for ended before its last mark is written,
and then keeps account of that mark for as long as the producer begins no other transaction: what anybody commits there meanwhile, no
reader of committed messages sees, and if the producer was killed, none ever does. What is ended in turn is ended for good.
Other brokers need no such care; there nothing waits.

Among processes the turn is the lock of a byte, chosen by the broker's id, of a file in a folder of this user's: the embedded broker
listens on this machine only. The kernel takes it from whoever is killed. Who has it and stands still is waited for once, not each time.
"""

import fcntl
import os
import stat
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import structlog

from headwater.flows.broker import is_embedded

_log = structlog.get_logger("headwater.turns")

LONGEST_S = 1.0
"""How long anyone waits for a turn: an end that gets no answer must not hold up all others, it only loses them this care."""
_RESTS_S = (0.0005, 0.001, 0.002, 0.004)
"""Between two looks whether another process has given its turn back."""

_turn = threading.Lock()


@contextmanager
def in_turn(broker: str) -> Iterator[None]:
    """Around whatever ends a transaction: a commit, an abort, a fence. `broker` is the broker's id."""
    if not is_embedded(broker):
        yield
        return
    mine = _turn.acquire(timeout=LONGEST_S)
    place = _place_of(broker) if mine else None
    try:
        if place is not None:
            place.take()
        yield
    finally:
        if place is not None:
            place.give_back()
        if mine:
            _turn.release()


class _Place:
    """A broker's place in the file: the turn, and a gate before it, so that who waits comes next. Used by one thread at a time."""

    def __init__(self, file: int, broker: str) -> None:
        self._file, self._turn = file, 2 * zlib.crc32(broker.encode())
        self._gate = self._turn + 1
        self._stuck = False

    def take(self) -> None:
        """Wait until the turn is ours, `LONGEST_S` at most, and not at all while it was not to be had the last time."""
        until = time.monotonic() + (0.0 if self._stuck else LONGEST_S)
        gone_in = self._wait(self._gate, until)
        self._stuck = not self._wait(self._turn, until)
        if gone_in:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._gate)

    def _wait(self, byte: int, until: float) -> bool:
        rests = iter(_RESTS_S)
        while self._taken(byte):
            if time.monotonic() >= until:
                return False
            time.sleep(next(rests, _RESTS_S[-1]))
        return True

    def _taken(self, byte: int) -> bool:
        """Whether another process has it; else it is ours."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # which of them is the system's choice
            return True
        return False

    def give_back(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._turn)


_places: dict[str, _Place | None] = {}


def _place_of(broker: str) -> _Place | None:
    """A broker's place. None: there is no file for it, so turns hold within this process only."""
    if broker not in _places:
        try:
            _places[broker] = _Place(_file(), broker)
        except OSError as error:
            _log.warning("transactions take turns within this process only", error=str(error))
            _places[broker] = None
    return _places[broker]


@cache
def _file() -> int:
    """The file, never closed: with it would go every lock of this process. In a folder of this user's alone. Raises OSError."""
    folder = Path(tempfile.gettempdir()) / f"headwater-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user's alone; remove it")
    return os.open(folder / "turns", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
