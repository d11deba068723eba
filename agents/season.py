"""Robust statistics over a history, kept by increments; and the season that a moment belongs to."""

import datetime
import sys
import zoneinfo
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from math import isfinite

from headwater.lineage.duration import to_datetime

SEASONS: dict[str, Callable[[datetime.datetime], str]] = {
    "hour of day": lambda moment: f"{moment.hour:02}",
    "day of week": lambda moment: str(moment.isoweekday()),
    "hour of week": lambda moment: f"{moment.isoweekday()}/{moment.hour:02}",
}
MOST = 1_000_000.0
"""The farthest score: of a value that differs where none ever did."""

TO_DEVIATION = 1.4826
"""How many median absolute deviations a standard deviation of normal values is."""


class History:
    """Values in order of time, and in order of size. Costs of a step grow with the logarithm of its length, but for moving memory."""

    __slots__ = ("ranked", "values")

    def __init__(self, values: Sequence[tuple[int, float]] = ()) -> None:
        self.values = list(values)
        self.ranked = sorted(value for _, value in values)

    def add(self, time: int, value: float) -> None:
        self.values.append((time, value))
        insort(self.ranked, value)

    def trim(self, most: int | None, after: int | None) -> None:
        """Forget all but the newest `most`, and what is not later than `after`."""
        gone = 0 if most is None else max(0, len(self.values) - most)
        while after is not None and gone < len(self.values) and self.values[gone][0] <= after:
            gone += 1
        for _, value in self.values[:gone]:
            del self.ranked[bisect_left(self.ranked, value)]
        del self.values[:gone]


def score(ranked: Sequence[float], value: float, least: float) -> float:
    """The robust z-score of a value: how many deviations it lies from the median of `ranked` (in order, at least one).

    least  the smallest deviation that is reckoned with
    """
    middle = median(ranked)
    scale = finite(max(TO_DEVIATION * deviation(ranked, middle), least))
    if scale == 0:
        return 0.0 if value == middle else MOST if value > middle else -MOST
    return max(-MOST, min(MOST, finite(value - middle) / scale))


def median(ranked: Sequence[float]) -> float:
    """Of values in order."""
    many = len(ranked)
    return between(ranked[(many - 1) // 2], ranked[many // 2])


def between(low: float, high: float) -> float:
    """The middle of two finite numbers: a finite number, though their sum may be none."""
    sum = low + high
    return sum / 2 if isfinite(sum) else low / 2 + high / 2


def finite(number: float) -> float:
    """What lies beyond the largest double becomes that: an activation tells a number, and JSON has none for the infinite."""
    return max(-sys.float_info.max, min(sys.float_info.max, number))


def deviation(ranked: Sequence[float], middle: float) -> float:
    """The median of the distances from `middle`."""
    many = len(ranked)
    return between(*(finite(_nearest(ranked, middle, nth)) for nth in ((many - 1) // 2, many // 2)))


def _nearest(ranked: Sequence[float], middle: float, nth: int) -> float:
    """The nth smallest distance from `middle` (from 0). The nearest `nth + 1` values are neighbours: their place is found by halving."""
    low, high = 0, len(ranked) - nth - 1
    while low < high:
        start = (low + high) // 2
        if middle - ranked[start] > ranked[start + nth + 1] - middle:
            low = start + 1
        else:
            high = start
    return max(middle - ranked[low], ranked[low + nth] - middle)


def season_of(season: str | None, zone: str) -> Callable[[int], str]:
    """Event time (µs) → the season it is in."""
    if season is None:
        return lambda time: ""
    name, place = SEASONS[season], zoneinfo.ZoneInfo(zone)
    return lambda time: name(to_datetime(time).astimezone(place))
