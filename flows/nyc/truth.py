"""What is true of 2013, from the data alone: which airport-days were disrupted, which ordinary; and how rules and choices measure up.

The unit is the airport-day, New York time, a flight belonging to the day it was scheduled for.
"""

import functools
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from headwater.agents.activation import Activation
from headwater.flows.nyc import data
from headwater.flows.nyc.situations import SITUATIONS as SITUATIONS
from headwater.flows.nyc.situations import Response as Response
from headwater.flows.nyc.situations import Situation as Situation
from headwater.lineage.duration import to_datetime

DISRUPTED_SHARE = 0.2
ORDINARY_CANCELLED = 10
ORDINARY_DELAY = 40.0
QUIET, STORM = date(2013, 2, 7), (date(2013, 2, 8), date(2013, 2, 9))

Kind = Literal["disrupted", "ordinary", "neither"]


class AirportDay(NamedTuple):
    """One airport on one New York day."""

    day: date
    airport: str


@functools.lru_cache(maxsize=1)
def airport_days() -> pl.DataFrame:
    """`date, origin, due, cancelled, share, kind`, a row per airport-day of 2013 with flights.

    disrupted   at least a fifth of the flights due were cancelled
    ordinary    a day on which, over all three airports, fewer than ten flights were cancelled and the 90th percentile of departure
                delays was under 40 minutes, unless disrupted
    """
    gone = pl.col("dep_time").is_null()
    rows = data.flights()
    days = rows.group_by("date").agg(all_cancelled=gone.sum(), late=pl.col("dep_delay").quantile(0.9, "linear"))
    ordinary = (pl.col("all_cancelled") < ORDINARY_CANCELLED) & (pl.col("late") < ORDINARY_DELAY)
    share = pl.col("cancelled") / pl.col("due")
    kind = pl.when(share >= DISRUPTED_SHARE).then(pl.lit("disrupted")).when(ordinary).then(pl.lit("ordinary")).otherwise(pl.lit("neither"))
    return (
        rows.group_by("date", "origin")
        .agg(due=pl.len(), cancelled=gone.sum())
        .join(days, on="date")
        .select("date", "origin", "due", "cancelled", share=share, kind=kind)
        .sort("date", "origin")
    )


@functools.lru_cache(maxsize=8)
def days_of(kind: Kind) -> frozenset[AirportDay]:
    """The airport-days of a kind."""
    rows = airport_days().filter(pl.col("kind") == kind).select("date", "origin")
    return frozenset(AirportDay(day, airport) for day, airport in rows.iter_rows())


@functools.lru_cache(maxsize=1)
def _due_times() -> Mapping[str, tuple[list[int], list[date]]]:
    """Per airport the scheduled departures (µs), in order, and their days."""
    rows = data.flights().select("origin", "due", "date").sort("due")
    parts = rows.partition_by("origin", as_dict=True).items()
    return {str(airport): (part["due"].to_list(), part["date"].to_list()) for (airport,), part in parts}


def day_of(us: int) -> date:
    """The New York day of an instant."""
    return to_datetime(us).astimezone(ZoneInfo(data.ZONE)).date()


def firings(activations: Iterable[Activation], *, last: date = data.LAST) -> dict[str, frozenset[AirportDay]]:
    """Per rule, the airport-days on which it fired.

    It fires on a day on which an activation was opened or updated, or on which a flight was due while its episode was open. An episode
    without a closing counts as open to the end of `last`, the last day replayed.
    """
    fired: dict[str, set[AirportDay]] = {}
    opened: dict[str, Activation] = {}
    for activation in activations:
        days = fired.setdefault(activation.rule, set())
        if activation.phase == "closed":
            start = opened.pop(activation.episode, None)
            if start is not None:
                days |= _open_days(activation.key, start.at, activation.at, last)
            continue
        days.add(AirportDay(day_of(activation.at), activation.key))
        if activation.phase == "opened":
            opened[activation.episode] = activation
    for start in opened.values():
        fired[start.rule] |= _open_days(start.key, start.at, None, last)
    return {rule: frozenset(days) for rule, days in fired.items()}


def _open_days(airport: str, start: int, end: int | None, last: date) -> set[AirportDay]:
    times, days = _due_times()[airport]
    until = len(times) if end is None else bisect_left(times, end)
    return {AirportDay(day, airport) for day in days[bisect_left(times, start) : until] if day <= last}


@dataclass(frozen=True)
class Month:
    """Airport-days of one month, and on how many of them a rule fired."""

    month: int
    disrupted: int
    disrupted_fired: int
    ordinary: int
    ordinary_fired: int
    neither: int
    neither_fired: int


@dataclass(frozen=True)
class RuleScore:
    """How a rule measured up over the days replayed. Counts, never a ratio of nothing."""

    rule: str
    opened: int
    updated: int
    closed: int
    months: tuple[Month, ...]
    missed: tuple[AirportDay, ...]
    false: tuple[AirportDay, ...]

    def total(self, field: str) -> int:
        """The sum of a field of the months, such as `ordinary_fired`."""
        return sum(int(getattr(month, field)) for month in self.months)


@dataclass(frozen=True)
class Score:
    """What "right" asks of a replay.

    fired_on_quiet_day   airports at which the cancellation rule fired on 7 February, the eve of the blizzard
    opened_in_storm      per airport, the cancellation activations opened on 8 and 9 February
    """

    start: date
    end: date
    rules: tuple[RuleScore, ...]
    fired_on_quiet_day: tuple[str, ...]
    opened_in_storm: Mapping[str, int]

    def rule(self, name: str) -> RuleScore:
        return next(score for score in self.rules if score.rule == name)


def score(
    activations: Sequence[Activation],
    start: date = data.FIRST,
    end: date = data.LAST,
    rules: Sequence[str] = ("cancellations", "delays", "visibility"),
    cancellations: str = "cancellations",
) -> Score:
    """Measure the activations of a replay of the days from `start` to `end` (inclusive) against the data."""
    fired = firings(activations, last=end)
    of_cancellations = [activation for activation in activations if activation.rule == cancellations]
    return Score(
        start,
        end,
        tuple(_score_rule(rule, activations, fired.get(rule, frozenset()), start, end) for rule in rules),
        tuple(sorted(place.airport for place in fired.get(cancellations, frozenset()) if place.day == QUIET)),
        _opened_in_storm(of_cancellations),
    )


def _opened_in_storm(activations: Iterable[Activation]) -> dict[str, int]:
    counts = Counter(a.key for a in activations if a.phase == "opened" and day_of(a.at) in STORM)
    return {airport: counts[airport] for airport in data.AIRPORTS}


def _score_rule(rule: str, activations: Iterable[Activation], fired: frozenset[AirportDay], start: date, end: date) -> RuleScore:
    phases = Counter(activation.phase for activation in activations if activation.rule == rule)
    disrupted, ordinary = (_within(days_of(kind), start, end) for kind in ("disrupted", "ordinary"))
    return RuleScore(
        rule,
        phases["opened"],
        phases["updated"],
        phases["closed"],
        tuple(_month(month, fired, start, end) for month in _months(start, end)),
        tuple(sorted(disrupted - fired)),
        tuple(sorted(ordinary & fired)),
    )


def _month(month: int, fired: frozenset[AirportDay], start: date, end: date) -> Month:
    counts: list[int] = []
    for kind in ("disrupted", "ordinary", "neither"):
        days = {place for place in _within(days_of(kind), start, end) if place.day.month == month}
        counts += [len(days), len(days & fired)]
    return Month(month, *counts)


def _months(start: date, end: date) -> list[int]:
    return sorted({(start + timedelta(days=n)).month for n in range((end - start).days + 1)})


def _within(days: Iterable[AirportDay], start: date, end: date) -> frozenset[AirportDay]:
    return frozenset(place for place in days if start <= place.day <= end)


@dataclass(frozen=True)
class Judged:
    """How choices in situations measure up: names of the situations, by how the choice stood to the procedures."""

    allowed: tuple[str, ...]
    disallowed: tuple[str, ...]
    disallowed_acted: tuple[str, ...]

    @property
    def total(self) -> int:
        return len(self.allowed) + len(self.disallowed)


def judge(answers: Mapping[str, tuple[str, float]], *, act_above: float, held_out: bool | None = None) -> Judged:
    """Measure choices, given as situation name → (response, confidence), of all situations or of one half.

    Raises KeyError if a situation was not answered.
    """
    cases = [case for case in SITUATIONS if held_out is None or case.held_out == held_out]
    right = tuple(case.name for case in cases if answers[case.name][0] in case.allowed)
    wrong = tuple(case.name for case in cases if answers[case.name][0] not in case.allowed)
    return Judged(right, wrong, tuple(name for name in wrong if answers[name][1] >= act_above))
