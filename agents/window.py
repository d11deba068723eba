"""Sliding windows over event time, kept by increments: a step costs what enters and leaves, never the window's size.

In a window each thing (or, if the rule says so, each event by its id) counts once, by its newest event. Sums are exact (integers in
units of the smallest double), so a mean is the same whatever passed through the window before, and a resumed run measures what an
undisturbed one does.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, TypeAlias, cast

from headwater.agents.machine import Entry, Mind, frozen, mind, thawed
from headwater.agents.season import between

SHARE = "share"
STATISTICS = ("mean", "median", "min", "max")  # and p1 … p99
_SMALLEST = 1074  # 2**-1074 is the smallest positive double

Naming: TypeAlias = Callable[[Entry], str]
by_thing: Naming = attrgetter("thing")
by_event: Naming = attrgetter("id")


class Group(Mind):
    """What a rule over a window remembers of one key.

    entries   the window's events, oldest first;  newest  what counts once → its newest event
    ranked    values of the newest events in order, for statistics by rank;  sum  their exact sum, for share and mean
    """

    entries: deque[Entry]
    newest: dict[str, Entry]
    ranked: list[float]
    sum: int


def group() -> Group:
    """A key that nothing is known of."""
    return cast(Group, {**mind(), "entries": deque(), "newest": {}, "ranked": [], "sum": 0})


def slide(group: Group, entry: Entry, within: int, stat: str, name: Naming = by_thing) -> None:
    """Move the window to (entry.time − within, entry.time] and let the entry in. `name` tells what counts once."""
    entries, newest = group["entries"], group["newest"]
    start = entry.time - within
    while entries and entries[0].time <= start:
        leaving = entries.popleft()
        if newest[name(leaving)] == leaving:
            del newest[name(leaving)]
            _uncount(group, leaving.value, stat)
    former = newest.get(name(entry))
    if former is not None:
        _uncount(group, former.value, stat)
    entries.append(entry)
    newest[name(entry)] = entry
    _count(group, entry.value, stat)


def succeed(group: Group, entry: Entry, horizon: int) -> bool:
    """Take an event as its key's latest; False if the key has seen a later one, or the same id within the horizon (µs)."""
    entries, ids = group["entries"], group["newest"]
    if entries and entry[:2] <= entries[-1][:2]:
        return False
    while entries and entries[0].time < entry.time - horizon:
        del ids[entries.popleft().id]
    if entry.id in ids:
        return False
    entries.append(entry)
    ids[entry.id] = entry
    return True


def empty(group: Group) -> None:
    """Let everything leave."""
    group["entries"].clear()
    group["newest"].clear()
    group["ranked"].clear()
    group["sum"] = 0


def measure(group: Group, stat: str) -> float:
    """The statistic over the newest events of a window that holds at least one."""
    return statistic(stat, len(group["newest"]), group["sum"], group["ranked"])


def statistic(stat: str, total: int, sum: int, ranked: list[float]) -> float:
    """The statistic over so many values: of `sum` (see `units`) for share and mean, of `ranked` for the others."""
    if stat == SHARE:
        return sum / total
    if stat == "mean":
        return sum / (total << _SMALLEST)
    if stat == "median":
        return between(ranked[(total - 1) // 2], ranked[total // 2])
    return ranked[_rank(stat, total)]


def counted(group: Group, name: Naming = by_thing) -> Iterator[Entry]:
    """The events that count, newest first."""
    newest = group["newest"]
    return (entry for entry in reversed(group["entries"]) if newest[name(entry)] == entry)


def is_statistic(stat: str) -> bool:
    """Whether a Threshold can be taken over this."""
    return stat in STATISTICS or (stat[:1] == "p" and stat[1:].isdecimal() and 1 <= int(stat[1:]) <= 99)


def _rank(stat: str, total: int) -> int:
    if stat == "min":
        return 0
    if stat == "max":
        return total - 1
    return -(-int(stat[1:]) * total // 100) - 1  # nearest rank: the smallest value that at least p % do not exceed


def _count(group: Group, value: float, stat: str) -> None:
    if stat == SHARE:
        group["sum"] += int(value)
    elif stat == "mean":
        group["sum"] += units(value)
    else:
        insort(group["ranked"], value)


def _uncount(group: Group, value: float, stat: str) -> None:
    if stat == SHARE:
        group["sum"] -= int(value)
    elif stat == "mean":
        group["sum"] -= units(value)
    else:
        del group["ranked"][bisect_left(group["ranked"], value)]


def units(value: float) -> int:
    """A finite double as a whole number of 2**-1074."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_SMALLEST + 1 - denominator.bit_length())


def freeze(group: Group) -> dict[str, Any]:
    """A group without what follows from its entries."""
    return {**group, "entries": frozen(group["entries"]), "newest": None}


def thaw(saved: dict[str, Any], name: Naming = by_thing) -> Group:
    """The group of `freeze`; `newest` by thing, or by event id."""
    entries = deque(thawed(saved["entries"]))
    return cast(Group, {**saved, "entries": entries, "newest": {name(entry): entry for entry in entries}})


class Pile:
    """Values whose mean or median is kept by increments."""

    __slots__ = ("_many", "_ranked", "_stat", "_sum")

    def __init__(self, stat: str) -> None:
        self._stat, self._many, self._sum = stat, 0, 0
        self._ranked: list[float] = []

    def add(self, value: float) -> None:
        self._many += 1
        if self._stat == "mean":
            self._sum += units(value)
        else:
            insort(self._ranked, value)

    def remove(self, value: float) -> None:
        self._many -= 1
        if self._stat == "mean":
            self._sum -= units(value)
        else:
            del self._ranked[bisect_left(self._ranked, value)]

    def clear(self) -> None:
        self._many = self._sum = 0
        self._ranked.clear()

    def measure(self) -> float:
        """The statistic of one value or more."""
        return statistic(self._stat, self._many, self._sum, self._ranked)
