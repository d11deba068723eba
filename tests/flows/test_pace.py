"""Sources' epochs end together, so that an idle one does not stall a busy one: the engine's rules, simulated and counted."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.flows.pace import Company, Pace

EPOCH, REST, SECONDS = 0.5, 0.1, 30.0
AGAIN_S = 0.001
"""How soon the simulated engine asks again whether one may look whose time has come."""


@dataclass(eq=False)
class Part:
    """A slot as the engine keeps it: when its epoch began, how many it has ended, when it wants to be looked at."""

    began: float
    epoch: int = 0
    next: float = 0.0


@dataclass
class Worker:
    """A worker of the engine with one source: when it began, how long a look takes it, whether its looks find something, how many slots.

    looks  of the slot that looks for all, the last;  wake  when the engine turns to it
    """

    began: float
    cost: float
    busy: bool
    slots: int = 1
    looks: int = 0
    asked: int = 0
    wake: float = 0.0
    pace: Pace | None = None
    parts: list[Part] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        return min(part.epoch for part in self.parts)


class Engine:
    """What Bytewax does: a slot's epoch ends at its first look after its time; no look in the next before all slots of all workers have
    ended this one; and a worker rests for as long as its first slot wanted to when it turned to them, however long they took it.

    paced  "together": in one process;  "apart": each in one of its own, so that what the others do is guessed;  "": not at all
    """

    def __init__(self, paced: str, *workers: Worker) -> None:
        self.now, self.workers, self._paced = 0.0, workers, paced

    def run(self) -> list[int]:
        """Looks of each worker in half a minute."""
        together = Company(EPOCH, clock=lambda: self.now)
        for worker in self.workers:
            worker.wake = worker.began
            worker.parts = [Part(worker.began, next=worker.began) for _ in range(worker.slots)]
        turns, last = 0, -1.0  # in which no time passed
        while True:
            worker = min(self.workers, key=lambda each: each.wake)
            began = max(self.now, worker.wake)
            turns, last = turns + 1 if began == last else 0, began
            assert turns < 1_000, "a slot asks to be looked at again and again"
            self.now = began
            if began > SECONDS:
                return [each.looks for each in self.workers]
            if worker.pace is None:
                company = Company(EPOCH, far=True, clock=lambda: self.now) if self._paced == "apart" else together
                worker.pace = company.join()
            self._turn(worker, began)

    def _turn(self, worker: Worker, began: float) -> None:
        """The engine turns to a worker: to those of its slots whose time has come, one after the other."""
        waiting = []
        for part in worker.parts:
            if part.next > began:
                continue
            if any(other.epoch < part.epoch for each in self.workers for other in each.parts):
                waiting.append(part)
            else:
                self._look(worker, part, began)
        rests = [max(part.next - began, 0.0) for part in worker.parts if part not in waiting]
        worker.asked += bool(waiting)
        worker.wake = self.now + min([*rests, AGAIN_S] if waiting else rests)

    def _look(self, worker: Worker, part: Part, began: float) -> None:
        assert worker.pace is not None
        slot, leads = id(part), part is worker.parts[-1]
        worker.pace.looked(slot)
        worker.looks += leads
        self.now += worker.cost if leads else 0.0
        wanted = self.now if worker.busy else self.now + REST
        paced = worker.pace.wants if leads else worker.pace.until
        next = paced(wanted) if self._paced else wanted
        part.next = began if next == self.now else next  # whoever wants to look at once says so
        if began - part.began >= EPOCH:
            part.epoch, part.began = part.epoch + 1, began
            worker.pace.ended(slot)


WAYS = ("together", "apart")


@pytest.mark.parametrize("paced", WAYS)
@settings(max_examples=20)
@given(late=st.floats(0, 2), cost=st.floats(0.001, 0.01), slots=st.integers(1, 3))
def test_an_idle_worker_does_not_stall_a_busy_one(paced, late, cost, slots):
    """However late the idle one began, the busy one looks nearly as often as if it were alone."""
    busy, _ = Engine(paced, Worker(0, cost, True, slots), Worker(late, 0.0001, False, slots)).run()
    assert busy > 0.85 * SECONDS / cost


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.0001, 0.01), st.booleans()), min_size=2, max_size=6))
@settings(max_examples=20)
def test_sources_of_one_process_wait_asleep(drawn):
    """However many there are, of one slot each, once all have begun none is asked more often than it looks at an epoch's end."""
    engine = Engine("together", *(Worker(*each) for each in drawn))
    engine.run()
    for worker in engine.workers:
        assert worker.asked * AGAIN_S < 2.5 + worker.epoch * sum(2 * each.cost + AGAIN_S for each in engine.workers)


def test_without_it_the_busy_one_would_stall():
    """What it is there for: an idle worker that began late leaves a busy one a small part of the time, and it is asked all the rest."""
    engine = Engine("", Worker(0, 0.002, True), Worker(0.45, 0.0001, False))
    busy, _ = engine.run()
    assert busy < 0.3 * SECONDS / 0.002
    assert engine.workers[0].asked * AGAIN_S > 0.6 * SECONDS


@pytest.mark.parametrize("paced", WAYS)
@pytest.mark.parametrize("late", [0.0, 0.1, 0.3, 0.45])
def test_waiting_for_slow_steps_costs_no_more_than_it_must(late, paced):
    """Where holding back does not help, it is tried seldom: never much less is read than without it."""
    plain = Engine("", Worker(0, 0.002, True), Worker(late, 0.3, True)).run()
    paced = Engine(paced, Worker(0, 0.002, True), Worker(late, 0.3, True)).run()
    assert paced[0] > 0.8 * plain[0] and paced[1] > 0.8 * plain[1]


@pytest.mark.parametrize("paced", WAYS)
def test_a_worker_alone_never_holds_back(paced):
    """With nobody to wait for it looks all the time."""
    (looks,) = Engine(paced, Worker(0, 0.002, True)).run()
    assert looks > 0.97 * SECONDS / 0.002


@given(st.floats(0, 0.6), st.floats(0, 2))
def test_an_epoch_is_never_longer_for_sleeping(late, rest):
    """However long a source would rest, it wakes when the last of its company may end the epoch: no later, and not between its own end
    and that."""
    now = [0.0]
    company = Company(EPOCH, clock=lambda: now[0])
    first, last = company.join(), None
    now[0] = late
    last = company.join()
    wakes = first.until(late + rest)
    if late + rest >= EPOCH or late >= EPOCH:
        assert wakes <= max(late + EPOCH, late)
    company.leave(last)
    assert first.until(late + rest) <= max(EPOCH, late + 0.002)


@given(st.floats(0.5, 5))
def test_a_step_that_stands_still_puts_nobody_to_sleep(still):
    """Where all sources of a process were kept from reading for longer than an epoch, each looks again at once: none waits for another."""
    now = [0.0]
    company = Company(EPOCH, clock=lambda: now[0])
    paces = [company.join() for _ in range(3)]
    for pace in paces:
        pace.ended()
    now[0] = still
    for pace in paces:
        pace.looked()
        assert pace.wants(still) <= still + 0.002
        pace.ended()
