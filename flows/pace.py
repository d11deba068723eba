"""Keeps the epochs of a flow's sources in step, so that idle ones do not stall busy ones (law 6), and none burns the processor waiting.

The engine ends a source's epoch at its first look after the time is up; nobody reads in the next epoch before every source of every worker
has ended this one; and that waiting counts as part of the next. So a source whose epochs end just before another's reads once in an epoch
and waits for the rest of it, for as long as the flow runs; and where its time to look has come, the engine asks again and again whether it
may, without a pause.
"""

import time
from collections.abc import Callable

TOLERATED = 0.04
"""Waiting for other processes up to this share of an epoch is nothing to mend."""
LONGEST_REST = 64
"""Epochs, at most, until holding back is tried again after it did not help."""
_GUARD_S = 0.002


class Company:
    """The sources of one flow in this process, of all its workers: each knows when the others' epochs end.

    epoch  seconds of an epoch;  clock  seconds, of which only differences count
    far    other processes share the flow: their epochs are not known, only that they were waited for
    """

    def __init__(self, epoch: float, *, far: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.epoch, self.far, self.clock = epoch, far, clock
        self._paces: tuple[Pace, ...] = ()

    def join(self) -> "Pace":
        pace = Pace(self)
        self._paces += (pace,)
        return pace

    def leave(self, pace: "Pace") -> None:
        self._paces = tuple(each for each in self._paces if each is not pace)

    def closes(self, pace: "Pace") -> float:
        """When the last of those that are in the same epoch may end it."""
        return max([pace.began, *(each.began for each in self._paces if each.number == pace.number)]) + self.epoch


class Pace:
    """When the slots of one source in one worker are to be looked at.

    All wake when the last of their company may end its epoch, and none looks between its own end and that. If that is so late that nothing
    could be read before its own next end, it sleeps on until they end that one. What other processes do is guessed: a worker that had to
    wait for them sleeps as long once, over the end of its epoch, and from then on they end together. Where that did not help (it was slow
    steps that it waited for) it is tried seldom.

    began  when its epoch began;  number  epochs that it has ended
    """

    def __init__(self, company: Company) -> None:
        self._company, self._epoch, self._clock = company, company.epoch, company.clock
        self.began = self._wanted = self._looked = self._clock()
        self.number = 0
        self._look = self.began, -1.0
        self._ended: set[int] = set()
        self._hold = self._held = 0.0
        self._through = self.began
        self._rest, self._skip = 1, 0

    def looked(self, slot: int = 0) -> None:
        """The source may read, and a slot looks: to be told first in every look. It is the first of an epoch if the slot ended one."""
        now = self._looked = self._clock()
        if slot not in self._ended:
            return
        self._ended.clear()
        ends = now >= self.began + self._epoch - _GUARD_S
        if self._company.far:
            self._judge(max(0.0, now - max(self.began, self._wanted)))
            closes = now + self._hold
        else:
            closes = self._company.closes(self)
            self._hold = self._epoch if ends and not self._held and closes > now + _GUARD_S else 0.0
        if ends and self._hold:
            # This look ends the epoch too, and the others end it when this one's next is nearly over: that one is slept through, to end it
            # with them. All slots sleep until then, also those that look when the first has ended its epoch.
            self._through = closes + self._epoch

    def ended(self, slot: int = 0) -> None:
        """The epoch ended: to be told at every snapshot. The slots of a source end it one after the other, each after its own look."""
        if slot in self._ended:  # and the one before as well, without a look between
            self._ended.clear()
        first = not self._ended
        self._ended.add(slot)
        if not first:
            return
        now = self._clock()
        looked, until = self._look
        self.began = looked if now - until < _GUARD_S else now  # the engine's epoch begins as it turns to the slots
        self.number += 1
        self._held, self._hold = self._hold, 0.0

    def until(self, wanted: float) -> float:
        """When to look again if `wanted` (of this clock) is when the slot would like to."""
        now, end = self._clock(), self.began + self._epoch
        if now < self._through:  # whichever slot asks: the first may have ended its epoch before the others look
            return self._through
        closes = self._company.closes(self) + self._hold
        if now >= end:  # this look has ended the epoch, or the next one does
            return max(closes, min(wanted, now + _GUARD_S))
        return wanted if wanted < end - _GUARD_S else closes

    def wants(self, wanted: float) -> float:
        """The same for the slot that looks for all."""
        self._look = self._looked, self._clock()
        self._wanted = self.until(wanted)
        return self._wanted

    def leave(self) -> None:
        """Nobody is to wait for it any more."""
        self._company.leave(self)

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
