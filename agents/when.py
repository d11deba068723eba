"""What rules look at: topics, and which of their events. Every rule's declaration is checked here, and refused with the remedy."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, TypeAlias

import polars as pl

from headwater.agents.columns import check, columns_of
from headwater.agents.expression import MARK, digest
from headwater.enrichers.document import DocumentType
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.select import Select
from headwater.lineage.topic import Topic

Expression: TypeAlias = pl.Expr
ONE = pl.lit(1.0)
"""The number of an event that only counts."""


@dataclass(frozen=True, eq=False)
class When:
    """Events of a topic, as a part of a rule over several: `When(flights, pl.col("status") == "cancelled", per="origin")`.

    where   which of them count, a polars expression over the model's fields and the facts; None: all
    per     the field (or expression) whose value is the key; None: what the rule says
    select  which events it sees at all, by their headers; None: what the rule says

    Events whose `per` is null count nowhere.
    """

    topic: Topic[Any]
    where: Expression | None = None
    _: KW_ONLY
    per: str | Expression | None = None
    select: Select | None = None


class Input(NamedTuple):
    """One stream of readings of a rule: a key and a number for each event of a topic that says something to it.

    value  the number, null where the event says nothing;  None: 1 where `where` holds and 0 where it does not
    kind   of the documents whose nearness to a situation becomes the number; None: the number is the value
    """

    topic: Topic[Any]
    where: Expression | None
    value: Expression | None
    per: str | Expression | None
    select: Select | None
    kind: DocumentType | None = None


def counted(when: When, per: str | Expression | None, select: Select | None) -> Input:
    """The events themselves, each a 1; a rule's `per` and `select` count where the When has none of its own."""
    return Input(when.topic, when.where, ONE, when.per if when.per is not None else per, when.select or select)


def check_rule(name: str, cool_down: str | None = None, update_step: float | None = None, at_least: int = 1, **lengths: str | None) -> None:
    """What holds of every rule. `lengths`: argument → a duration that must be longer than nothing, None: not given. Raises Misused."""
    if not isinstance(name, str) or not name:
        raise Misused(f"a rule needs a name, a text; not {name!r}")
    for argument, length in {"cool_down": cool_down, **lengths}.items():
        if length is not None and length_of(name, argument, length) <= 0:
            raise Misused(f"rule {name}: {argument}={length!r} must be longer than nothing")
    if not isinstance(at_least, int):
        raise Misused(f"rule {name}: at_least={at_least!r} must be a whole number")
    if at_least < 1:
        raise Misused(f"rule {name}: at_least={at_least} must be at least 1")
    if update_step is not None:
        check_numbers(name, update_step=update_step)
    if update_step is not None and not update_step > 0:
        raise Misused(f"rule {name}: update_step={update_step} must be more than 0, or None for no updates")


def check_levels(name: str, opens_at: float, closes_at: float, below: bool = False) -> None:
    """An episode must not close as it opens. Raises Misused."""
    check_numbers(name, opens_at=opens_at, closes_at=closes_at)
    if not (closes_at > opens_at if below else closes_at < opens_at):
        side = "above" if below else "below"
        raise Misused(
            f"rule {name}: closes_at={closes_at} must lie {side} opens_at={opens_at}, or an episode would close as it opens (below={below})"
        )


def check_numbers(name: str, **numbers: Any) -> None:
    """`numbers`: argument → what was given for it. Raises Misused for what is no finite number."""
    for argument, number in numbers.items():
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise Misused(f"rule {name}: {argument}={number!r} must be a number")


def check_whens(name: str, per: str | Expression | None, **whens: When) -> None:
    """`whens`: argument → what was given for it. Raises Misused."""
    for argument, when in whens.items():
        if not isinstance(when, When):
            raise Misused(f"rule {name}: {argument} is a {type(when).__name__}; write When(TOPIC, CONDITION)")
        check_input(name, Input(when.topic, when.where, None, when.per if when.per is not None else per, None), f"{argument}: ")


def check_input(name: str, given: Input, of: str = "") -> None:
    """Its expressions must be readable off each event of its topic alone. Raises Misused."""
    rule, topic, per = f"rule {name}: {of}", given.topic, given.per
    if not isinstance(topic, Topic):
        raise Misused(f"{rule}it looks at a {type(topic).__name__}; give a Topic, as declared")
    if given.where is not None:
        check(f"{rule}where", given.where, topic, pl.Boolean)
    if given.value is not None:
        check(f"{rule}value", given.value, topic, pl.Float64)
    if isinstance(per, str) and per not in columns_of(topic.model):
        known = ", ".join(columns_of(topic.model))
        raise Misused(f"{rule}per={per!r} is no field of {topic.model.__name__}; it has {known}")
    if isinstance(per, pl.Expr):
        check(f"{rule}per", per, topic, None)


def length_of(name: str, argument: str, length: str) -> int:
    """A duration in µs. Raises Misused, naming the rule and the argument."""
    try:
        return duration(length)
    except Misused as error:
        raise Misused(f"rule {name}: {argument}: {error}") from None


def shape_of(kind: str, inputs: Sequence[Input], *more: object) -> str:
    """What the state of a rule over several streams hangs on: all it reads, and `more` of its declaration."""
    read = ("/".join(str(part) for part in (one.topic.name, one.where, one.value, one.per, one.select)) for one in inputs)
    return whole("|".join((kind, *read, *map(str, more))), inputs)


def whole(shape: str, inputs: Sequence[Input]) -> str:
    """A shape with the digest of all that its expressions say."""
    return f"{shape}{MARK}{digest(part for one in inputs for part in (one.where, one.value, one.per))}"
