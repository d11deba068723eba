"""`Change`: a level that moved: what was measured lately against what was measured before."""

from collections import deque
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Literal, cast

from headwater.agents.anomaly import Side
from headwater.agents.judge import judge
from headwater.agents.machine import Entry, Fired, Machine, Mind, frozen, mind, thawed
from headwater.agents.season import finite
from headwater.agents.when import Expression, Input, check_input, check_levels, check_rule, length_of, shape_of
from headwater.agents.window import Pile
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.select import Select
from headwater.lineage.topic import Topic


@dataclass(frozen=True, eq=False)
class Change:
    """The last while against the while before it: `Change("surge", of=meters, value=pl.col("kw"), within="10m", against="1h", opens_at=5)`.

    value        a polars expression; events where it is null (or not finite) say nothing. Every event counts, not each thing once
    where        which events count at all
    within       the last while, (t − within, t];  against  the while before it, (t − within − against, t − within]; None: as long
    stat         mean or median of either
    relative     measure the change as a share of the former level (0.5: half as much again) instead of in units of the value
    side         which changes count: those upwards (`above`), downwards (`below`), or both
    opens_at     change from which an episode opens;  closes_at  change down to which it closes
    at_least     values there must be in either while
    update_step  how much further than reported is reported again; None: never
    of, per, select, version, cool_down as for Rate

    `value` of the activation is the change with its sign, `count` the values in the last while, `total` those in both; it names the
    events of the last while. The episode closes at the latest when the last while has emptied; then `value` is the last measured.
    """

    name: str
    _: KW_ONLY
    of: Topic[Any]
    value: Expression
    within: str
    opens_at: float
    closes_at: float
    against: str | None = None
    per: str | Expression | None = None
    where: Expression | None = None
    stat: Literal["mean", "median"] = "mean"
    relative: bool = False
    side: Side = "both"
    at_least: int = 1
    update_step: float | None = None
    version: str = "1"
    select: Select | None = None
    cool_down: str | None = None

    def __post_init__(self) -> None:
        check_rule(self.name, self.cool_down, self.update_step, self.at_least, within=self.within, against=self.against)
        check_levels(self.name, self.opens_at, self.closes_at)
        if self.stat not in ("mean", "median"):
            raise Misused(f"rule {self.name}: stat={self.stat!r} is neither mean nor median")
        if self.side not in ("above", "below", "both"):
            raise Misused(f"rule {self.name}: side={self.side!r} is none of above, below, both")
        check_input(self.name, self.inputs[0])

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(self.of, self.where, self.value, self.per, self.select),)

    @property
    def below(self) -> bool:
        """Levels are counted outwards from no change, on whichever side."""
        return False

    @property
    def shape(self) -> str:
        return shape_of("Change", self.inputs, self.within, self.against, self.stat, self.relative, self.side)

    def machine(self) -> Machine:
        return _Moving(self, duration(self.within), length_of(self.name, "against", self.against or self.within))


class _Whiles(Mind):
    """recent, former  the events of either while, oldest first;  moved  the last measured change, with its sign"""

    recent: deque[Entry]
    former: deque[Entry]
    moved: float
    piles: tuple[Pile, Pile]


class _Moving:
    def __init__(self, rule: Change, within: int, against: int) -> None:
        self.rule, self.within, self.against = rule, within, against

    def begin(self) -> _Whiles:
        return self._filled({**mind(), "recent": deque(), "former": deque(), "moved": 0.0})

    def _filled(self, known: dict[str, Any]) -> _Whiles:
        piles = Pile(self.rule.stat), Pile(self.rule.stat)
        for pile, entries in zip(piles, (known["recent"], known["former"]), strict=True):
            for entry in entries:
                pile.add(entry.value)
        return cast(_Whiles, {**known, "piles": piles})

    def take(self, known: _Whiles, stream: int, entry: Entry) -> Fired | None:
        recent, former, (lately, before) = known["recent"], known["former"], known["piles"]
        recent.append(entry)
        lately.add(entry.value)
        start = entry.time - self.within
        while recent[0].time <= start:
            leaving = recent.popleft()
            former.append(leaving)
            lately.remove(leaving.value)
            before.add(leaving.value)
        while former and former[0].time <= start - self.against:
            before.remove(former.popleft().value)
        if min(len(recent), len(former)) < self.rule.at_least or not self._measured(known):
            return None
        phase = judge(self.rule, known)
        if phase is None:
            return None
        return Fired(phase, list(reversed(recent)), len(recent), len(recent) + len(former), known["moved"])

    def _measured(self, known: _Whiles) -> bool:
        """Measure the change; False: there is nothing it could be a share of."""
        lately, before = (pile.measure() for pile in known["piles"])
        if self.rule.relative and before == 0:
            return False
        by = finite(lately - before)
        moved = known["moved"] = finite(by / abs(before)) if self.rule.relative else by
        known["level"] = abs(moved) if self.rule.side == "both" else moved if self.rule.side == "above" else -moved
        return True

    def due(self, known: _Whiles) -> int | None:
        """With an episode the end of the last while; else when nothing is left in either."""
        if not known["recent"]:
            return None
        return known["recent"][-1].time + self.within + (0 if known["episode"] else self.against)

    def expire(self, known: _Whiles, moment: int) -> Fired | None:
        if known["episode"]:
            return Fired("closed", value=known["moved"])
        for pile, entries in zip(known["piles"], (known["recent"], known["former"]), strict=True):
            entries.clear()
            pile.clear()
        return None

    def is_empty(self, known: _Whiles) -> bool:
        return not known["recent"]

    def freeze(self, known: _Whiles) -> dict[str, Any]:
        return {**known, "recent": frozen(known["recent"]), "former": frozen(known["former"]), "piles": None}

    def thaw(self, saved: dict[str, Any]) -> _Whiles:
        return self._filled({**saved, "recent": deque(thawed(saved["recent"])), "former": deque(thawed(saved["former"]))})
