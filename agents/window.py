"""Sliding windows over event time, kept by increments: a step costs what enters and leaves, never the window's size.

In a window each thing counts once, by its newest event. Sums are exact (integers in units of the smallest double), so a mean is
the same whatever passed through the window before, and a resumed run measures what an undisturbed one does.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypedDict

from headwater.agents.hops import NONE, Hops
from headwater.agents.order import NEVER

SHARE = "share"
STATISTICS = ("mean", "median", "min", "max")  # and p1 … p99
_SMALLEST = 1074  # 2**-1074 is the smallest positive double


class Entry(NamedTuple):
    """One event in a window."""

    time: int
    id: str
    partition: int
    offset: int
    thing: str
    value: float
    appended: int
    hops: Hops = NONE


class Group(TypedDict):
    """What a rule remembers of one key.

    entries   the window's events, oldest first;  newest  thing → its newest event
    ranked    values of the newest events in order, for statistics by rank;  sum  their exact sum, for share and mean
    level     the last measured statistic
    episode   id of the activation that opened the running episode, "" if none runs;  reported  its highest reported level
    at        event time of the last firing;  armed  whether a deadline for this key is set
    hops      of the last firing: what fires without an event (a window that emptied) follows from it
    """

    entries: deque[Entry]
    newest: dict[str, Entry]
    ranked: list[float]
    sum: int
    level: float
    episode: str
    reported: float
    at: int
    armed: bool
    hops: Hops


def group() -> Group:
    """A key that nothing is known of."""
    return Group(
        entries=deque(), newest={}, ranked=[], sum=0, level=0.0, episode="", reported=0.0, at=NEVER, armed=False,
        hops=NONE,
    )  # fmt: skip


def slide(group: Group, entry: Entry, within: int, stat: str) -> None:
    """Move the window to (entry.time − within, entry.time] and let the entry in."""
    entries, newest = group["entries"], group["newest"]
    start = entry.time - within
    while entries and entries[0].time <= start:
        leaving = entries.popleft()
        if newest[leaving.thing] == leaving:
            del newest[leaving.thing]
            _uncount(group, leaving.value, stat)
    former = newest.get(entry.thing)
    if former is not None:
        _uncount(group, former.value, stat)
    entries.append(entry)
    newest[entry.thing] = entry
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
    total = len(group["newest"])
    if stat == SHARE:
        return group["sum"] / total
    if stat == "mean":
        return group["sum"] / (total << _SMALLEST)
    ranked = group["ranked"]
    if stat == "median":
        return (ranked[(total - 1) // 2] + ranked[total // 2]) / 2
    return ranked[_rank(stat, total)]


def counted(group: Group) -> Iterator[Entry]:
    """The events that count, newest first."""
    newest = group["newest"]
    return (entry for entry in reversed(group["entries"]) if newest[entry.thing] == entry)


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
        group["sum"] += _units(value)
    else:
        insort(group["ranked"], value)


def _uncount(group: Group, value: float, stat: str) -> None:
    if stat == SHARE:
        group["sum"] -= int(value)
    elif stat == "mean":
        group["sum"] -= _units(value)
    else:
        del group["ranked"][bisect_left(group["ranked"], value)]


def _units(value: float) -> int:
    """A finite double as a whole number of 2**-1074."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_SMALLEST + 1 - denominator.bit_length())
