"""The crash matrix: kill -9 and SIGSTOP at every named point, with one worker, two, and 1 → 2 → 1: as if it had never been (laws 1 to 5).

A seed deals the points as a deck of cards: any ten seeds in a row that begin at a multiple of ten kill and stop at every point.
"""

import random
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from crash.left import Left, finish, left_by, same
from crash.points import POINTS, SELDOM, Step
from crash.stream import PARTITIONS, marks, readings

from headwater.flows.broker import Broker
from headwater.flows.sink import Outgoing, Writer

HANDS = 10
WORKERS = {"one": [1], "two": [2], "rescaled": [1, 2]}
"""Workers of the lives of a run, in turn."""


def steps_of(seed: int) -> list[list[Step]]:
    """What disturbs each life of a run; the last life is not killed."""
    chance = random.Random(seed)
    kills, stops = _hand(seed, "kill"), _hand(seed, "stop")
    lives: list[list[Step]] = [[] for _ in range(len(kills) + 1)]
    for life, kill in zip(lives, kills, strict=False):
        if kill.point != "journal: fenced" and stops:  # that one is passed at the start of a life only
            life.append(_timed(stops.pop(), chance))
        life.append(_timed(kill, chance))
    lives[-1] += [_timed(stop, chance) for stop in stops]
    return lives


def _hand(seed: int, how: str) -> list[Step]:
    deck = sorted(POINTS)
    random.Random(f"{how} {seed // HANDS}").shuffle(deck)
    return [Step(point, 1, how) for point in deck[seed % HANDS :: HANDS]]


def _timed(step: Step, chance: random.Random) -> Step:
    return step._replace(n=1 if step.point.startswith(SELDOM) else chance.randint(1, 3))


class Waker:
    """Lets a process that stands still go on, after a while."""

    def __init__(self, process: Any, chance: random.Random) -> None:
        self._process, self._chance = process, chance
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(0.02):
            if self._process.stands:
                time.sleep(self._chance.uniform(0.02, 0.6))
                self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._done.set()
        self._thread.join()


def live(victim: Any, writer: Writer, supply: list[Outgoing], share: int, chance: random.Random) -> None:
    """Events by and by until the process is killed: its share, and more only if its point is long in coming."""
    begun = time.monotonic()
    if chance.random() < 0.5:
        while victim.process.poll() is None and not victim.run_file() and not victim.process.stands:  # it may be killed at any moment
            assert time.monotonic() - begun < 240, victim.standing()
            time.sleep(0.03)
    waker = Waker(victim.process, chance)
    begun = more_at = time.monotonic()
    try:
        while victim.process.poll() is None:
            now = time.monotonic()
            if supply and (share > 0 or now > more_at):
                many = chance.randint(2, 6)
                writer.write(supply[:many])
                del supply[:many]
                share -= many
                more_at = now + 2
            assert now - begun < 240, f"never passed; so far: {victim.passed[-6:]}\n{victim.standing()}"
            time.sleep(chance.uniform(0, 0.15))
    finally:
        waker.close()
    assert victim.process.returncode == -signal.SIGKILL, victim.said  # so all its steps have happened, for this one was the last


def disturbed(home: Path, start: Any, lives: Sequence[Sequence[Step]], workers: Sequence[int], chance: random.Random) -> Left:
    """What a run leaves whose lives are disturbed like this."""
    supply = readings()
    share = len(supply) // len(lives)
    with Broker(id="crash") as broker:
        broker.kafka.create(PARTITIONS)  # events come before the first life is there to make them
        writer = Writer(broker.kafka, broker.id)
        for number, steps in enumerate(lives[:-1]):
            victim = start(home, broker.address, replay=True, steps=steps, workers=workers[number % len(workers)])
            live(victim, writer, supply, share, chance)
        victim = start(home, broker.address, replay=True, steps=lives[-1], workers=workers[(len(lives) - 1) % len(workers)])
        waker = Waker(victim.process, chance)
        writer.write([*supply, *marks()])
        try:
            finish(victim, broker.kafka)
        finally:
            waker.close()
        return left_by(home, broker.kafka)


def check(seed: int, home: Path, start: Any, undisturbed: Left) -> None:
    workers, chance = WORKERS[sorted(WORKERS)[seed % len(WORKERS)]], random.Random(-seed)
    same(disturbed(home, start, steps_of(seed), workers, chance), undisturbed)


def test_every_point_is_passed(undisturbed, undisturbed_home):
    """An undisturbed run comes by every named point: none is vacuous."""
    assert set((undisturbed_home / "points").read_text().splitlines()) == set(POINTS)


def test_the_documentation_names_every_point():
    """docs/architecture.md lists them."""
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text().partition("## What is proved under kill -9")[2]
    page = page.partition("\n## ")[0]
    for point in POINTS:
        where, _, name = point.partition(": ")
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{where}` | ")]
        assert name in row, point


def test_any_ten_seeds_kill_and_stop_at_every_point():
    """The sample that the normal suite runs is no matter of luck."""
    for deck in (0, 10, 190):
        for how in ("kill", "stop"):
            assert {step.point for seed in range(deck, deck + HANDS) for step in _hand(seed, how)} == set(POINTS)


@pytest.mark.parametrize("seed", range(10))
def test_disturbed_as_if_it_never_was(seed, tmp_path, start, undisturbed):
    """Conserved, decided once, in order; index, lineage and all that was said equal to an undisturbed run."""
    check(seed, tmp_path, start, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 200))
def test_disturbed_two_hundred_times(seed, tmp_path, start, undisturbed):
    """The same, 190 seeds more."""
    check(seed, tmp_path, start, undisturbed)
