"""All an agent may do: retrieve, choose, call tools that read, note. Each leaves a record and has no effect outside."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from headwater.agents.activation import Activation
from headwater.agents.agent import Agent, Decision
from headwater.agents.answer import costs, words
from headwater.agents.authorise import INDEX, MODEL, Authorise, authorise, principal_of
from headwater.agents.deadline import Deadlines
from headwater.agents.memory import Memories
from headwater.agents.reading import Asking, only_reads, read
from headwater.agents.reins import Reins
from headwater.agents.room import Room
from headwater.agents.tool import Tool
from headwater.agents.trail import Trail
from headwater.lineage.duration import duration, format_time
from headwater.lineage.errors import AgentFailed, Behind, DeadLettered, Forbidden, HeadwaterError
from headwater.lineage.event import Position

T = TypeVar("T")

PATIENCE = 0.5
"""The share of an agent's timeout it spends waiting for the index; the rest is for deciding."""
_STEP_S, _LONGEST_STEP_S = 0.005, 0.1
SAYINGS = 1000
"""How often one attempt may search, ask a model, call a tool and note, together: all of it is kept beside the decision, in one entry."""


class Found(Protocol):
    """A hit, as `enrichers.retrieve.Hit` has it."""

    @property
    def id(self) -> str: ...
    @property
    def document(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def section(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def dense(self) -> float: ...
    @property
    def position(self) -> str: ...


class Answer(Protocol):
    """A search's answer, as `enrichers.retrieve.Answer` has it."""

    @property
    def results(self) -> Sequence[Found]: ...
    @property
    def as_of(self) -> Mapping[str, int]: ...
    @property
    def staleness_ms(self) -> float: ...
    @property
    def too_new(self) -> int: ...


class Search(Protocol):
    """The one read path, as `enrichers.retrieve.Retriever` has it."""

    def search(
        self, text: str, *, limit: int, where: Mapping[str, Any] | None, after: Sequence[Position], wait_s: float, as_of: int | None
    ) -> Answer:
        """The best chunks as they stood at event time `as_of` (µs). Raises Behind, DeadLettered, Gone."""
        ...


@dataclass(frozen=True)
class Evidence:
    """A chunk that an agent saw; `position` is the token of the event it came from."""

    id: str
    document: str
    version: int
    n: int
    section: str
    text: str
    score: float
    position: str = ""


@dataclass(frozen=True)
class Chosen:
    """A model's answer: the decision, and what the records keep of how it came about; `asked`: whatever else a chooser tells of it."""

    decision: Decision[Any]
    model: str
    prompt: str
    answer: Any
    tokens: Mapping[str, int] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)


class Chooser(Protocol):
    """Answers typed choices, as `agents.model.ModelChooser` does."""

    async def choose(self, output: type[Any], situation: str, evidence: Sequence[Evidence]) -> Chosen:
        """A value of the type, with options and confidence. Raises AgentFailed, Unavailable."""
        ...


@dataclass(frozen=True)
class Ports:
    """What deciding needs from outside.

    clock      wall clock in µs since 1970
    broker     the id of the broker whose offsets the activations' cuts speak of
    indexed    the topics that the index reads: only their positions are waited for; None: all
    largest    bytes of the largest entry that the journal takes
    memories   what agents remember
    asking     how tools that read are called
    reins      what holds agents back: breakers, rates, budgets;  room  how many attempts are made at once;  deadlines  until when each
    """

    search: Search
    chooser: Chooser
    clock: Callable[[], int]
    broker: str
    indexed: frozenset[str] | None = None
    authorise: Authorise = authorise
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    largest: int = 19_000_000
    asking: Asking = Tool.call
    reins: Reins = field(default_factory=Reins)
    memories: Memories = field(default_factory=Memories)
    room: Room = field(default_factory=Room)
    deadlines: Deadlines = field(default_factory=Deadlines)


class Context:
    """What one agent gets for one activation."""

    def __init__(self, agent: Agent, activation: Activation, ports: Ports, trail: Trail) -> None:
        self.activation = activation
        self._agent = agent
        self._principal = principal_of(agent)
        self._ports = ports
        self._trail = trail
        self._sayings = 0

    async def retrieve(self, query: str, limit: int = 8, where: Mapping[str, Any] | None = None) -> list[Evidence]:
        """The search at the activation's event time (law 9), best first; it sees every event that woke the agent.

        If the index has not come that far, it waits up to half of the agent's timeout, then goes on with what is there:
        the record says what was missing. Raises Forbidden, Gone, Unavailable.
        """
        self._counted()
        self._authorised("retrieve", INDEX)
        started = self._ports.clock()
        answer, missing = await self._search(query, limit, where)
        data: dict[str, Any] = {
            "query": query, "limit": limit, "as_of": dict(answer.as_of), "staleness_ms": answer.staleness_ms,
            "at": self.activation.at, "too_new": answer.too_new, "results": [_shown(found) for found in answer.results],
            "waited_ms": (self._ports.clock() - started) / 1000,
        }  # fmt: skip
        if where:
            data["where"] = dict(where)
        if missing:
            data["missing"] = missing
        self._trail.retrieval(data, self.activation.at)
        return [_evidence(found) for found in answer.results]

    async def choose(self, output: type[T], evidence: Sequence[Evidence], situation: str | None = None) -> Decision[T]:
        """Ask the model for a value of `output`: a pydantic model whose fields are Literal, Enum or bool.

        `situation` says what is the case; by default what the activation says. Raises Forbidden, AgentFailed, Unavailable.
        """
        text = situation_of(self.activation) if situation is None else situation
        return await self.consult(lambda: self._ports.chooser.choose(output, text, evidence))

    async def consult(self, question: Callable[[], Awaitable[Chosen]]) -> Decision[Any]:
        """Put a question of one's own to a model of one's own: asked for, recorded and paid for as `choose` is.

        A question that fails may still have cost something: it says so by raising with `asked=` a Chosen. Raises Forbidden, and what the
        question raises.
        """
        self._counted()
        self._authorised("choose", MODEL)
        started = self._ports.clock()
        try:
            chosen = await question()
        except HeadwaterError as error:
            if isinstance(asked := error.details.pop("asked", None), Chosen):
                self._asked(asked, started, error=words(error))
            raise
        self._asked(chosen, started)
        return chosen.decision

    async def tool(self, tool: Tool, /, **arguments: Any) -> Any:
        """The answer, as JSON values, of a tool that only reads; what acts outside is an effect: `decision.with_effects(Call(tool, …))`.

        Raises Misused for any other kind, Invalid for arguments that do not fit, Forbidden, Unavailable after the tool's timeout, and
        whatever the tool raises.
        """
        only_reads(tool)
        checked = tool.checked(arguments)
        self._counted()
        self._authorised("call", tool.scope)
        return await read(tool, checked, self._trail, self._ports.clock, self._ports.asking)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that the agent declares."""
        return self._agent.tools

    @property
    def chooser(self) -> Chooser:
        """What answers `choose`: the model that the settings name."""
        return self._ports.chooser

    @property
    def resumes(self) -> Activation | None:
        """The activation over which this agent suspended, if this is what it waited for; None: it is woken anew."""
        return self._trail.resumes

    def suspend(self, *rules: Any, expires: str = "24h") -> Decision[Any]:
        """Be woken again when one of these rules (of the agent's `awaits`) fires for the same key, with what it remembers.

        Counts once this decision is written. Gives a decision to do nothing more; the agent may also return another one. Nothing is held
        meanwhile but an entry in the journal; after `expires` (wall clock) nothing is waited for any more. Raises Forbidden, Misused.
        """
        if not rules or duration(expires) <= 0:
            raise AgentFailed(f"agent {self._agent.name} suspends for nothing: name a rule, and expires= above 0")
        for rule in rules:
            self._authorised("await", rule.name)
        names = [rule.name for rule in rules]
        self._trail.draft.suspend(names, duration(expires))
        return Decision(None, rationale=f"suspended until {' or '.join(names)}, at most {expires}")

    def remember(self, name: str, value: Any) -> None:
        """Keep a JSON value for later decisions of this agent on the same key and correlation id, once this decision is written.

        At most 16 KB under one correlation id. Raises AgentFailed.
        """
        self._trail.draft.remember(name, value)

    def recall(self, name: str, default: Any = None) -> Any:
        """What this agent remembers under a name; `default`: nothing. Neither a restart nor another worker loses it."""
        return self._trail.draft.recall(name, default)

    def forget(self, name: str) -> None:
        """Keep it no longer, once this decision is written."""
        self._trail.draft.forget(name)

    def note(self, text: str, **data: Any) -> None:
        """Say something about the reasoning; it is kept beside the decision, with `data` for who queries it. Raises AgentFailed."""
        self._counted()
        self._trail.note(text, **data)

    def _counted(self) -> None:
        self._sayings += 1
        if self._sayings > SAYINGS:
            raise AgentFailed(
                f"agent {self._agent.name} searched, asked, called and noted more than {SAYINGS} times in one attempt; "
                "say more at once, or publish what is to be kept"
            )

    def _asked(self, chosen: Chosen, started: int, **failed: str) -> None:
        seconds = (self._ports.clock() - started) / 1_000_000
        options = [{"name": option.name, "confidence": option.confidence} for option in chosen.decision.options]
        data = {
            "model": chosen.model, "prompt": chosen.prompt, "answer": chosen.answer, "options": options, "tokens": dict(chosen.tokens),
            "seconds": seconds, "by": self._agent.name,
        }  # fmt: skip
        self._trail.model({**data, **chosen.asked, **failed})
        self._trail.spend(costs(self._agent, chosen.decision.cost))

    def _authorised(self, action: str, resource: str) -> None:
        about = {"activation": self.activation.id, "rule": self.activation.rule, "key": self.activation.key}
        ruling = self._ports.authorise(self._principal, action, resource, about)
        self._trail.ruling(self._principal, action, resource, ruling)
        if not ruling.allowed:
            raise Forbidden(ruling.reason)

    async def _search(self, query: str, limit: int, where: Mapping[str, Any] | None) -> tuple[Answer, str]:
        """The answer, and what was missing of it. Waits on the loop, not in a thread: threads are few, waiting agents many."""
        after = cut_positions(self.activation, self._ports.broker, self._ports.indexed)
        started, patience = self._ports.clock(), PATIENCE * duration(self._agent.timeout) / 1_000_000
        slept, step = 0.0, _STEP_S
        missing: list[str] = []
        while True:
            try:
                return await self._search_once(query, limit, where, after), "; ".join(missing)
            except DeadLettered as error:
                # That event will never be searchable, waiting cannot help; the others may still be on their way.
                missing.append(str(error))
                after = _without(after, error)
            except Behind as error:
                # Searches take time too, so the clock counts; it may stand still in tests, so the sleep counts.
                if max(slept, (self._ports.clock() - started) / 1_000_000) + step > patience:
                    missing.append(str(error))
                    after = ()
                else:
                    await self._ports.sleep(step)
                    slept += step
                    step = min(2 * step, _LONGEST_STEP_S)

    async def _search_once(self, query: str, limit: int, where: Mapping[str, Any] | None, after: Sequence[Position]) -> Answer:
        at = self.activation.at
        return await asyncio.to_thread(self._ports.search.search, query, limit=limit, where=where, after=after, wait_s=0.0, as_of=at)


def cut_positions(activation: Activation, broker: str, indexed: frozenset[str] | None = None) -> tuple[Position, ...]:
    """The last position of each partition that an agent must have seen; a partition with nothing before the cut has none."""
    positions = []
    for place, offset in sorted(activation.cut.items()):
        topic, _, partition = place.rpartition("/")
        if offset > 0 and (indexed is None or topic in indexed):
            positions.append(Position(broker, topic, int(partition), offset - 1))
    return tuple(positions)


def _without(after: tuple[Position, ...], error: DeadLettered) -> tuple[Position, ...]:
    """What is left to wait for when one position was dead-lettered: nothing, if the error does not say which."""
    dead = str(error.details.get("position", ""))
    left = tuple(position for position in after if str(position) != dead)
    return left if len(left) < len(after) else ()


def situation_of(activation: Activation) -> str:
    """What an activation says, in words: `cancellations opened for EWR at 2013-02-08T16:02:00Z: 12 of 41 (29 %)`."""
    level = f"{activation.count} of {activation.total} ({activation.value:.0%})" if activation.total else f"level {activation.value:g}"
    return f"{activation.rule} {activation.phase} for {activation.key} at {format_time(activation.at)}: {level}"


def _shown(found: Found) -> dict[str, Any]:
    return {
        "id": found.id, "document": found.document, "version": found.version, "n": found.n, "section": found.section,
        "text": found.text, "score": found.score, "dense": found.dense, "position": found.position,
    }  # fmt: skip


def _evidence(found: Found) -> Evidence:
    return Evidence(found.id, found.document, found.version, found.n, found.section, found.text, found.score, found.position)
