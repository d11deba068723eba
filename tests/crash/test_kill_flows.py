"""Killed with -9 at random moments while events flow, started again until all is done: as if it had never been killed (laws 1 to 5)."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
from crash.left import Left, finish, left_by, same
from crash.stream import marks, readings

from headwater.flows.broker import Broker
from headwater.flows.sink import Writer


def kill_and_check(seed: int, home: Path, start: Any, undisturbed: Left, kills: int) -> None:
    """Some events in each life, a kill at a random moment: sometimes before it runs, mostly in the middle of work."""
    chance = random.Random(seed)
    pending = readings()
    with Broker(id="crash") as broker:
        writer = Writer(broker.kafka, broker.id)
        for _ in range(kills):
            victim = start(home, broker.address, replay=True)
            if chance.random() < 0.25:
                chance_sleep(chance, 0.1, 1.0)
                victim.kill()
                continue
            victim.ready()
            for _ in range(chance.randint(2, 6)):
                many = chance.randint(5, 25)
                writer.write(pending[:many])
                del pending[:many]
                chance_sleep(chance, 0.0, 0.25)
            victim.kill()
        victim = start(home, broker.address, replay=True)
        writer.write([*pending, *marks()])
        finish(victim, broker.kafka)
        left = left_by(home, broker.kafka)
    same(left, undisturbed)


def chance_sleep(chance: random.Random, least: float, most: float) -> None:
    """Let the process work for a random while."""
    time.sleep(chance.uniform(least, most))


@pytest.mark.parametrize("seed", [1])
def test_killed_as_if_it_never_was(seed, tmp_path, start, undisturbed):
    """Outcomes once, decided once, effects once; index and activations those of an undisturbed run."""
    kill_and_check(seed, tmp_path, start, undisturbed, kills=3)


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, *range(100, 120)])
def test_killed_many_times_as_if_it_never_was(seed, tmp_path, start, undisturbed):
    """The same, more often and at more moments."""
    kill_and_check(seed, tmp_path, start, undisturbed, kills=8)
