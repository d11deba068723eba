"""A running `detect` follows the files of its application: what they say of its rules is taken over when one of them was saved."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

import structlog

from headwater.agents.machine import Rule
from headwater.flows.reload import Reload

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

_log = structlog.get_logger("headwater.rules")

LOOK_S = 0.5
"""How often the files are looked at. What changed is loaded at the next look: a file may be half written, and another may follow it."""

_BEGAN = time_ns()

Take = Callable[[Sequence[Rule]], list[str]]
"""Offers rules; gives the names of those that were taken at once. Raises Misused."""

Written = dict[Path, tuple[int, int] | None]
"""File → time (ns) and size; None: it is not there."""


class RuleWatch:
    """Looks at an application's files in a thread, and offers its rules when one has changed; `beside` is called after each look."""

    def __init__(self, target: str, take: Take, beside: Callable[[], None] = lambda: None) -> None:
        self._reload, self._take, self._beside = Reload(target), take, beside
        # What was written since this process began may have been loaded before, or after.
        self._seen = {file: found for file, found in self._written().items() if found is None or found[0] < _BEGAN}
        self._glimpsed: Written = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rules", daemon=True)

    def start(self) -> "RuleWatch":
        self._thread.start()
        return self

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()
            self._beside()

    def look(self) -> None:
        """Once. What cannot be taken is told, and the rules stay as they are."""
        written = self._written()
        settled, self._glimpsed = written == self._glimpsed, written
        if written == self._seen or not settled:
            return
        try:
            with self._reload.app() as app:
                names = self._take(app.triggers)
        except Exception as error:  # whatever the user's own modules raise
            _log.warning("the application changed, but its rules stay as they were", error=str(error))
            names = []
        # As they were before they were read; one that is imported for the first time is so looked at once more.
        self._seen = {file: written[file] for file in self._reload.files if file in written}
        if names:
            _log.warning("rules changed", rules=names)  # who saved the file wants to hear it

    def _written(self) -> Written:
        return {file: _of(file) for file in self._reload.files}


def _of(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def follow(run: "Runtime", target: str) -> None:
    """Have the rules of a running `detect` follow its application, while the runtime is open."""

    def take(rules: Sequence[Rule]) -> list[str]:
        return [] if run.rulebook is None else run.rulebook.offer(rules)

    def remind() -> None:
        if run.rulebook is not None:
            run.rulebook.remind(run.clock())

    run.closing(RuleWatch(target, take, remind).start().close)
