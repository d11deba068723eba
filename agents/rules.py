"""Trigger rules as an application declares them: `Rate` and `Threshold`. Frozen data; a rule looks at one topic.

An episode opens when the measured level reaches `opens_at`, is updated when it worsens by another `update_step`, and closes when
the level has come back to `closes_at`: the gap between the two keeps one disruption from being many.
"""

import functools
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeAlias

import polars as pl

from headwater.agents.activation import Phase
from headwater.agents.columns import check, columns_of
from headwater.agents.window import SHARE, is_statistic
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.select import Select
from headwater.lineage.topic import Topic

Expression: TypeAlias = pl.Expr
_STEP_SLACK = 1e-9  # 0.3 − 0.2 is a hair less than 0.1


@dataclass(frozen=True, eq=False)
class Rate:
    """The share of things, each by its newest event in the window, that match.

    of           the topic; its key says what one thing is (no key: each event is a thing)
    where        a polars expression over the model's fields and the facts (a struct column per enricher:
                 `pl.col("airline").struct.field("name")`); it must look at each row alone
    per          the field (or expression) whose value keys the episodes; None: one episode for all, keyed "all"
    within       length of the sliding window of event time, (t − within, t]
    opens_at     share from which an episode opens;  closes_at  share down to which it closes
    at_least     things that must be in the window for its share to be judged
    update_step  how much further the share must rise over the highest reported to report again; None: never
    select       which events it sees at all, by their headers; None: every event of the topic

    A window that empties closes the episode at the moment its last event left. Events whose `per` is null count nowhere.
    """

    name: str
    _: KW_ONLY
    of: Topic[Any]
    where: Expression
    within: str
    opens_at: float
    closes_at: float
    per: str | Expression | None = None
    at_least: int = 1
    update_step: float | None = 0.1
    version: str = "1"
    select: Select | None = None

    def __post_init__(self) -> None:
        _check_common(self)
        if not 0 <= self.closes_at < self.opens_at <= 1:
            raise Misused(
                f"rule {self.name}: a share opens at opens_at={self.opens_at} and closes at closes_at={self.closes_at}; "
                "write 0 <= closes_at < opens_at <= 1"
            )
        check(f"rule {self.name}: where", self.where, self.of, pl.Boolean)

    @property
    def stat(self) -> str:
        return SHARE

    @property
    def value(self) -> None:
        return None

    @property
    def below(self) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class Threshold:
    """A number that crosses a level: of each event alone, or a statistic over a sliding window.

    value        a polars expression; events where it is null (or not finite) say nothing
    where        which events count at all
    within       None: each event alone, not waiting for the watermark where one partition holds all events of a key.
                 Else: the statistic of the newest counting event of each thing in the window (t − within, t]
    stat         mean, median, min, max, or a percentile p1 … p99 (nearest rank)
    below        the episode opens when the level falls to `opens_at` and closes when it rises to `closes_at`
    update_step  how much further (downwards, if `below`) the level must go to report again; None: never

    `of`, `per`, `at_least`, `select`, `version` as for Rate. In its activations `total` things were in the window, `count` of them at or
    beyond `opens_at`; where a window emptied, both are 0 and `value` is the last measured.
    """

    name: str
    _: KW_ONLY
    of: Topic[Any]
    value: Expression
    opens_at: float
    closes_at: float
    per: str | Expression | None = None
    where: Expression | None = None
    within: str | None = None
    at_least: int = 1
    stat: Literal["mean", "median", "min", "max"] | str = "mean"
    below: bool = False
    update_step: float | None = None
    version: str = "1"
    select: Select | None = None

    def __post_init__(self) -> None:
        _check_common(self)
        if not (self.closes_at > self.opens_at if self.below else self.closes_at < self.opens_at):
            side = "above" if self.below else "below"
            raise Misused(
                f"rule {self.name}: closes_at={self.closes_at} must lie {side} opens_at={self.opens_at}, "
                f"or an episode would close as it opens (below={self.below})"
            )
        if not is_statistic(self.stat):
            raise Misused(f"rule {self.name}: stat={self.stat!r} is none of mean, median, min, max, p1 … p99")
        if self.within is None and self.at_least != 1:
            raise Misused(f"rule {self.name}: at_least={self.at_least} needs within=, for without a window each event is looked at alone")
        check(f"rule {self.name}: value", self.value, self.of, pl.Float64)
        if self.where is not None:
            check(f"rule {self.name}: where", self.where, self.of, pl.Boolean)


Rule: TypeAlias = Rate | Threshold


def matches(rule: Rule, value: float) -> bool:
    """Whether one thing's value is beyond the opening level (of a Rate: whether it matched)."""
    if isinstance(rule, Rate):
        return value > 0
    return value <= rule.opens_at if rule.below else value >= rule.opens_at


def judge(rule: Rule, level: float, total: int, reported: float | None) -> Phase | None:
    """What a measured level means; `reported` is the furthest level this episode reported, None: no episode runs."""
    if total < rule.at_least:
        return None
    sign = -1 if rule.below else 1
    if reported is None:
        return "opened" if sign * level >= sign * rule.opens_at else None
    if sign * level <= sign * rule.closes_at:
        return "closed"
    if rule.update_step is not None and sign * (level - reported) >= rule.update_step - _STEP_SLACK:
        return "updated"
    return None


@functools.lru_cache(maxsize=1024)
def window_of(rule: Rule) -> int | None:
    """The window's length in µs; None: the rule looks at one event alone."""
    return None if rule.within is None else duration(rule.within)


def is_immediate(rule: Rule, partitions: int) -> bool:
    """Whether the rule need not wait for the watermark: it looks at one event alone, and one partition holds all events of a key.

    Where a key's events lie in several partitions, which comes first is known behind the watermark only.
    """
    one_place = partitions == 1 or (isinstance(rule.per, str) and rule.per == rule.of.key)
    return rule.within is None and one_place


def shape(rule: Rule) -> str:
    """What a rule's remembered state hangs on: levels may change under a running rule, these may not."""
    selected = () if rule.select is None else (rule.select,)
    return "|".join(str(part) for part in (type(rule).__name__, rule.where, rule.value, rule.per, rule.within, rule.stat, *selected))


def _check_common(rule: Rule) -> None:
    if not rule.name:
        raise Misused("a rule needs a name")
    if rule.within is not None and duration(rule.within) <= 0:
        raise Misused(f"rule {rule.name}: within={rule.within!r} must be longer than nothing")
    if rule.at_least < 1:
        raise Misused(f"rule {rule.name}: at_least={rule.at_least} must be at least 1")
    if rule.update_step is not None and not rule.update_step > 0:
        raise Misused(f"rule {rule.name}: update_step={rule.update_step} must be more than 0, or None for no updates")
    if isinstance(rule.per, str) and rule.per not in columns_of(rule.of.model):
        known = ", ".join(columns_of(rule.of.model))
        raise Misused(f"rule {rule.name}: per={rule.per!r} is no field of {rule.of.model.__name__}; it has {known}")
    if isinstance(rule.per, pl.Expr):
        check(f"rule {rule.name}: per", rule.per, rule.of, None)
