"""Gates: whether more of a partition may be read now. A source asks before each poll, and pauses by them instead of blocking."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeAlias

from headwater.agents.agent import Agent
from headwater.enrichers.freshness import Progress
from headwater.flows.keeping import SAVE_S

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

Gate: TypeAlias = Callable[[str, int], bool]
"""(topic, partition) → may more be read now?"""

MOST_MOVING = 10_000
"""Positions on the retry ladder at which `index` reads no new ones."""


def ladder_gate(progress: Progress, clock: Callable[[], float] = time.monotonic) -> Gate:
    """While very many positions are on the retry ladder, no new ones are read: something is wrong that concerns them all."""
    until, moving = 0.0, 0

    def open_now(topic: str, partition: int) -> bool:
        nonlocal until, moving
        now = clock()
        if now > until:
            until, moving = now + SAVE_S, progress.moving()
        return moving < MOST_MOVING

    return open_now


def agent_gate(run: "Runtime", agent: Agent) -> Gate:
    """An agent at its bound pauses its own partitions, and nobody else's."""

    def open_now(topic: str, partition: int) -> bool:
        decider = run.deciders.get((agent.name, partition))
        return (agent.name, partition) not in run.opening if decider is None else decider.room() > 0

    return open_now


def rules_gate(far_ahead: Mapping[str, Collection[int]]) -> Gate:
    """Partitions that are far ahead of the one that the rules wait for are paused, so that what waits in memory is bounded.

    `far_ahead` is the rules' word, as it is now. They and the source's part must be in one process for it; elsewhere nothing is paused.
    """
    return lambda topic, partition: partition not in far_ahead.get(topic, ())
