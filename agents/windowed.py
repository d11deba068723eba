"""The machines of `Rate` and `Threshold`: a statistic over a sliding window, or one event alone."""

from typing import Any, Protocol

from headwater.agents.judge import Levels, judge
from headwater.agents.machine import Entry, Fired
from headwater.agents.window import SHARE, Group, Naming, by_event, by_thing, counted, empty, freeze, group, measure, slide, succeed, thaw


class Measured(Levels, Protocol):
    """A rule that measures."""

    @property
    def at_least(self) -> int: ...

    @property
    def stat(self) -> str: ...


class Windowed:
    """The statistic of the newest event of each thing in the window, or of its events. A window that empties closes the episode."""

    def __init__(self, rule: Measured, within: int, name: Naming = by_thing) -> None:
        self.rule, self.within, self.stat, self.name = rule, within, rule.stat, name

    def begin(self) -> Group:
        return group()

    def take(self, known: Group, stream: int, entry: Entry) -> Fired | None:
        slide(known, entry, self.within, self.stat, self.name)
        known["level"] = measure(known, self.stat)
        total = len(known["newest"])
        phase = judge(self.rule, known) if total >= self.rule.at_least else None
        if phase is None:
            return None
        causes = [one for one in counted(known, self.name) if matches(self.rule, one.value)]
        return Fired(phase, causes, len(causes), total)

    def due(self, known: Group) -> int | None:
        return known["entries"][-1].time + self.within if known["entries"] else None

    def expire(self, known: Group, moment: int) -> Fired | None:
        empty(known)
        if not known["episode"]:
            return None
        known["level"] = 0.0 if self.stat == SHARE else known["level"]
        return Fired("closed")

    def is_empty(self, known: Group) -> bool:
        return not known["entries"]

    def freeze(self, known: Group) -> dict[str, Any]:
        return freeze(known)

    def thaw(self, saved: dict[str, Any]) -> Group:
        return thaw(saved, self.name)


class Alone:
    """Each event by itself: the latest of its key decides, one that is older than the latest says nothing more.

    horizon  how long (µs) an event's id is remembered
    """

    def __init__(self, rule: Measured, horizon: int) -> None:
        self.rule, self.horizon = rule, horizon

    def begin(self) -> Group:
        return group()

    def take(self, known: Group, stream: int, entry: Entry) -> Fired | None:
        if not succeed(known, entry, self.horizon):
            return None
        known["level"] = entry.value
        phase = judge(self.rule, known)
        return None if phase is None else Fired(phase, [entry], int(matches(self.rule, entry.value)), 1)

    def due(self, known: Group) -> int | None:
        """An episode that runs is remembered until it is over."""
        return known["entries"][-1].time + self.horizon if known["entries"] and not known["episode"] else None

    def expire(self, known: Group, moment: int) -> Fired | None:
        empty(known)
        return None

    def is_empty(self, known: Group) -> bool:
        return not known["entries"] and not known["episode"]

    def freeze(self, known: Group) -> dict[str, Any]:
        return freeze(known)

    def thaw(self, saved: dict[str, Any]) -> Group:
        return thaw(saved, by_event)


def matches(rule: Measured, value: float) -> bool:
    """Whether one thing's value is beyond the opening level (of a Rate: whether it matched)."""
    if rule.stat == SHARE:
        return value > 0
    return value <= rule.opens_at if rule.below else value >= rule.opens_at
