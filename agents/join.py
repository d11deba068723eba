"""`Join`: two things of the same key close in time, in either order; its activation carries both."""

from collections import deque
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, cast

from headwater.agents.machine import Entry, Fired, Machine, mind
from headwater.agents.tally import Tally, freeze, hit, lapse, thaw
from headwater.agents.when import Expression, Input, When, check_rule, check_whens, counted, shape_of
from headwater.lineage.duration import duration
from headwater.lineage.select import Select

_SECOND = 1_000_000


@dataclass(frozen=True, eq=False)
class Join:
    """Two events of one key close in time: `Join("seen twice", When(doors), When(badges), within="5s", per="who")`.

    within       how far apart at most, either way
    left, right  which events; an event meets the newest earlier one of the other side, so each is the later of one match at most
    per          the field (or expression) that keys each side which says none itself
    at_least     matches that must be in the window before an episode opens
    update_step  how many more matches than reported are reported again; None: never
    select, version, cool_down as for Rate

    The episode closes when the last match is `within` past. An activation names both events of the newest match first, then those before;
    `value` is the seconds between the two, `count` the matches in the window, `total` their events; at the close all are 0.
    """

    name: str
    left: When
    right: When
    _: KW_ONLY
    within: str
    per: str | Expression | None = None
    at_least: int = 1
    update_step: float | None = None
    version: str = "1"
    select: Select | None = None
    cool_down: str | None = None

    def __post_init__(self) -> None:
        check_rule(self.name, self.cool_down, self.update_step, self.at_least, within=self.within)
        check_whens(self.name, self.per, left=self.left, right=self.right)

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return counted(self.left, self.per, self.select), counted(self.right, self.per, self.select)

    @property
    def shape(self) -> str:
        return shape_of("Join", self.inputs, self.within)

    def machine(self) -> Machine:
        return _Meeting(self, duration(self.within))


class _Sides(Tally):
    """sides  the newest event of either side"""

    sides: list[Entry | None]


class _Meeting:
    def __init__(self, rule: Join, within: int) -> None:
        self.rule, self.within = rule, within

    def begin(self) -> _Sides:
        return cast(_Sides, {**mind(), "matches": deque(), "sides": [None, None]})

    def take(self, known: _Sides, stream: int, entry: Entry) -> Fired | None:
        sides = known["sides"]
        other, sides[stream] = sides[1 - stream], entry
        if other is None or entry.time - other.time > self.within or other[:4] == entry[:4]:
            return None
        return hit(known, (entry, other), self.within, self.rule, (entry.time - other.time) / _SECOND)

    def due(self, known: _Sides) -> int | None:
        moments = [known["matches"][-1][0].time] if known["matches"] else []
        seen = [entry.time for entry in known["sides"] if entry is not None]
        moments += [max(seen)] if seen else []
        return min(moments) + self.within if moments else None

    def expire(self, known: _Sides, moment: int) -> Fired | None:
        known["sides"] = [entry if entry is not None and entry.time + self.within > moment else None for entry in known["sides"]]
        return lapse(known, self.within, moment)

    def is_empty(self, known: _Sides) -> bool:
        return not known["matches"] and known["sides"] == [None, None]

    def freeze(self, known: _Sides) -> dict[str, Any]:
        return {**freeze(known), "sides": [None if entry is None else tuple(entry) for entry in known["sides"]]}

    def thaw(self, saved: dict[str, Any]) -> _Sides:
        return cast(_Sides, {**thaw(saved), "sides": [None if one is None else Entry(*one) for one in saved["sides"]]})
