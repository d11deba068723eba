"""Effects once (law 2): kill -9 at every point from a choice to its last effect, and an owner that stands still while another takes over.

Real processes: `detect`, `decide` and `audit`, a broker and a service that are not killed. A seed deals the points as a deck of cards:
any five seeds in a row that begin at a multiple of five kill at every point.
"""

import functools
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash.acts import HALVES
from crash.done import Done
from crash.effect_points import EFFECT_POINTS, RARE
from crash.points import Step
from crash.world import Service, World

HERE = Path(__file__).parent
HANDS = 5
"""So many seeds in a row kill at every point."""
SAMPLE, KILLED = 3, 800
"""Seeds of the normal suite, and in all."""
STOPPED, STOPS = sorted(EFFECT_POINTS).index("effects: started"), 200
"""The seed of the normal suite at which an owner stands still, and so many in all."""
LEASE_S = 1.0
"""Of the tool `order` in `acting`."""
LAST_WORDS_S = 3.0
"""How long an owner that was taken over goes on for when it wakes; it may have nothing to write, and so not hear of it."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    opened = Service()
    yield opened
    opened.close()


def steps_of(seed: int) -> list[Step]:
    """The kills of a run, one for each life but the last."""
    chance = random.Random(seed)
    return [Step(point, 1 if point.startswith(RARE) else chance.randint(1, 3), "kill") for point in hand(seed)]


def hand(seed: int) -> list[str]:
    deck = sorted(EFFECT_POINTS)
    random.Random(f"effects {seed // HANDS}").shuffle(deck)
    return deck[seed % HANDS :: HANDS]


def brought(world: World, step: Step, share: int, **how: Any) -> Any:
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
        assert time.monotonic() - begun < 90, f"never passed {step}; so far: {victim.passed[-6:]}\n{victim.standing()}"
        time.sleep(world.chance.uniform(0, 0.04))
    assert victim.process.poll() == (-signal.SIGKILL if step.how == "kill" else None), victim.said
    return victim


def disturbed(world: World, seed: int) -> Done:
    """What a run leaves that is killed at its seed's points, its agents of another version in each life, with one worker or two."""
    chance, steps = random.Random(-seed), steps_of(seed)
    for n, step in enumerate(steps):
        brought(world, step, 4, version=str(n), workers=chance.choice([1, 2]))
    victim = world.live(version="last", workers=chance.choice([1, 2]))
    world.finish(victim)
    return world.done()


Enter = Callable[[str, int], World]


@pytest.fixture
def enter(tmp_path: Path, start: Callable[..., Any], service: Service) -> Iterator[Enter]:
    """Opens a world by its name."""
    opened: list[World] = []

    def open_one(name: str, half: int) -> World:
        opened.append(World(name, half, tmp_path / "home", start, service))
        return opened[-1]

    yield open_one
    for world in opened:
        world.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, starter: Callable[..., Any], service: Service) -> Callable[[int], Done]:
    """What a run over one half leaves that nobody disturbed; it comes by every point, and something of everything happens."""

    @functools.cache
    def done(half: int) -> Done:
        world = World(f"undisturbed-{half}-{time.monotonic_ns()}", half, tmp_path_factory.mktemp("undisturbed"), starter, service)
        try:
            victim = world.live()
            world.finish(victim)
            assert set(victim.passed) == set(EFFECT_POINTS)
            left = world.done()
        finally:
            world.close()
        assert {key for _, key, _ in left.decisions} == {*HALVES[half], "purse"}
        assert {state for state, *_ in left.decisions.values()} == {"acted", "waiting", "no_action"}
        assert {verdict for verdict, _ in left.verdicts.values()} == {"approved", "declined"}
        assert any(text.startswith("instead of") for text in left.deeds.values())
        return left

    return done


def test_the_documentation_names_every_point_of_effects():
    """docs/architecture.md lists them."""
    page = (HERE.parents[1] / "docs" / "architecture.md").read_text().partition("## What is proved of effects")[2].partition("\n## ")[0]
    for point in EFFECT_POINTS:
        where, _, name = point.partition(": ")
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{where}` | ")]
        assert name in row, point


def test_any_five_seeds_kill_at_every_point_and_stops_come_by_all():
    """What is killed is no matter of luck."""
    for deck in (0, 5, 795):
        assert {step.point for seed in range(deck, deck + HANDS) for step in steps_of(seed)} == set(EFFECT_POINTS)
    assert {seed % len(EFFECT_POINTS) for seed in range(STOPS)} == set(range(len(EFFECT_POINTS)))


@pytest.mark.parametrize("seed", [*range(SAMPLE), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(SAMPLE, KILLED))])
def test_what_is_done_outside_is_done_once(seed, enter, undisturbed):
    """Killed at each point: idempotent and reconcilable calls once, plain ones never twice, events by their ids; nothing else differs."""
    world = enter(f"seed-{seed}", seed % 2)
    assert disturbed(world, seed) == undisturbed(world.half)


def taken_over(world: World, seed: int) -> Done:
    """What a run leaves whose first owner stands still for longer than a lease, while another takes over what it had, and wakes then.

    Where the first had not opened an agent's journal yet it does so when it wakes, and fences the other there: that one is started anew.
    """
    chance = random.Random(seed)
    point = sorted(EFFECT_POINTS)[seed % len(EFFECT_POINTS)]
    step = Step(point, 1 if point.startswith(RARE) else chance.randint(1, 3), "stop")
    first = brought(world, step, 9, version="first")
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


@pytest.mark.parametrize("seed", [STOPPED, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(STOPS) if seed != STOPPED)])
def test_an_owner_that_stood_still_does_nothing_twice(seed, enter, undisturbed):
    """The woken one is fenced: what it had begun is done once, and it begins nothing."""
    world = enter(f"stop-{seed}", seed // len(EFFECT_POINTS) % 2)
    assert taken_over(world, seed) == undisturbed(world.half)
