"""A schedule at work: what is due is published, each once, and what was missed as the schedule says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from headwater.flows.gateway import Gateway
from headwater.flows.run_file import write_whole
from headwater.flows.schedule import Schedule
from headwater.lineage.duration import format_time, parse_time

_log = structlog.get_logger("headwater.schedule")

GRACE = 60_000_000
"""µs that a firing may come late and still not count as missed."""
LOOK_S = 1.0
"""The clock may be set: it is looked at this often."""


class Firing:
    """A schedule at work. `memory` keeps the last due time that was dealt with; `refresh` learns what others have published."""

    def __init__(
        self, schedule: Schedule, gateway: Gateway, memory: Path, clock: Callable[[], int], refresh: Callable[[], None] = lambda: None
    ) -> None:
        self.origin = schedule.origin
        self._schedule, self._gateway, self._memory, self._clock, self._refresh = schedule, gateway, memory, clock, refresh
        self._done = self._recall()
        self._fired = self._skipped = 0

    def turn(self) -> float:
        """Publish what is due, each acknowledged before it is remembered. Gives the seconds until it should be looked again."""
        now = self._clock()
        due, more = self._schedule.due(self._done, now)
        wanted = self._wanted(due, now)
        if (skipped := more + len(due) - len(wanted)) > 0:
            _log.warning("missed firings are skipped", schedule=self.origin, many=skipped, missed=self._schedule.missed)
            self._skipped += skipped
        if wanted:
            self._refresh()
        for at in wanted:
            self._gateway.publish(self._schedule.into, [self._schedule.event(at)], self.origin, self._schedule.priority)
            self._fired += 1
            self._remember(at)
        if due and self._done < due[-1]:
            self._remember(due[-1])
        following = self._schedule.next(max(self._done, now))
        return LOOK_S if following is None else min(LOOK_S, max(0.0, (following - self._clock()) / 1e6))

    def status(self) -> dict[str, Any]:
        following = self._schedule.next(max(self._done, self._clock()))
        return {
            "gateway": self.origin, "into": self._schedule.into.name, "events": self._fired, "skipped": self._skipped,
            "last": format_time(self._done), "next": None if following is None else format_time(following),
        }  # fmt: skip

    def _wanted(self, due: list[int], now: int) -> list[int]:
        if self._schedule.missed == "all":
            return due
        in_time = [at for at in due if now - at <= GRACE]
        return in_time if in_time or self._schedule.missed == "skip" else due[-1:]

    def _recall(self) -> int:
        """The last due time dealt with; a schedule that is new begins now."""
        if self._memory.is_file():
            return parse_time(msgspec.json.decode(self._memory.read_bytes())["done"])
        now = self._clock()
        self._remember(now)
        return now

    def _remember(self, at: int) -> None:
        self._done = at
        write_whole(self._memory, msgspec.json.encode({"schedule": self.origin, "done": format_time(at)}).decode())
