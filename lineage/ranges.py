"""Sets of offsets as disjoint half-open ranges [first, next): how landing knows what is new."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]


class Ranges:
    """A growing set of integers, kept as few disjoint ranges in order. Neighbours are joined."""

    __slots__ = ("_firsts", "_nexts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._nexts: list[int] = []
        for first, following in ranges:
            self.add(first, following)

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._firsts, self._nexts, strict=True))

    def __len__(self) -> int:
        """How many integers the set holds."""
        return sum(following - first for first, following in self)

    def add(self, first: int, next: int) -> list[Range]:
        """Put [first, next) in; returns the parts that were new."""
        new = self.missing(first, next)
        if not new:
            return []
        # The run of ranges that overlap or touch [first, next) becomes one.
        low = bisect_left(self._nexts, first)
        high = bisect_right(self._firsts, next)
        if low < high:
            first, next = min(first, self._firsts[low]), max(next, self._nexts[high - 1])
        self._firsts[low:high] = [first]
        self._nexts[low:high] = [next]
        return new

    def missing(self, first: int, next: int) -> list[Range]:
        """The parts of [first, next) that are not in the set, in order."""
        parts: list[Range] = []
        index = bisect_right(self._nexts, first)
        while first < next and index < len(self._firsts) and self._firsts[index] < next:
            if self._firsts[index] > first:
                parts.append((first, self._firsts[index]))
            first = max(first, self._nexts[index])
            index += 1
        if first < next:
            parts.append((first, next))
        return parts

    def overlap(self, first: int, next: int) -> int:
        """How many integers of [first, next) are in the set."""
        return max(next - first, 0) - sum(end - begin for begin, end in self.missing(first, next))
