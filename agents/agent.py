"""Agents as an application declares them, and their answer: the decision."""

import functools
import hashlib
import inspect
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, TypeVar

from headwater.agents.activation import Activation, Phase
from headwater.agents.breaker import Breaker
from headwater.agents.budget import Budget
from headwater.agents.rate import Limit, limit
from headwater.agents.tool import Call, Tool
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.naming import naming
from headwater.lineage.topic import Topic

if TYPE_CHECKING:
    from headwater.agents.context import Context

T = TypeVar("T")
NAMESPACE = uuid.UUID("2c7b1f0e-94a5-5f9e-8f8d-0e6a7c1b5d42")
_named = naming(NAMESPACE)


@dataclass(frozen=True)
class Option:
    """One thing the agent could have chosen, with the probability its model gave it."""

    name: str
    confidence: float


@dataclass(frozen=True)
class Publish:
    """An effect: an event on a topic. Its id is deterministic, so a second sending is the same event."""

    topic: Topic[Any]
    data: Any
    key: str | None = None


Effect: TypeAlias = Publish | Call


@dataclass(frozen=True)
class Decision(Generic[T]):
    """What an agent answers. `choice=None` means: nothing to do.

    confidence   0 to 1; below the agent's `act_above` the decision becomes a review
    evidence     ids of the retrieved chunks that the choice rests on
    without      chunk id → the option and confidence that would have come out without that chunk, where the model can tell
    cost         named amounts, such as input_tokens, output_tokens, seconds
    """

    choice: T | None
    options: tuple[Option, ...] = ()
    rationale: str = ""
    confidence: float = 1.0
    evidence: tuple[str, ...] = ()
    without: Mapping[str, Option] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()

    def with_effects(self, *effects: Effect) -> Self:
        """The same decision, with what it does outside."""
        new = object.__new__(type(self))  # `dataclasses.replace` takes four times as long
        new.__dict__.update(self.__dict__, effects=self.effects + effects)
        return new


AgentFunction: TypeAlias = Callable[[Activation, "Context"], Awaitable[Decision[Any]]]


@dataclass(frozen=True, eq=False)
class Agent:
    """A single-purpose decider, woken by activations.

    wakes_on    trigger rules; of their activations those in a phase of `phases`
    publishes   the only topics it may publish to
    tools       the only tools it may call
    act_above   confidence from which a decision is acted on; below it goes to review
    timeout     one attempt at most; after `attempts` failures the fallback decides, or a review asks a person
    expires     how long a review waits for its verdict, by the wall clock
    breaker     when it is left alone because it keeps failing; None: never
    rate        at most so many decisions within a duration, such as "20/1m"; more of them wait their turn
    awaits      trigger rules that it may suspend for; it is woken by them while it is suspended
    remembers   how long what it remembers is kept after it was last changed
    budget      what it may spend per UTC day; beyond it the fallback decides, or a review asks a person
    """

    name: str
    function: AgentFunction
    wakes_on: tuple[Any, ...]
    publishes: tuple[Topic[Any], ...] = ()
    act_above: float = 0.0
    timeout: str = "30s"
    attempts: int = 2
    fallback: "Agent | None" = None
    version: str = "1"
    phases: tuple[Phase, ...] = ("opened", "updated")
    tools: tuple[Tool, ...] = ()
    expires: str = "24h"
    breaker: Breaker | None = None
    rate: str | None = None
    budget: Budget | None = None
    remembers: str = "7d"
    awaits: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.act_above <= 1:
            raise Misused(f"agent {self.name}: act_above={self.act_above} must lie between 0 and 1")
        if self.attempts < 1:
            raise Misused(f"agent {self.name}: attempts={self.attempts} must be at least 1")
        duration(self.timeout)
        if duration(self.expires) <= 0:
            raise Misused(f"agent {self.name}: expires={self.expires!r} must be above 0")
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise Misused(f"agent {self.name}: two of its tools have one name; it names {', '.join(sorted(names))}")
        if duration(self.remembers) <= 0:
            raise Misused(f"agent {self.name}: remembers={self.remembers!r} must be above 0")
        if self.rate is not None:
            try:
                limit(self.rate)
            except Misused as error:
                raise Misused(f"agent {self.name}: rate={error}") from None

    @functools.cached_property
    def limit(self) -> Limit | None:
        """Its rate, read."""
        return None if self.rate is None else limit(self.rate)

    @functools.cached_property
    def _waking(self) -> frozenset[str]:
        return frozenset(rule.name for rule in self.wakes_on)

    @functools.cached_property
    def _awaited(self) -> frozenset[str]:
        return frozenset(rule.name for rule in self.awaits)

    @functools.cached_property
    def line(self) -> "tuple[Agent, ...]":
        """Who is asked, in order: itself, then its fallbacks, each once."""
        found: dict[str, Agent] = {}
        each: Agent | None = self
        while each is not None and each.name not in found:
            found[each.name] = each
            each = each.fallback
        return tuple(found.values())

    @property
    def digest(self) -> str:
        """A hash of the agent's source: a change under an unchanged version is warned of at start."""
        source = getattr(self.function, "digest", None)  # an agent that ships says itself what it is made of
        try:
            source = source or inspect.getsource(self.function)
        except (OSError, TypeError):
            source = self.name
        return hashlib.sha256(source.encode()).hexdigest()[:16]

    def hears(self, activation: Activation) -> bool:
        """Whether it is woken by it, or may be waiting for it."""
        return self.wakes(activation) or self.suspends_for(activation)

    def suspends_for(self, activation: Activation) -> bool:
        """Whether it may be waiting for it."""
        return activation.rule in self._awaited

    def wakes(self, activation: Activation) -> bool:
        return activation.phase in self.phases and activation.rule in self._waking

    def watches(self, activation: Activation) -> bool:
        """Whether it is woken by the rule that fired, in whatever phase."""
        return activation.rule in self._waking


def agent(
    *,
    wakes_on: Sequence[Any],
    publishes: Sequence[Topic[Any]] = (),
    act_above: float = 0.0,
    timeout: str = "30s",
    attempts: int = 2,
    fallback: Agent | None = None,
    version: str = "1",
    phases: Sequence[Phase] = ("opened", "updated"),
    tools: Sequence[Tool] = (),
    expires: str = "24h",
    breaker: Breaker | None = None,
    rate: str | None = None,
    budget: Budget | None = None,
    remembers: str = "7d",
    awaits: Sequence[Any] = (),
) -> Callable[[AgentFunction], Agent]:
    """Declare an agent: `@agent(wakes_on=[rule], publishes=[topic], act_above=0.7, timeout="10s")`."""

    def declare(function: AgentFunction) -> Agent:
        name = getattr(function, "__name__", "agent")
        return Agent(
            name, function, tuple(wakes_on), tuple(publishes), act_above, timeout, attempts, fallback, version, tuple(phases),
            tuple(tools), expires,
            breaker=breaker, rate=rate, budget=budget, remembers=remembers, awaits=tuple(awaits),
        )  # fmt: skip

    return declare


@functools.lru_cache(maxsize=8192)
def decision_id(agent: str, activation: str) -> str:
    """UUIDv5(agent, activation id): whoever decides first stays the decision, whatever the agent's version."""
    return _named(f"{agent}\x1f{activation}")


def effect_id(decision: str, ordinal: int) -> str:
    """UUIDv5(decision id, ordinal)."""
    return _named(f"{decision}\x1f{ordinal}")
