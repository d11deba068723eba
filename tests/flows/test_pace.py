"""Sources' epochs end together, so that an idle one does not stall a busy one: the engine's rules, simulated and counted."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.flows.pace import Company, Pace

EPOCH, REST, SECONDS = 0.5, 0.1, 30.0
AGAIN_S = 0.001
"""How soon the simulated engine asks again whether one may look whose time has come."""


@dataclass
class Worker:
    """A worker of the engine with one source: when it began, how long a look takes it, whether its looks find something."""

    began: float
    cost: float
    busy: bool
    epoch: int = 0
    looks: int = 0
    asked: int = 0
    next: float = 0.0
    pace: Pace | None = None


class Engine:
    """What Bytewax does: an epoch ends at the first look after its time; no look in the next before all have ended this one.

    paced  "together": in one process;  "apart": each in one of its own, so that what the others do is guessed;  "": not at all
    """

    def __init__(self, paced: str, *workers: Worker) -> None:
        self.now, self.workers, self._paced = 0.0, workers, paced

    def run(self) -> list[int]:
        """Looks of each worker in half a minute."""
        together = Company(EPOCH, clock=lambda: self.now)
        for worker in self.workers:
            self.now = worker.next = worker.began
            company = Company(EPOCH, far=True, clock=lambda: self.now) if self._paced == "apart" else together
            worker.pace = company.join()
        while True:
            worker = min(self.workers, key=lambda each: each.next)
            self.now = began = worker.next
            if began > SECONDS:
                return [each.looks for each in self.workers]
            if any(other.epoch < worker.epoch for other in self.workers):
                worker.next += AGAIN_S
                worker.asked += 1
                continue
            self._look(worker, began)

    def _look(self, worker: Worker, began: float) -> None:
        assert worker.pace is not None
        worker.looks += 1
        worker.pace.looked()
        self.now = began + worker.cost
        wanted = self.now if worker.busy else self.now + REST
        worker.next = max(self.now, worker.pace.wants(wanted) if self._paced else wanted)
        if began - worker.began >= EPOCH:
            worker.epoch, worker.began = worker.epoch + 1, began
            worker.pace.ended()


WAYS = ("together", "apart")


@pytest.mark.parametrize("paced", WAYS)
@settings(max_examples=20)
@given(late=st.floats(0, 2), cost=st.floats(0.001, 0.01))
def test_an_idle_worker_does_not_stall_a_busy_one(paced, late, cost):
    """However late the idle one began, the busy one looks nearly as often as if it were alone."""
    busy, _ = Engine(paced, Worker(0, cost, True), Worker(late, 0.0001, False)).run()
    assert busy > 0.85 * SECONDS / cost


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.0001, 0.01), st.booleans()), min_size=2, max_size=6))
@settings(max_examples=20)
def test_sources_of_one_process_wait_asleep(drawn):
    """However many there are and whenever each began, from the second epoch on none is asked more often than it looks at an epoch's end."""
    engine = Engine("together", *(Worker(*each) for each in drawn))
    engine.run()
    for worker in engine.workers:
        assert worker.asked * AGAIN_S < 0.5 + worker.epoch * sum(2 * each.cost + AGAIN_S for each in engine.workers)


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
