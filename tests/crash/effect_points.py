"""The points between a choice and its last effect at which a process is killed or stopped, and the hooks that reach them.

See `points` for how a plan works. The application of these tests passes some of them itself, by `pass_by`: those inside a call.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from crash.points import Passing, after, after_async, before, hook_source, name_flows, producer

import headwater.agents.decider as decider
import headwater.agents.model as language
import headwater.flows.deciding as deciding
import headwater.flows.kafka as kafka
from headwater.agents.agent import Decision, Option
from headwater.agents.context import Chosen, Evidence
from headwater.agents.journal import Answered, Decided, Entry, Judged, Started
from headwater.flows.journal import KafkaJournal

EFFECT_POINTS = {
    "model: asked": "a model is about to be asked",
    "model: thinking": "it was asked and has not answered",
    "model: answered": "it has answered, the agent has not chosen",
    "decide: submitted": "activations or verdicts are with their decider",
    "decide: decided": "an agent has chosen, nothing is written",
    "decide: snapshot": "the source is about to say how far it is",
    "decide: remembered": "a decider is about to give what is in flight",
    "effects: decided": "the decision is committed, none of its effects has begun",
    "effects: published": "events are committed, what follows them has not begun",
    "effects: started": "`started` is committed, the call is not made",
    "effects: answered": "a call's answer is committed, the next effect has not begun",
    "effects: judged": "a verdict is committed, what it lets happen has not begun",
    "idempotent: connected": "the call is about to be sent",
    "idempotent: sent": "the call is sent, no answer has come",
    "idempotent: made": "the answer is here, it is written nowhere",
    "reconcilable: connected": "the call is about to be sent",
    "reconcilable: sent": "the call is sent, no answer has come",
    "reconcilable: made": "the answer is here, it is written nowhere",
    "plain: connected": "the call is about to be sent",
    "plain: sent": "the call is sent, no answer has come",
    "plain: made": "the answer is here, it is written nowhere",
    "reconcile: asking": "the receiver is about to be asked whether a call happened",
    "reconcile: told": "the receiver has said whether it happened",
    "journal: fenced": "the former owner is fenced, its decisions are not read back yet",
    "journal: entered": "entries lie in the log, what they stand before or after is not sent, the transaction is open",
    "journal: written": "a transaction is filled and open",
    "journal: committed": "a transaction is committed, its callers do not know it yet",
}
"""Point → what is true there."""

RARE = ("reconcile", "effects: judged", "journal: fenced", "decide: snapshot")
"""Points, and beginnings of points, that a run passes a few times only."""

_ENTRIES = {Decided: "decided", Started: "started", Answered: "answered", Judged: "judged"}
_passing: list[Passing] = []
_inside: dict[str, None] = {}


def pass_by(point: str) -> None:
    """The application is at this point."""
    for passing in _passing:
        passing(point)


@contextmanager
def inside(effect: str) -> Iterator[None]:
    """A call for this effect is being made: if the process is stopped meanwhile, that is told."""
    _inside[effect] = None
    try:
        yield
    finally:
        del _inside[effect]


def install(passing: Passing) -> None:
    """Hook every point of this process."""
    passing.leaving = lambda: [f"inside {effect}" for effect in list(_inside)]
    _passing.append(passing)
    building = [""]
    name_flows(building)
    hook_source(_only("decide", passing), building)
    after(deciding.DecideLogic, "on_batch", passing, "decide: submitted")
    before(deciding.DecideLogic, "snapshot", passing, "decide: remembered")
    after_async(decider, "decide", passing, "decide: decided")
    after_async(KafkaJournal, "perform", passing, "effects: published")
    after(KafkaJournal, "_write_down", passing, "journal: entered")
    _after_append(passing)
    language.model_from = lambda *args: _Model(passing)  # type: ignore[assignment,return-value]
    kafka.Producer = producer(_only("journal", passing))  # type: ignore[misc]


def _only(where: str, passing: Callable[[str], None]) -> Callable[[str], None]:
    return lambda point: passing(point) if point.startswith(where) else None


def _after_append(passing: Callable[[str], None]) -> None:
    inner = KafkaJournal.append

    async def append(self: KafkaJournal, entries: Sequence[Entry]) -> None:
        await inner(self, entries)
        for entry in entries:
            passing(f"effects: {_ENTRIES[type(entry)]}")

    KafkaJournal.append = append  # type: ignore[method-assign]


class _Model:
    """A model that always says the same, after a moment."""

    def __init__(self, passing: Callable[[str], None]) -> None:
        self._passing = passing

    async def choose(self, output: type[Any], situation: str, evidence: Sequence[Evidence]) -> Chosen:
        self._passing("model: asked")
        thinking = asyncio.ensure_future(asyncio.sleep(0.004))
        await asyncio.sleep(0.002)
        self._passing("model: thinking")
        await thinking
        self._passing("model: answered")
        return Chosen(Decision("do it", options=(Option("do it", 1.0),)), model="marked", prompt=situation, answer="do it")
