"""`Sequence`: one thing after another, of the same key, within a window."""

from collections import deque
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, cast

from headwater.agents.machine import Entry, Fired, Machine, frozen, mind, thawed
from headwater.agents.tally import Match, Tally, freeze, hit, lapse, thaw
from headwater.agents.when import Expression, Input, When, check_rule, check_whens, counted, shape_of
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.select import Select

_SECOND = 1_000_000


@dataclass(frozen=True, eq=False, init=False)
class Sequence:
    """Two or more steps one after the other, of one key, the last no later than `within` after the first.

    steps        `Sequence("stolen card", When(declined), When(approved), within="10m", per="card")`; two steps may look at one topic
    unless       an event between first and last that makes it not count: what was begun begins anew after it
    per          the field (or expression) that keys each step which says none itself
    at_least     matches that must be in the window before an episode opens
    update_step  how many more matches than reported are reported again; None: never
    select, version, cool_down as for Rate

    Events come in event-time order, ties by id. A match uses up all that came before it. Of several possible beginnings the latest counts.
    The episode closes when the last match is `within` past. An activation names the events of the newest match first;
    `value` is the seconds from its first to its last step, `count` the matches in the window, `total` their events; at the close all are 0.
    """

    name: str
    steps: tuple[When, ...]
    _: KW_ONLY
    within: str
    unless: When | None = None
    per: str | Expression | None = None
    at_least: int = 1
    update_step: float | None = None
    version: str = "1"
    select: Select | None = None
    cool_down: str | None = None

    def __init__(
        self, name: str, *steps: When, within: str, unless: When | None = None, per: str | Expression | None = None, at_least: int = 1,
        update_step: float | None = None, version: str = "1", select: Select | None = None, cool_down: str | None = None,
    ) -> None:  # fmt: skip
        given = {**locals()}
        del given["self"]
        for field, value in given.items():
            object.__setattr__(self, field, value)
        check_rule(name, cool_down, update_step, at_least, within=within)
        if len(steps) < 2:
            raise Misused(f"rule {name}: {len(steps)} steps; a sequence has two or more: Sequence({name!r}, When(…), When(…), within=…)")
        check_whens(name, per, **{f"step {n}": step for n, step in enumerate(steps, 1)})
        if unless is not None:
            check_whens(name, per, unless=unless)

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """What cancels comes first, then the last step before those that lead to it: an event that fits several ends what it can."""
        whens = (*(() if self.unless is None else (self.unless,)), *reversed(self.steps))
        return tuple(counted(when, self.per, self.select) for when in whens)

    @property
    def shape(self) -> str:
        return shape_of("Sequence", self.inputs, self.within, self.unless is not None)

    def machine(self) -> Machine:
        return _Following(self, len(self.steps), duration(self.within), self.unless is not None)


class _Chains(Tally):
    """What has begun.

    chains  step → the events up to it, oldest first, of the latest beginning;  used  (partition, offset) of the last match's end
    """

    chains: list[list[Entry]]
    used: tuple[int, int]


class _Following:
    def __init__(self, rule: Sequence, many: int, within: int, cancels: bool) -> None:
        self.rule, self.many, self.within, self.cancels = rule, many, within, cancels

    def begin(self) -> _Chains:
        return cast(_Chains, {**mind(), "matches": deque(), "chains": [[] for _ in range(self.many - 1)], "used": (-1, -1)})

    def take(self, known: _Chains, stream: int, entry: Entry) -> Fired | None:
        if self.cancels and stream == 0:
            self._begin_anew(known)
            return None
        chains, step = known["chains"], self.many - 1 - (stream - self.cancels)
        if known["used"] == (entry.partition, entry.offset):
            return None
        if step == 0:
            chains[0] = [entry]
            return None
        before = chains[step - 1]
        if not before or entry.time - before[0].time > self.within or before[-1][:4] == entry[:4]:
            return None
        if step < self.many - 1:
            chains[step] = [*before, entry]
            return None
        match: Match = (entry, *reversed(before))
        self._begin_anew(known)
        known["used"] = entry.partition, entry.offset
        return hit(known, match, self.within, self.rule, (entry.time - match[-1].time) / _SECOND)

    def _begin_anew(self, known: _Chains) -> None:
        known["chains"] = [[] for _ in range(self.many - 1)]

    def due(self, known: _Chains) -> int | None:
        moments = [known["matches"][-1][0].time] if known["matches"] else []
        begun = [chain[0].time for chain in known["chains"] if chain]
        moments += [max(begun)] if begun else []
        return min(moments) + self.within if moments else None

    def expire(self, known: _Chains, moment: int) -> Fired | None:
        if not any(chain and chain[0].time + self.within > moment for chain in known["chains"]):
            self._begin_anew(known)
        return lapse(known, self.within, moment)

    def is_empty(self, known: _Chains) -> bool:
        return not known["matches"] and not any(known["chains"])

    def freeze(self, known: _Chains) -> dict[str, Any]:
        return {**freeze(known), "chains": [frozen(chain) for chain in known["chains"]]}

    def thaw(self, saved: dict[str, Any]) -> _Chains:
        return cast(_Chains, {**thaw(saved), "chains": [thawed(chain) for chain in saved["chains"]]})
