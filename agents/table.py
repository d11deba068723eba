"""by_rules: an agent that is a table. The first row whose predicate holds gives the choice; no model is asked."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import polars as pl

from headwater.agents.activation import Activation
from headwater.agents.agent import Decision, Effect, Option, Publish
from headwater.agents.context import Context
from headwater.agents.decide import summary
from headwater.agents.expression import told
from headwater.lineage.errors import AgentFailed, Misused
from headwater.lineage.topic import Topic

Predicate: TypeAlias = Callable[[Activation], bool] | pl.Expr
Row: TypeAlias = tuple[Predicate, Any, str]
"""When, what, why."""
Effects: TypeAlias = Callable[[Any, Activation], Iterable[Effect]]

_SEEN = ("rule", "key", "phase", "value", "count", "total", "at")
"""What a polars expression may look at of an activation; `at` in µs since 1970."""


def by_rules(
    name: str, rows: Sequence[Row], *, otherwise: tuple[Any, str] | None = None, publish: Topic[Any] | None = None,
    effects: Effects | None = None,
) -> "ByRules":  # fmt: skip
    """The function of an agent: `agent(wakes_on=[…], publishes=[plans])(by_rules("by_the_book", […], publish=plans))`.

    rows       (predicate, choice, rationale); a predicate is a function of the activation, or a polars expression over its rule, key,
               phase, value, count, total and at
    otherwise  (choice, rationale) where no predicate holds; None: there is nothing to do then
    publish    the topic on which the choice goes out, under the activation's key
    effects    (choice, activation) → what else is done

    Raises Misused for a row that is none.
    """
    for n, row in enumerate(rows):
        if not isinstance(row, tuple) or len(row) != 3 or not (callable(row[0]) or isinstance(row[0], pl.Expr)):
            raise Misused(f"by_rules {name}: row {n} is no (predicate, choice, why); a predicate is a function or a polars expression")
        if isinstance(row[0], pl.Expr) and (unknown := set(row[0].meta.root_names()) - set(_SEEN)):
            raise Misused(f"by_rules {name}: row {n} looks at {', '.join(sorted(unknown))}; an activation has {', '.join(_SEEN)}")
    return ByRules(name, tuple(rows), otherwise, publish, effects)


@dataclass(frozen=True, eq=False)
class ByRules:
    """See `by_rules`."""

    name: str
    rows: tuple[Row, ...]
    otherwise: tuple[Any, str] | None = None
    publish: Topic[Any] | None = None
    effects: Effects | None = None
    __name__: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "__name__", self.name)

    @property
    def digest(self) -> str:
        """What it is made of: a changed table is a changed agent."""
        rows = [f"{_source(predicate)} {choice!r} {why}" for predicate, choice, why in self.rows]
        return "\n".join([*rows, repr(self.otherwise), self.publish.name if self.publish else "", _source(self.effects)])

    async def __call__(self, activation: Activation, context: Context) -> Decision[Any]:
        """Raises AgentFailed, naming the row, if a predicate cannot be told."""
        for n, (predicate, choice, why) in enumerate(self.rows):
            if self._holds(n, predicate, activation):
                context.note(f"row {n} of {len(self.rows)} holds: {why}", row=n)
                return self._decision(choice, why, activation)
        if self.otherwise is None:
            context.note(f"none of {len(self.rows)} rows holds")
            return Decision(None, rationale=f"None of {len(self.rows)} rules holds.")
        choice, why = self.otherwise
        context.note(f"none of {len(self.rows)} rows holds: {why}")
        return self._decision(choice, why, activation)

    def _holds(self, n: int, predicate: Predicate, activation: Activation) -> bool:
        try:
            if isinstance(predicate, pl.Expr):
                seen = pl.DataFrame({column: [getattr(activation, column)] for column in _SEEN})
                found = seen.select(predicate.alias("holds")).item()
            else:
                found = predicate(activation)
        except Exception as error:
            raise AgentFailed(f"by_rules {self.name}: row {n} cannot be told: {type(error).__name__}: {error}") from error
        if found is not None and not isinstance(found, bool):
            raise AgentFailed(f"by_rules {self.name}: row {n} says {found!r:.100}, neither true nor false")
        return bool(found)

    def _decision(self, choice: Any, why: str, activation: Activation) -> Decision[Any]:
        all_choices = [choice, *(row[1] for row in self.rows), *([self.otherwise[0]] if self.otherwise else [])]
        names = dict.fromkeys(summary(each) for each in all_choices if each is not None)
        options = tuple(Option(name, float(name == summary(choice))) for name in names)
        decision: Decision[Any] = Decision(choice, options=options, rationale=why)
        return decision if choice is None else decision.with_effects(*effects_of(choice, activation, self.publish, self.effects))


def effects_of(choice: Any, activation: Activation, publish: Topic[Any] | None, effects: Effects | None) -> list[Effect]:
    """What an agent that ships does with its choice."""
    published: list[Effect] = [Publish(publish, choice, key=activation.key)] if publish is not None else []
    return [*published, *(effects(choice, activation) if effects is not None else ())]


def _source(predicate: Any) -> str:
    if predicate is None or isinstance(predicate, pl.Expr):
        return "None" if predicate is None else told(predicate)
    try:
        return inspect.getsource(predicate)
    except (OSError, TypeError):
        return getattr(predicate, "__qualname__", type(predicate).__name__)
