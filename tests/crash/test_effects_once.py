"""Effects once (law 2): kill -9 at every point from a choice to its last effect, and an owner that stands still while another takes over.

Real processes: `detect`, `decide` and `audit`, a broker and a service that are not killed. Here a sample of the seeds; `seeds.py` runs all.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import seeds
from crash.done import Done
from crash.effect_points import EFFECT_POINTS
from crash.seeded import HANDS, KILLED, RUNS, STOPPED, half_of, steps_of, undisturbed
from crash.world import Service, World

HERE = Path(__file__).parent
SAMPLE = [("kill", 0), ("kill", 1), ("kill", 2), ("stop", sorted(EFFECT_POINTS).index("effects: started"))]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    opened = Service()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory, starter: Callable[..., Any], service: Service) -> Callable[[int], Done]:
    """What a run over one half leaves that nobody disturbed."""

    @functools.cache
    def left(half: int) -> Done:
        world = World(f"undisturbed-{half}", half, tmp_path_factory.mktemp("undisturbed"), starter, service)
        try:
            return undisturbed(world)
        finally:
            world.close()

    return left


def test_the_documentation_names_every_point_of_effects():
    """docs/architecture.md lists them."""
    page = (HERE.parents[1] / "docs" / "architecture.md").read_text().partition("## What is proved of effects")[2].partition("\n## ")[0]
    for point in EFFECT_POINTS:
        where, _, name = point.partition(": ")
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{where}` | ")]
        assert name in row, point


def test_any_five_seeds_kill_at_every_point_and_stops_come_by_all():
    """What is killed is no matter of luck."""
    for deck in (0, 5, KILLED - HANDS):
        assert {step.point for seed in range(deck, deck + HANDS) for step in steps_of(seed)} == set(EFFECT_POINTS)
    assert {seed % len(EFFECT_POINTS) for seed in range(STOPPED)} == set(range(len(EFFECT_POINTS)))


@pytest.mark.parametrize(("kind", "seed"), SAMPLE)
def test_what_is_done_outside_is_done_once(kind, seed, tmp_path, start, service, left_alone):
    """Killed at each point, or woken when taken over: idempotent and reconcilable calls once, plain ones never twice; all else equal."""
    half = half_of(kind, seed)
    world = World(f"{kind}-{seed}", half, tmp_path / "home", start, service)
    try:
        assert RUNS[kind](world, seed) == left_alone(half)
    finally:
        world.close()


def test_what_was_run_is_told_and_not_run_again(tmp_path, capsys):
    """Seeds go on where they were broken off; what failed is told with its cause, and comes again; other code has passed nothing."""
    tried = []

    def odd_fail(kind: str, seed: int) -> None:
        tried.append((kind, seed))
        assert seed % 2 == 0, "an odd one"

    passed = seeds.Passed(tmp_path, "this code")
    assert seeds.run(range(KILLED - 3, KILLED + 2), passed, odd_fail, at_once=1) == 1
    assert tried == [("kill", 797), ("kill", 798), ("kill", 799), ("stop", 0), ("stop", 1)]
    said = capsys.readouterr().out
    assert "kill 799 failed: AssertionError: an odd one" in said and "2 of 5 passed, 3 failed" in said
    tried.clear()
    assert seeds.run(range(KILLED - 3, KILLED + 2), seeds.Passed(tmp_path, "this code"), odd_fail, at_once=1) == 1
    assert tried == [("kill", 797), ("kill", 799), ("stop", 1)]
    assert seeds.Passed(tmp_path, "other code").seeds == set()
