"""`Absence`: no B within a while of A. It fires without any further event of the key: when event time has passed the deadline."""

from collections import deque
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, cast

from headwater.agents.activation import EVENTS_KEPT
from headwater.agents.judge import grew
from headwater.agents.machine import Entry, Fired, Machine, Mind, frozen, mind, thawed
from headwater.agents.order import NEVER
from headwater.agents.when import Expression, Input, When, check_rule, check_whens, counted, shape_of
from headwater.lineage.duration import duration
from headwater.lineage.select import Select


@dataclass(frozen=True, eq=False)
class Absence:
    """What should have followed did not: `Absence("unpaid", of=When(payments), after=When(orders), within="10m", per="order")`.

    of            what is missed;  after  what it should follow, within this long (exactly `within` later is in time)
    per           the field (or expression) that keys either which says none itself
    closes_after  so long after its opening an episode closes though nothing came; None: it waits for ever
    update_step   how many more unanswered events than reported are reported again; None: never
    select, version, cool_down as for Rate

    One event of `of` answers all of `after` before it, and closes the episode. `value` and `count` are the unanswered events whose time
    is over, `total` those that still have some as well; the activation names the unanswered, newest first; at the close the answer.
    """

    name: str
    _: KW_ONLY
    of: When
    after: When
    within: str
    per: str | Expression | None = None
    closes_after: str | None = "1d"
    update_step: float | None = None
    version: str = "1"
    select: Select | None = None
    cool_down: str | None = None

    def __post_init__(self) -> None:
        check_rule(self.name, self.cool_down, self.update_step, within=self.within, closes_after=self.closes_after)
        check_whens(self.name, self.per, of=self.of, after=self.after)

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The answer first: an event that is both answers what was before it, and waits for an answer itself."""
        return counted(self.of, self.per, self.select), counted(self.after, self.per, self.select)

    @property
    def shape(self) -> str:
        return shape_of("Absence", self.inputs, self.within)

    def machine(self) -> Machine:
        return _Waiting(self, duration(self.within), None if self.closes_after is None else duration(self.closes_after))


class _Unanswered(Mind):
    """waiting  events with time left;  over  the newest of those without, `missing` in all;  since  when the episode opened"""

    waiting: deque[Entry]
    over: deque[Entry]
    missing: int
    since: int


class _Waiting:
    def __init__(self, rule: Absence, within: int, closes_after: int | None) -> None:
        self.rule, self.within, self.closes_after = rule, within, closes_after

    def begin(self) -> _Unanswered:
        own = {"waiting": deque(), "over": deque(maxlen=EVENTS_KEPT), "missing": 0, "since": NEVER}
        return cast(_Unanswered, {**mind(), **own})

    def take(self, known: _Unanswered, stream: int, entry: Entry) -> Fired | None:
        if stream == 1:
            known["waiting"].append(entry)
            return None
        known["waiting"].clear()
        return self._end(known, (entry,))

    def due(self, known: _Unanswered) -> int | None:
        moments = [known["waiting"][0].time + self.within] if known["waiting"] else []
        if known["episode"] and self.closes_after is not None:
            moments.append(known["since"] + self.closes_after)
        if known["missing"] and not known["episode"]:  # held back by the cool-down
            moments.append(known["cool"])
        return min(moments, default=None)

    def expire(self, known: _Unanswered, moment: int) -> Fired | None:
        waiting = known["waiting"]
        if waiting and waiting[0].time + self.within <= moment:
            known["over"].append(waiting.popleft())
            known["missing"] += 1
            known["level"] = known["missing"]
        elif known["episode"]:
            return self._end(known, ())
        if not known["episode"]:
            known["since"] = moment
            return self._fired(known, "opened")
        return self._fired(known, "updated") if grew(known["missing"] - known["reported"], self.rule.update_step) else None

    def _fired(self, known: _Unanswered, phase: Any) -> Fired:
        return Fired(phase, list(reversed(known["over"])), known["missing"], known["missing"] + len(known["waiting"]))

    def _end(self, known: _Unanswered, by: tuple[Entry, ...]) -> Fired | None:
        known["over"].clear()
        known["missing"], known["level"] = 0, 0
        return Fired("closed", by, 0, len(known["waiting"])) if known["episode"] else None

    def is_empty(self, known: _Unanswered) -> bool:
        return not known["waiting"] and not known["missing"] and not known["episode"]

    def freeze(self, known: _Unanswered) -> dict[str, Any]:
        return {**known, "waiting": frozen(known["waiting"]), "over": frozen(known["over"])}

    def thaw(self, saved: dict[str, Any]) -> _Unanswered:
        lists = {"waiting": deque(thawed(saved["waiting"])), "over": deque(thawed(saved["over"]), maxlen=EVENTS_KEPT)}
        return cast(_Unanswered, {**saved, **lists})
