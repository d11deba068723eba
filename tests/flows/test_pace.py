"""Workers' epochs end together, so that an idle worker does not stall a busy one: the engine's rules, simulated and counted."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.flows.pace import Pace

EPOCH, REST, SECONDS = 0.5, 0.1, 30.0


@dataclass
class Worker:
    """One worker of the engine: when it began, how long a look takes it, whether its looks find something."""

    began: float
    cost: float
    busy: bool
    epoch: int = 0
    looks: int = 0
    next: float = 0.0
    pace: Pace | None = None


class Engine:
    """What Bytewax does: an epoch ends at the first look after its time; no look in the next before all have ended this one."""

    def __init__(self, paced: bool, *workers: Worker) -> None:
        self.now, self.workers, self._paced = 0.0, workers, paced

    def run(self) -> list[int]:
        """Looks of each worker in half a minute."""
        for worker in self.workers:
            self.now = worker.next = worker.began
            worker.pace = Pace(EPOCH, lambda: self.now)
        while True:
            worker = min(self.workers, key=lambda each: each.next)
            self.now = began = worker.next
            if began > SECONDS:
                return [each.looks for each in self.workers]
            if any(other.epoch < worker.epoch for other in self.workers):
                worker.next += 0.001
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


@settings(max_examples=20)
@given(st.floats(0, 0.49), st.floats(0.001, 0.01))
def test_an_idle_worker_does_not_stall_a_busy_one(late, cost):
    """However late the idle one began, the busy one looks nearly as often as if it were alone."""
    busy, _ = Engine(True, Worker(0, cost, True), Worker(late, 0.0001, False)).run()
    assert busy > 0.85 * SECONDS / cost


def test_without_it_the_busy_one_would_stall():
    """What it is there for: an idle worker that began late leaves a busy one a small part of the time."""
    busy, _ = Engine(False, Worker(0, 0.002, True), Worker(0.45, 0.0001, False)).run()
    assert busy < 0.3 * SECONDS / 0.002


@pytest.mark.parametrize("late", [0.0, 0.1, 0.3, 0.45])
def test_waiting_for_slow_steps_costs_no_more_than_it_must(late):
    """Where holding back does not help, it is tried seldom: never much less is read than without it."""
    plain = Engine(False, Worker(0, 0.002, True), Worker(late, 0.3, True)).run()
    paced = Engine(True, Worker(0, 0.002, True), Worker(late, 0.3, True)).run()
    assert paced[0] > 0.8 * plain[0] and paced[1] > 0.8 * plain[1]


def test_a_worker_alone_never_holds_back():
    """With nobody to wait for it looks all the time."""
    (looks,) = Engine(True, Worker(0, 0.002, True)).run()
    assert looks > 0.97 * SECONDS / 0.002
