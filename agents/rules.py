"""Trigger rules as an application declares them, frozen data. Here `Rate` and `Threshold`; `docs/rules.md` tells of all.

An episode opens when the measured level reaches `opens_at`, is updated when it worsens by another `update_step`, and closes when
the level has come back to `closes_at`: the gap between the two keeps one disruption from being many.
"""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import polars as pl

from headwater.agents.columns import check
from headwater.agents.machine import Machine
from headwater.agents.machine import Rule as Rule
from headwater.agents.when import Expression, Input, check_input, check_levels, check_numbers, check_rule, whole
from headwater.agents.window import SHARE, by_event, by_thing, is_statistic
from headwater.agents.windowed import Alone, Windowed
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.select import Select
from headwater.lineage.topic import Topic


@dataclass(frozen=True, eq=False)
class Rate:
    """The share of things, each by its newest event in the window, that match.

    of           the topic; its key says what one thing is (no key: each event is a thing)
    where        a polars expression over the model's fields and the facts (a struct column per enricher:
                 `pl.col("airline").struct.field("name")`); it must look at each row alone
    per          the field (or expression) whose value keys the episodes; None: one episode for all, keyed "all"
    within       length of the sliding window of event time, (t − within, t]
    each         what counts once in it: "thing", by its newest event, or "event". None: events where `per` is the topic's key, for a
                 window would hold one thing there; else things
    opens_at     share from which an episode opens;  closes_at  share down to which it closes
    at_least     things that must be in the window for its share to be judged
    update_step  how much further the share must rise over the highest reported to report again; None: never
    select       which events it sees at all, by their headers; None: every event of the topic
    cool_down    after an episode closed none opens for so long; what would have opened one meanwhile does not. None: at once

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
    cool_down: str | None = None
    each: Literal["thing", "event"] | None = None

    def __post_init__(self) -> None:
        check_rule(self.name, self.cool_down, self.update_step, self.at_least, within=self.within)
        check_input(self.name, self.inputs[0]._replace(where=None))
        check_numbers(self.name, opens_at=self.opens_at, closes_at=self.closes_at)
        if not 0 <= self.closes_at < self.opens_at <= 1:
            raise Misused(
                f"rule {self.name}: a share opens at opens_at={self.opens_at} and closes at closes_at={self.closes_at}; "
                "write 0 <= closes_at < opens_at <= 1"
            )
        check_each(self)
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

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(self.of, self.where, None, self.per, self.select),)

    @property
    def shape(self) -> str:
        return _shape(self)

    def machine(self) -> Machine:
        return Windowed(self, duration(self.within), by_event if counts_events(self) else by_thing)


@dataclass(frozen=True, eq=False)
class Threshold:
    """A number that crosses a level: of each event alone, or a statistic over a sliding window.

    value        a polars expression; events where it is null (or not finite) say nothing
    where        which events count at all
    within       None: each event alone, not waiting for the watermark where one partition holds all events of a key.
                 Else: the statistic of the newest counting event of each thing (or of all events: `each`) in the window (t − within, t]
    stat         mean, median, min, max, or a percentile p1 … p99 (nearest rank)
    below        the episode opens when the level falls to `opens_at` and closes when it rises to `closes_at`
    update_step  how much further (downwards, if `below`) the level must go to report again; None: never

    `of`, `per`, `each`, `at_least`, `select`, `version` as for Rate. In its activations `total` things were in the window, `count` of them
    at or beyond `opens_at`; where a window emptied, both are 0 and `value` is the last measured.
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
    cool_down: str | None = None
    each: Literal["thing", "event"] | None = None

    def __post_init__(self) -> None:
        check_rule(self.name, self.cool_down, self.update_step, self.at_least, within=self.within)
        check_levels(self.name, self.opens_at, self.closes_at, self.below)
        if not is_statistic(self.stat):
            raise Misused(f"rule {self.name}: stat={self.stat!r} is none of mean, median, min, max, p1 … p99")
        check_each(self)
        if self.within is None and self.at_least != 1:
            raise Misused(f"rule {self.name}: at_least={self.at_least} needs within=, for without a window each event is looked at alone")
        check_input(self.name, self.inputs[0])

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(self.of, self.where, self.value, self.per, self.select),)

    @property
    def shape(self) -> str:
        return _shape(self)

    def machine(self) -> Machine:
        if self.within is None:
            return Alone(self, duration(self.of.lateness))
        return Windowed(self, duration(self.within), by_event if counts_events(self) else by_thing)


Measuring: TypeAlias = Rate | Threshold
"""The rules whose levels are measured over one topic's window, or event by event."""


def window_of(rule: Measuring) -> int | None:
    """The window's length in µs; None: the rule looks at one event alone."""
    return None if rule.within is None else duration(rule.within)


def counts_events(rule: Measuring) -> bool:
    """Whether each event of a window counts, instead of each thing once."""
    alone = isinstance(rule.per, str) and rule.per == rule.of.key
    return rule.within is not None and (rule.each == "event" or (rule.each is None and alone))


def check_each(rule: Measuring) -> None:
    """Raises Misused."""
    if rule.each not in (None, "thing", "event"):
        raise Misused(f"rule {rule.name}: each={rule.each!r} is neither thing nor event")
    if rule.each is not None and rule.within is None:
        raise Misused(f"rule {rule.name}: each={rule.each!r} needs within=, for without a window each event is looked at alone")


def is_immediate(rule: Rule, partitions: int) -> bool:
    """Whether the rule need not wait for the watermark: it looks at one event alone, and one partition holds all events of a key.

    Where a key's events lie in several partitions, which comes first is known behind the watermark only.
    """
    if not isinstance(rule, Threshold) or rule.within is not None:
        return False
    return partitions == 1 or (isinstance(rule.per, str) and rule.per == rule.of.key)


def _shape(rule: Measuring) -> str:
    selected = () if rule.select is None else (rule.select,)
    events = ("each event",) if counts_events(rule) else ()
    parts = (type(rule).__name__, rule.where, rule.value, rule.per, rule.within, rule.stat, *selected, *events)
    return whole("|".join(map(str, parts)), rule.inputs)
