"""What the seeds of the effects-once tests stand for: a run that is killed at its points, or one whose owner stands still meanwhile.

A seed deals the points as a deck of cards: any five seeds in a row that begin at a multiple of five kill at every point.
"""

import random
import shutil
import signal
import time
from typing import Any

from crash.acts import HALVES
from crash.done import Done
from crash.effect_points import EFFECT_POINTS, RARE
from crash.points import Step
from crash.world import World

HANDS = 5
"""So many seeds in a row kill at every point."""
KILLED, STOPPED = 800, 200
"""Seeds of runs that are killed, and of those where an owner stands still."""
LEASE_S = 1.0
"""Of the tool `order` in `acting`."""
LAST_WORDS_S = 3.0
"""How long an owner that was taken over goes on for when it wakes; it may have nothing to write, and so not hear of it."""


def steps_of(seed: int) -> list[Step]:
    """The kills of a run, one for each life but the last."""
    chance = random.Random(seed)
    return [Step(point, 1 if point.startswith(RARE) else chance.randint(1, 3), "kill") for point in _hand(seed)]


def _hand(seed: int) -> list[str]:
    deck = sorted(EFFECT_POINTS)
    random.Random(f"effects {seed // HANDS}").shuffle(deck)
    return deck[seed % HANDS :: HANDS]


def half_of(kind: str, seed: int) -> int:
    """Which half of the keys a run is given."""
    return (seed if kind == "kill" else seed // len(EFFECT_POINTS)) % len(HALVES)


def undisturbed(world: World) -> Done:
    """What a run leaves that nobody disturbed; it comes by every point, and something of everything happens."""
    victim = world.live()
    world.finish(victim)
    assert set(victim.passed) == set(EFFECT_POINTS)
    left = world.done()
    assert {key for _, key, _ in left.decisions} == {*HALVES[world.half], "purse"}
    assert {state for state, *_ in left.decisions.values()} == {"acted", "waiting", "no_action"}
    assert {verdict for verdict, _ in left.verdicts.values()} == {"approved", "declined"}
    assert any(text.startswith("instead of") for text in left.deeds.values())
    return left


def disturbed(world: World, seed: int) -> Done:
    """What a run leaves that is killed at its seed's points, its agents of another version in each life, with one worker or two."""
    chance, steps = random.Random(-seed), steps_of(seed)
    for n, step in enumerate(steps):
        _brought(world, step, 4, version=str(n), workers=chance.choice([1, 2]))
    victim = world.live(version="last", workers=chance.choice([1, 2]))
    world.finish(victim)
    return world.done()


def taken_over(world: World, seed: int) -> Done:
    """What a run leaves whose first owner stands still for longer than a lease, while another takes over what it had, and wakes then.

    Where the first had not opened an agent's journal yet it does so when it wakes, and fences the other there: that one is started anew.
    """
    chance = random.Random(seed)
    point = sorted(EFFECT_POINTS)[seed % len(EFFECT_POINTS)]
    step = Step(point, 1 if point.startswith(RARE) else chance.randint(1, 3), "stop")
    first = _brought(world, step, 9, version="first")
    other = world.home.with_name("other")
    shutil.copytree(world.home, other)
    wake_at = time.monotonic() + LEASE_S + chance.uniform(0, 2)

    def again() -> Any:
        return world.live(home=other, version="second", workers=chance.choice([1, 2]))

    second = world.until(lambda: time.monotonic() > wake_at and (world.follower.ended or chance.random() < 0.02), again(), again)
    first.process.send_signal(signal.SIGCONT)
    gone_at = time.monotonic() + LAST_WORDS_S
    second = world.until(lambda: time.monotonic() > gone_at or first.process.poll() is not None, second, again)
    first.close()
    world.finish(second, again)
    return world.done(other, {line.split()[1] for line in first.passed if line.startswith("inside ")})


RUNS = {"kill": disturbed, "stop": taken_over}


def _brought(world: World, step: Step, share: int, **how: Any) -> Any:
    """A life that comes to a point. It is given its share of the events, and more only if its point is long in coming.

    Where all has ended and the point will not come again, it is disturbed where it is.
    """
    victim = world.live([step], **how)
    begun = more_at = time.monotonic()
    while victim.process.poll() is None and not victim.process.stands:
        world.follower.look()
        if share > 0 or time.monotonic() > more_at:
            given = world.feed(world.chance.randint(1, 3))
            share, more_at = share - given, time.monotonic() + 0.4
        if world.follower.ended:
            victim.process.send_signal(signal.SIGKILL if step.how == "kill" else signal.SIGSTOP)
        assert time.monotonic() - begun < 240, f"never passed {step}; so far: {victim.passed[-6:]}\n{victim.standing()}"
        time.sleep(world.chance.uniform(0, 0.04))
    assert victim.process.poll() == (-signal.SIGKILL if step.how == "kill" else None), victim.said
    return victim
