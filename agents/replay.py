"""replay: put an agent before a recorded case again. It decides anew; whatever it wants to do outside stays undone.

By default everything it saw is as it was: searches and tools answer from the record, only the model is asked again. A change of the agent,
of its model, of what is known now, or of one chunk left out is then the only difference there is.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from headwater.agents.agent import Agent
from headwater.agents.case import Answer, Case, effect_of
from headwater.agents.context import Chooser, Ports, Search
from headwater.agents.decide import decide
from headwater.agents.inputs import attempts, context_hash, first_difference, in_order_of, inputs
from headwater.agents.journal import Decided
from headwater.agents.recorded import AsHeld, Remembered, Searches, Tools, Without
from headwater.agents.reins import Reins
from headwater.agents.tool import Tool

TIMEOUT = "10m"
"""What an attempt may take, whatever the agent allows itself when it decides for real."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A case decided again.

    context       hash of all that went in, `then` and `now`; equal: the agent saw exactly the same
    difference    the first field in which what went in differs, empty if in none
    agrees        the same choice and state; `shift` is the change of its confidence
    same_effects  it would do the same outside; None where nothing was done then, so there is nothing to compare
    """

    id: str
    agent: str
    version_then: str
    version_now: str
    context_then: str
    context_now: str
    difference: str
    then: Answer
    now: Answer

    @property
    def agrees(self) -> bool:
        return (self.then.state, self.then.choice) == (self.now.state, self.now.choice)

    @property
    def shift(self) -> float:
        return self.now.confidence - self.then.confidence

    @property
    def same_effects(self) -> bool | None:
        return list(self.then.effects) == list(self.now.effects) if self.then.effects else None


async def replay(
    case: Case, agent: Agent, chooser: Chooser, clock: Callable[[], int], *, search: Search | None = None, without: Iterable[str] = ()
) -> Replayed:
    """Decide a case again.

    agent    who decides now: the one of then, or another
    search   what is known now; None: what was found then
    without  ids of chunks that are left out of whatever is found

    Never raises for what the agent does, as `decide` never does: a search that was not made then is an error of its answer.
    """
    left_out = frozenset(without)
    searches, tools, haste = Searches(case), Tools(case), _Haste(clock)

    def begins() -> None:
        searches.begin()
        tools.begin()

    known = searches if search is None else search
    ports = Ports(
        search=Without(known, left_out) if left_out else known, chooser=chooser, clock=haste.now, broker="", indexed=frozenset(),
        sleep=haste.sleep, random=lambda: 0.5, memories=Remembered(case, begins), asking=tools.ask if search is None else Tool.call,
        reins=AsHeld(case.held) if agent.name == case.agent and search is None else Reins(),
    )  # fmt: skip
    decided = await decide(_patient(agent), case.activation, ports)
    steps = in_order_of(case.steps, attempts(decided.records, decided.attempts)[0])
    then, now = (inputs(case.activation, each, case.recalled, case.over) for each in (case.steps, steps))
    return Replayed(
        id=case.id, agent=case.agent, version_then=case.version, version_now=decided.version, context_then=context_hash(then),
        context_now=context_hash(now), difference=first_difference(then, now), then=case.answer, now=_answer(decided),
    )  # fmt: skip


class _Haste:
    """A clock that goes on by what was to be waited for: attempts follow each other without a pause, for nothing has to recover."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock, self._slept = clock, 0

    def now(self) -> int:
        return self._clock() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += round(seconds * 1_000_000)


def _patient(agent: Agent) -> Agent:
    """The agent and its fallbacks without their haste: how fast a machine or model is today is no part of the case."""
    fallback = None if agent.fallback is None else _patient(agent.fallback)
    return dataclasses.replace(agent, timeout=TIMEOUT, fallback=fallback)


def _answer(decided: Decided) -> Answer:
    """What it would do is told only where it acts: then, too, nothing was done while a person was asked."""
    effects = [effect_of(data) for data in _outside(decided)] if decided.state == "acted" else []
    return Answer(
        state=decided.state, by=decided.by, choice=decided.choice, summary=decided.summary, confidence=decided.confidence,
        options=tuple((option.name, option.confidence) for option in decided.options), rationale=decided.rationale,
        effects=tuple(effects), error=decided.error, cost=dict(decided.cost),
    )  # fmt: skip


def _outside(decided: Decided) -> list[dict[str, Any]]:
    """What a decision does outside, in order, as its records would have it."""
    told = {
        event.ordinal: {"effect": "publish", "target": event.topic, "key": event.key, "data": msgspec.json.decode(event.data)}
        for event in decided.effects
    }
    told |= {call.ordinal: {"effect": "call", "target": call.tool, "key": decided.key, "data": call.arguments} for call in decided.calls}
    return [told[ordinal] for ordinal in sorted(told)]
