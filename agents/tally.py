"""Matches in a sliding window: the episode of rules that look for things happening together. It closes when the window empties."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from headwater.agents.judge import grew
from headwater.agents.machine import Entry, Fired, Mind, frozen, thawed

Match: TypeAlias = tuple[Entry, ...]
"""The events of a match, newest first."""


class Counting(Protocol):
    """A rule that counts matches."""

    @property
    def at_least(self) -> int: ...

    @property
    def update_step(self) -> float | None: ...


class Tally(Mind):
    """What is remembered of a key's matches: those of the window, oldest first."""

    matches: deque[Match]


def hit(known: Tally, match: Match, within: int, rule: Counting, value: float) -> Fired | None:
    """A match enters the window (t − within, t]. `value` is what an activation tells of it."""
    matches = known["matches"]
    while matches and matches[0][0].time <= match[0].time - within:
        matches.popleft()
    matches.append(match)
    many = known["level"] = len(matches)
    if not known["episode"] and many >= rule.at_least:
        return _fired(known, "opened", value)
    if known["episode"] and grew(many - known["reported"], rule.update_step):
        return _fired(known, "updated", value)
    return None


def lapse(known: Tally, within: int, moment: int) -> Fired | None:
    """Close what runs if the window has emptied by this moment."""
    if not known["matches"] or known["matches"][-1][0].time + within > moment:
        return None
    return cancel(known)


def cancel(known: Tally, by: Sequence[Entry] = ()) -> Fired | None:
    """Let all matches go, and close what runs."""
    known["matches"].clear()
    known["level"] = 0
    return Fired("closed", by, value=0.0) if known["episode"] else None


def freeze(known: Tally) -> dict[str, Any]:
    return {**known, "matches": [frozen(match) for match in known["matches"]]}


def thaw(saved: dict[str, Any]) -> Any:
    return {**saved, "matches": deque(tuple(thawed(match)) for match in saved["matches"])}


def _fired(known: Tally, phase: Any, value: float) -> Fired:
    events = list(_events(known))
    return Fired(phase, events, len(known["matches"]), len(events), value)


def _events(known: Tally) -> Iterator[Entry]:
    """Each event of the matches once, those of the newest match first."""
    seen: set[tuple[int, int]] = set()
    for match in reversed(known["matches"]):
        for entry in match:
            place = entry.partition, entry.offset
            if place not in seen:
                seen.add(place)
                yield entry
