"""Keeps the epochs of a flow's sources in step, so that idle ones do not stall busy ones (law 6).

Workers are spoken of; of several sources in one worker the same is true, and there the waiting burns the processor as well.
"""

import time
from collections.abc import Callable

TOLERATED = 0.04
"""Waiting for the others up to this share of an epoch is nothing to mend."""
LONGEST_REST = 64
"""Epochs, at most, until holding back is tried again after it did not help."""
_GUARD_S = 0.002


class Pace:
    """When the slots of one worker are to be looked at.

    The engine ends a worker's epoch at the first look after its time is up; nobody reads in the next epoch before every worker has ended
    this one; and that waiting counts as part of the next. So a worker whose epochs end just before another's reads once in an epoch and
    waits for the rest of it, for as long as the flow runs. Two rules prevent it. A worker that sleeps wakes when its epoch ends. And one
    that had to wait for others sleeps as long once, over the end of its epoch: from then on they end together. Where that did not help
    (it was slow steps that it waited for) it is tried seldom.

    epoch  seconds of an epoch;  clock  seconds, of which only differences count
    """

    def __init__(self, epoch: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._epoch, self._clock = epoch, clock
        self._began = clock()
        self._ended: set[int] = set()
        self._wanted = self._began
        self._last_look = self._began
        self._gap = _GUARD_S
        self._hold = self._held = 0.0
        self._over = False
        self._rest, self._skip = 1, 0

    def looked(self, slot: int = 0) -> None:
        """The worker may read, and a slot looks: to be told first in every look. It is the first of an epoch if the slot ended one."""
        if slot not in self._ended:
            return
        self._ended.clear()
        now = self._clock()
        self._judge(max(0.0, now - max(self._began, self._wanted)))
        if self._hold and now - self._began >= self._epoch - _GUARD_S:  # this look ends the epoch too: holding back is for the next
            self._over, self._began = True, now

    def ended(self, slot: int = 0) -> None:
        """The epoch ended: to be told at every snapshot. The slots of a worker end it one after the other, each after its own look."""
        first = not self._ended
        self._ended.add(slot)
        if not first:
            return
        self._began = self._last_look = self._clock()
        self._held = self._hold
        if not self._over:
            self._hold = 0.0
        self._over = False

    def until(self, wanted: float) -> float:
        """When to look again if `wanted` (of this clock) is when the slot would like to."""
        end = self._began + self._epoch
        due = end + self._hold
        if self._hold and (self._over or self._ended or end - self._guard <= wanted < due):
            return due
        return min(wanted, due) if self._clock() < due else wanted

    def wants(self, wanted: float) -> float:
        """The same for the slot that looks for all."""
        now = self._clock()
        self._gap = max(min(now - self._last_look, self._epoch), 0.9 * self._gap)
        self._last_look, self._wanted = now, self.until(wanted)
        return self._wanted

    @property
    def _guard(self) -> float:
        """A look that may begin so long before the epoch's end is the last: the next would end it."""
        return min(max(_GUARD_S, 2 * self._gap), self._epoch / 4)

    def _judge(self, waited: float) -> None:
        """How long to hold back in this epoch, by how long the others were waited for."""
        if self._held:
            self._rest = 1 if waited < self._held / 2 else min(2 * self._rest, LONGEST_REST)
            self._skip = self._rest
        self._hold = 0.0
        if self._skip:
            self._skip -= 1
        elif waited > TOLERATED * self._epoch:
            self._hold = min(waited, self._epoch)
