"""A rate limit: so many decisions in any stretch of time. Who comes too early is told when its turn is; nobody is turned away."""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused

MOST = 100_000
_FORM = re.compile(r"\s*(\d+)\s*/\s*(\S.*)")


@dataclass(frozen=True)
class Limit:
    """At most `many` decisions within any `per` µs."""

    many: int
    per: int


def limit(text: str) -> Limit:
    """`"20/1m"`: twenty within any minute. Raises Misused."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise Misused(f'{text!r} is no rate; write how many and within what, such as "20/1m"')
    many, per = int(found[1]), duration(found[2])
    if not 1 <= many <= MOST or per < 1:
        raise Misused(f"{text!r} is no rate: from 1 to {MOST} within a duration")
    return Limit(many, per)


class Turns:
    """Gives turns in the order of asking. It keeps the last `many`, and so knows exactly when the next one is due."""

    def __init__(self, limit: Limit, taken: Iterable[int] = ()) -> None:
        self._limit = limit
        self._taken: deque[int] = deque(sorted(taken)[-limit.many :], maxlen=limit.many)

    def take(self, now: int) -> int:
        """When this one's turn is (µs), not before `now`. It counts, whether it is used or not."""
        at = max(now, self._taken[-1]) if self._taken else now
        if len(self._taken) == self._limit.many:
            at = max(at, self._taken[0] + self._limit.per)
        self._taken.append(at)
        return at

    def ahead(self, now: int) -> int:
        """How many turns are given out and not yet due."""
        return sum(at > now for at in self._taken)

    def learn(self, taken: Iterable[int]) -> None:
        """Count turns that an earlier life of this process took."""
        self._taken = deque(sorted([*self._taken, *taken])[-self._limit.many :], maxlen=self._limit.many)
