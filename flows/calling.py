"""What a walk does outside: effects in their order, as each tool's kind allows, calls made to the tools that a test gives."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from headwater.agents.agent import Agent
from headwater.agents.book import Book
from headwater.agents.context import Ports
from headwater.agents.course import End, effects_of
from headwater.agents.effect import effect_records
from headwater.agents.journal import Answered, Calling, Decided, Outgoing
from headwater.agents.perform import Performer
from headwater.agents.testing import MemoryJournal, MemoryLog
from headwater.agents.tool import Tool
from headwater.lineage.errors import EffectFailed, Misused
from headwater.lineage.record import Record

State: TypeAlias = Literal["done", "failed", "unknown", "not_made"]
Given: TypeAlias = Callable[..., Any]
"""What stands in a tool's place: called with its arguments as keywords, and with `effect` if it takes one; coroutine function or not."""


@dataclass(frozen=True)
class Called:
    """A call that a decision made: `id` is the effect id.

    state   done, failed (refused: what follows did not happen) or unknown (a person is asked, and what follows waits);
            not_made: the test gave nothing in the tool's place, so it was not called, and what follows happened as if it were done
    """

    tool: str
    arguments: Mapping[str, Any]
    id: str
    decision: str
    state: State
    answer: Any = None
    error: str = ""


class Performed(NamedTuple):
    """What a decision did: the events it published, the calls it made, the records of these, and why it ended as a dead letter if so."""

    effects: Sequence[Outgoing]
    calls: Sequence[Called]
    records: Sequence[Record]
    failure: EffectFailed | None


async def performed(agent: Agent, decision: Decided, ports: Ports, tools: Mapping[str, Given]) -> Performed:
    """Take a decision that acts to its end, or to a review that waits. Nothing but `tools` is called."""
    if not decision.calls:
        return Performed(decision.effects, (), (), None)
    journal, book = MemoryJournal(MemoryLog()), Book([decision])
    course = book.course(decision.id)
    assert course is not None
    step = await Performer(_given(agent, tools), ports, journal, book).perform(course)
    effects = [each for each in effects_of(course) if each.id in course.sent]
    calls = [_called(each, decision, course.answered[each.id], tools) for each in decision.calls if each.id in course.answered]
    records = [record for record in effect_records(course) if record.kind == "review" or record.data.get("effect") == "call"]
    failure = EffectFailed(step.error) if isinstance(step, End) and step.outcome == "dead_lettered" else None
    return Performed(effects, calls, records, failure)


def known(tools: Mapping[str, Given], agents: Iterable[Agent]) -> None:
    """Raises Misused for a tool that no agent declares."""
    names = sorted({tool.name for agent in agents for each in agent.line for tool in each.tools})
    for name in tools:
        if name not in names:
            raise Misused(f"tools={{{name!r}: …}}: no agent declares a tool of this name; they declare {', '.join(names) or 'none'}")


def _given(agent: Agent, tools: Mapping[str, Given]) -> Agent:
    """The agent with what the test gives in the place of its tools' functions."""
    fallback = None if agent.fallback is None else _given(agent.fallback, tools)
    return dataclasses.replace(agent, tools=tuple(_double(tool, tools.get(tool.name)) for tool in agent.tools), fallback=fallback)


def _double(tool: Tool, given: Given | None) -> Tool:
    """A tool of the same name, kind and arguments."""
    told = given is not None and "effect" in inspect.signature(given).parameters

    async def function(**arguments: Any) -> Any:
        effect = arguments.pop("effect", None)
        if given is None:
            return None
        answer = given(**arguments, effect=effect) if told else given(**arguments)
        return await answer if inspect.isawaitable(answer) else answer

    async def never(effect: str) -> None:
        """A walk dies nowhere: what was not answered did not happen."""

    reconcile = never if tool.kind == "reconcilable" else None
    return Tool(
        tool.name, function, tool.kind, tool.scope, tool.description, dict(tool.parameters), reconcile, tool.lease, tool.timeout
    )  # fmt: skip


def _called(call: Calling, decision: Decided, answered: Answered, tools: Mapping[str, Given]) -> Called:
    state: State = answered.state if call.tool in tools else "not_made"
    return Called(call.tool, call.arguments, call.id, decision.id, state, answered.answer, answered.error)
