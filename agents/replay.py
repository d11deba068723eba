"""replay: put an agent before a recorded case again. It decides anew; whatever it wants to do outside stays undone.

By default everything it saw is as it was: searches and tools answer from the record, only the model is asked again. A change of the agent,
of its model, of what is known now, or of one chunk left out is then the only difference there is.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.agent import Agent
from headwater.agents.case import Answer, Case, Step, context_hash, effect_of, first_difference, inputs
from headwater.agents.context import Answer as Searched
from headwater.agents.context import Chooser, Found, Ports, Search
from headwater.agents.decide import decide
from headwater.agents.journal import Decided
from headwater.agents.memory import Draft, Memories
from headwater.agents.tool import Tool
from headwater.lineage.errors import NotFound
from headwater.lineage.event import Position

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
    known = _Searches(case.steps, "retrieval") if search is None else search
    ports = Ports(
        search=_Without(known, left_out) if left_out else known, chooser=chooser, clock=clock, broker="", indexed=frozenset(),
        sleep=_at_once, random=lambda: 0.5, memories=_Remembered(case.recalled),
        asking=_Tools(case.steps, "tool").ask if search is None else Tool.call,
    )  # fmt: skip
    decided = await decide(_patient(agent), case.activation, ports)
    steps = steps_of(decided)
    then, now = inputs(case.activation, case.steps, case.recalled), inputs(case.activation, steps, case.recalled)
    return Replayed(
        id=case.id, agent=case.agent, version_then=case.version, version_now=decided.version, context_then=context_hash(then),
        context_now=context_hash(now), difference=first_difference(then, now), then=case.answer, now=_answer(decided),
    )  # fmt: skip


def _patient(agent: Agent) -> Agent:
    """The agent and its fallbacks without their haste: how fast a machine or model is today is no part of the case."""
    fallback = None if agent.fallback is None else _patient(agent.fallback)
    return dataclasses.replace(agent, timeout=TIMEOUT, fallback=fallback)


def steps_of(decided: Decided) -> tuple[Step, ...]:
    """What the agent did while it decided."""
    return tuple(Step(record.kind, record.data) for record in decided.records if record.kind in ("retrieval", "tool", "model"))


def _answer(decided: Decided) -> Answer:
    """What it would do is told only where it acts: then, too, nothing was done while a person was asked."""
    effects = [effect_of(data) for data in _outside(decided)] if decided.state == "acted" else []
    return Answer(
        state=decided.state, choice=decided.choice, summary=decided.summary, confidence=decided.confidence,
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


async def _at_once(_: float) -> None:
    """Attempts follow each other without a pause: nothing has to recover."""


class Hit(msgspec.Struct, frozen=True):
    """A chunk as the record has it."""

    id: str
    document: str
    version: int
    n: int
    section: str
    text: str
    score: float
    dense: float
    position: str


class Results(NamedTuple):
    """The answer to a search, as a `context.Answer`."""

    results: Sequence[Found]
    as_of: Mapping[str, int]
    staleness_ms: float
    too_new: int


class _Remembered(Memories):
    """What the agent remembered then; what it wants to remember now is kept nowhere."""

    def __init__(self, recalled: Mapping[str, Any]) -> None:
        super().__init__()
        self._recalled = recalled

    def draft(self, agent: str, journal: str, activation: Activation, now: int) -> Draft:
        return Draft(self._recalled, agent=agent)


class _Recorded:
    """What was answered then. The same question asked again gets the next of its answers, the last for ever: attempts may be more now."""

    def __init__(self, steps: Iterable[Step], kind: str) -> None:
        self._left = [step.data for step in steps if step.kind == kind]

    def _next(self, asked: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        places = [place for place, data in enumerate(self._left) if asked(data)]
        if not places:
            return None
        return self._left.pop(places[0]) if len(places) > 1 else self._left[places[0]]


class _Searches(_Recorded):
    """The searches of a case."""

    def search(
        self, text: str, *, limit: int, where: Mapping[str, Any] | None, after: Sequence[Position], wait_s: float, as_of: int | None
    ) -> Results:
        asked = (text, limit, dict(where or {}))
        data = self._next(lambda data: (data.get("query"), data.get("limit"), data.get("where") or {}) == asked)
        if data is None:
            raise NotFound(f"the agent searches for {text!r} (limit {limit}, where {dict(where or {})}), which it did not then; see --now")
        hits = [msgspec.convert(result, Hit) for result in data.get("results") or ()]
        return Results(hits, data.get("as_of") or {}, data.get("staleness_ms") or 0.0, data.get("too_new") or 0)


class _Without:
    """A search that does not find certain chunks."""

    def __init__(self, search: Search, left_out: frozenset[str]) -> None:
        self._search, self._left_out = search, left_out

    def search(
        self, text: str, *, limit: int, where: Mapping[str, Any] | None, after: Sequence[Position], wait_s: float, as_of: int | None
    ) -> Results:
        found: Searched = self._search.search(text, limit=limit, where=where, after=after, wait_s=wait_s, as_of=as_of)
        kept = [hit for hit in found.results if hit.id not in self._left_out]
        return Results(kept, found.as_of, found.staleness_ms, found.too_new)


class _Tools(_Recorded):
    """The tools of a case: each call answers, or fails, as it did then."""

    async def ask(self, tool: Tool, arguments: Mapping[str, Any]) -> Any:
        data = self._next(lambda data: data.get("tool") == tool.name and data.get("arguments") == dict(arguments))
        if data is None:
            raise NotFound(f"the agent calls {tool.name}({dict(arguments)}), which it did not then; see --now")
        if "error" in data:
            raise NotFound(f"tool {tool.name} failed then: {data['error']}")
        return data.get("answer")
