"""The event loop that agents and their tools run on, in a thread of its own, and a look at who holds it.

An agent that does not await holds all others, and nobody can take the loop from it. So it is told: who, for how long, at which line.
"""

import asyncio
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import structlog

_log = structlog.get_logger("headwater.agents")

LOOK_S = 0.25
HELD_S = 1.0
"""How long one task may hold the loop before it is told."""
AGAIN_S = 60.0
"""How long the same agent is not told of again."""
_NOT_THEIRS = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parent.parent))


class Held(NamedTuple):
    """Who holds the loop: the agent (or the name of a task that it began), for how many seconds by now, and at which line."""

    name: str
    seconds: float
    place: str


def _tell(held: Held) -> None:
    _log.warning(
        "all agents wait for one that does not await; what blocks belongs into asyncio.to_thread",
        agent=held.name, seconds=round(held.seconds, 1), at=held.place,
    )  # fmt: skip


class Loop:
    """A running event loop. Every `look_s` it is asked for a sign; one that gives none, and runs the same task still, is held by it."""

    def __init__(
        self, look_s: float = LOOK_S, held_s: float = HELD_S, tell: Callable[[Held], None] = _tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.loop = asyncio.new_event_loop()
        self._look_s, self._held_s, self._tell, self._clock = look_s, held_s, tell, clock
        self._closing = threading.Event()
        self._sign = threading.Event()
        self._asked = -1.0
        self._suspect: asyncio.Task[Any] | None = None
        self._next: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._run, name="agents", daemon=True),
            threading.Thread(target=self._watch, name="agents-watch", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads; what still runs stays where it is."""
        self._closing.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        for thread in self._threads:
            thread.join(5)

    def look(self) -> None:
        """Ask for a sign, or see who keeps it from coming."""
        now = self._clock()
        if self._asked < 0 or self._sign.is_set():
            self._sign.clear()
            self._asked, self._suspect = now, None
            self.loop.call_soon_threadsafe(self._sign.set)
            return
        before, self._suspect = self._suspect, asyncio.current_task(self.loop)
        held_s = now - self._asked
        # On a machine that is busy with other things a sign is late too; then it is not the same task that runs.
        if self._suspect is None or self._suspect is not before or held_s < self._held_s:
            return
        name = self._suspect.get_name()
        if now >= self._next.get(name, 0.0):
            self._next = {each: at for each, at in self._next.items() if at > now} | {name: now + AGAIN_S}
            self._tell(Held(name, held_s, _place(sys._current_frames().get(self._threads[0].ident or 0))))

    def _watch(self) -> None:
        while not self._closing.wait(self._look_s):
            self.look()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # asyncio lets these out of a task that an agent began by itself. Whoever awaits that task is told of it too.
                _log.warning("a task that an agent began wanted to end the process; all goes on", error=repr(error))


def _place(frame: FrameType | None) -> str:
    """The innermost line that is neither Python's, nor a library's, nor ours; else the innermost."""
    each = frame
    while each is not None and each.f_code.co_filename.startswith((*_NOT_THEIRS, "<")):
        each = each.f_back
    found = each or frame
    return "" if found is None else f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_name}"
