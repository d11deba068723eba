"""`Anomaly`: a value far from what is usual for its key at this hour or on this day: a robust z-score."""

import zoneinfo
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Literal, cast

from headwater.agents.judge import judge
from headwater.agents.machine import Entry, Fired, Machine, Mind, mind
from headwater.agents.order import NEVER
from headwater.agents.season import SEASONS, History, score, season_of
from headwater.agents.when import Expression, Input, check_input, check_levels, check_rule, shape_of
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.select import Select
from headwater.lineage.topic import Topic

Side = Literal["above", "below", "both"]


@dataclass(frozen=True, eq=False)
class Anomaly:
    """A value many deviations from the median of those before it: `Anomaly("odd draught", of=meters, value=pl.col("kw"), per="meter")`.

    value         a polars expression; events where it is null (or not finite) say nothing
    where         which events count at all
    season        compare with values of the same "hour of day", "day of week" or "hour of week" only, in the time of `zone`; None: with all
    history       how many values of key and season it is compared with, or from how long before ("30d")
    at_least      values there must be to compare with
    opens_at      deviations from which an episode opens;  closes_at  deviations down to which it closes
    side          which values are odd: those above the median, below it, or both
    least         the smallest deviation reckoned with, in units of the value, so that a steady key does not cry at every stir
    update_step   how many deviations further than reported is reported again; None: never
    forgets       a key without values for so long is forgotten, its episode closed
    of, per, select, version, cool_down as for Rate

    A deviation is 1.4826 median absolute deviations: one standard deviation of normal values, unmoved by outliers. What was odd joins the
    history all the same, so what stays becomes usual. Where no deviation was ever seen, any other value scores a million.
    `value` of the activation is the score with its sign, `count` the values of this episode beyond `opens_at`, `total` those compared with.
    """

    name: str
    _: KW_ONLY
    of: Topic[Any]
    value: Expression
    opens_at: float = 3.5
    closes_at: float = 2.0
    per: str | Expression | None = None
    where: Expression | None = None
    season: Literal["hour of day", "day of week", "hour of week"] | None = None
    zone: str = "UTC"
    history: int | str = 200
    at_least: int = 20
    side: Side = "both"
    least: float = 0.0
    update_step: float | None = None
    forgets: str = "30d"
    version: str = "1"
    select: Select | None = None
    cool_down: str | None = None

    def __post_init__(self) -> None:
        span = self.history if isinstance(self.history, str) else None
        check_rule(self.name, self.cool_down, self.update_step, self.at_least, history=span, forgets=self.forgets)
        check_levels(self.name, self.opens_at, self.closes_at)
        if self.closes_at < 0:
            raise Misused(f"rule {self.name}: closes_at={self.closes_at} deviations must be 0 or more")
        if isinstance(self.history, int) and self.history < self.at_least:
            raise Misused(f"rule {self.name}: history={self.history} never holds the at_least={self.at_least} values to compare with")
        if self.season is not None and self.season not in SEASONS:
            raise Misused(f"rule {self.name}: season={self.season!r} is none of {', '.join(SEASONS)}; or None")
        if self.side not in ("above", "below", "both"):
            raise Misused(f"rule {self.name}: side={self.side!r} is none of above, below, both")
        if not self.least >= 0:
            raise Misused(f"rule {self.name}: least={self.least} must be 0 or more")
        try:
            zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise Misused(f"rule {self.name}: zone={self.zone!r} is no time zone; write one such as 'Europe/Oslo'") from None
        check_input(self.name, self.inputs[0])

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(self.of, self.where, self.value, self.per, self.select),)

    @property
    def below(self) -> bool:
        """Levels are counted outwards from the median, on whichever side."""
        return False

    @property
    def shape(self) -> str:
        return shape_of("Anomaly", self.inputs, self.season, self.zone, self.side)

    def machine(self) -> Machine:
        return _Comparing(self)


class _Usual(Mind):
    """seasons  season → the values before, as (time, value);  beyond  values of this episode past the opening level;  newest  event time"""

    seasons: dict[str, History]
    beyond: int
    newest: int


class _Comparing:
    def __init__(self, rule: Anomaly) -> None:
        self.rule, self.season = rule, season_of(rule.season, rule.zone)
        self.most = rule.history if isinstance(rule.history, int) else None
        self.span = duration(rule.history) if isinstance(rule.history, str) else None
        self.forgets = duration(rule.forgets)

    def begin(self) -> _Usual:
        return cast(_Usual, {**mind(), "seasons": {}, "beyond": 0, "newest": NEVER})

    def take(self, known: _Usual, stream: int, entry: Entry) -> Fired | None:
        history = known["seasons"].setdefault(self.season(entry.time), History())
        history.trim(self.most, None if self.span is None else entry.time - self.span)
        total, phase, far = len(history.values), None, 0.0
        known["newest"] = entry.time
        if total >= self.rule.at_least:
            far = score(history.ranked, entry.value, self.rule.least)
            known["level"] = _outwards(far, self.rule.side)
            if not known["episode"]:
                known["beyond"] = 0
            known["beyond"] += known["level"] >= self.rule.opens_at
            phase = judge(self.rule, known)
        history.add(entry.time, entry.value)
        return None if phase is None else Fired(phase, [entry], known["beyond"], total, far)

    def due(self, known: _Usual) -> int | None:
        return known["newest"] + self.forgets if known["seasons"] else None

    def expire(self, known: _Usual, moment: int) -> Fired | None:
        known["seasons"], known["level"] = {}, 0.0
        return Fired("closed") if known["episode"] else None

    def is_empty(self, known: _Usual) -> bool:
        return not known["seasons"]

    def freeze(self, known: _Usual) -> dict[str, Any]:
        return {**known, "seasons": {season: list(history.values) for season, history in known["seasons"].items()}}

    def thaw(self, saved: dict[str, Any]) -> _Usual:
        return cast(_Usual, {**saved, "seasons": {season: History(values) for season, values in saved["seasons"].items()}})


def _outwards(score: float, side: Side) -> float:
    return abs(score) if side == "both" else score if side == "above" else -score
