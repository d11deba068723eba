"""`Heartbeat`: a key that spoke before is silent for too long. It fires without any further event of the key."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, cast

from headwater.agents.machine import Entry, Fired, Machine, Mind, mind
from headwater.agents.order import NEVER
from headwater.agents.when import ONE, Expression, Input, check_input, check_rule, shape_of
from headwater.lineage.duration import duration
from headwater.lineage.select import Select
from headwater.lineage.topic import Topic

_SECOND = 1_000_000


@dataclass(frozen=True, eq=False)
class Heartbeat:
    """A missing heartbeat: `Heartbeat("gauge silent", of=readings, per="gauge", every="15m")`.

    every         a key that has spoken is silent if nothing comes for longer than this; the episode closes when it speaks again
    where         which events count as beats; None: all
    closes_after  so long after its opening the episode closes though it stays silent, and the key is forgotten; None: it waits for ever
    of, per, select, version, cool_down as for Rate

    `value` is the seconds of silence (at the opening so far, at the close in all), `count` the beats missed in it, `total` those heard
    since the silence before. The activation names the last event before the silence; at the close the one that ended it.
    """

    name: str
    _: KW_ONLY
    of: Topic[Any]
    every: str
    per: str | Expression | None = None
    where: Expression | None = None
    closes_after: str | None = "1d"
    version: str = "1"
    select: Select | None = None
    cool_down: str | None = None

    def __post_init__(self) -> None:
        check_rule(self.name, self.cool_down, every=self.every, closes_after=self.closes_after)
        check_input(self.name, self.inputs[0]._replace(value=None))

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(self.of, self.where, ONE, self.per, self.select),)

    @property
    def shape(self) -> str:
        return shape_of("Heartbeat", self.inputs)

    def machine(self) -> Machine:
        return _Listening(duration(self.every), None if self.closes_after is None else duration(self.closes_after))


class _Pulse(Mind):
    """last  the newest beat;  beats  heard since the silence before;  since  when the episode opened"""

    last: Entry | None
    beats: int
    since: int


class _Listening:
    def __init__(self, every: int, closes_after: int | None) -> None:
        self.every, self.closes_after = every, closes_after

    def begin(self) -> _Pulse:
        return cast(_Pulse, {**mind(), "last": None, "beats": 0, "since": NEVER})

    def take(self, known: _Pulse, stream: int, entry: Entry) -> Fired | None:
        fired = self._fired(known, "closed", entry.time, (entry,)) if known["episode"] else None
        known["beats"] = 1 if fired else known["beats"] + 1
        known["last"] = entry
        return fired

    def due(self, known: _Pulse) -> int | None:
        last = known["last"]
        if last is None:
            return None
        if not known["episode"]:
            return max(last.time + self.every, known["cool"])
        return None if self.closes_after is None else known["since"] + self.closes_after

    def expire(self, known: _Pulse, moment: int) -> Fired | None:
        last = known["last"]
        if known["episode"]:
            fired = self._fired(known, "closed", moment, ())
            known["last"], known["beats"] = None, 0
            return fired
        known["since"] = moment
        return self._fired(known, "opened", moment, () if last is None else (last,))

    def _fired(self, known: _Pulse, phase: Any, now: int, by: tuple[Entry, ...]) -> Fired:
        silence = now - (now if known["last"] is None else known["last"].time)
        known["level"] = silence / _SECOND
        return Fired(phase, by, silence // self.every, known["beats"])

    def is_empty(self, known: _Pulse) -> bool:
        return known["last"] is None and not known["episode"]

    def freeze(self, known: _Pulse) -> dict[str, Any]:
        return {**known, "last": None if known["last"] is None else tuple(known["last"])}

    def thaw(self, saved: dict[str, Any]) -> _Pulse:
        return cast(_Pulse, {**saved, "last": None if saved["last"] is None else Entry(*saved["last"])})
