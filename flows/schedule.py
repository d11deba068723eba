"""Schedules: events at the times that a cron expression names, each once, whatever restarts."""

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from itertools import dropwhile
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from headwater.flows.foreign import check, converted
from headwater.lineage.duration import format_time, from_datetime, to_datetime
from headwater.lineage.errors import Misused
from headwater.lineage.event import Event
from headwater.lineage.select import NORMAL
from headwater.lineage.topic import Topic

NAMESPACE = uuid.UUID("5e0bb3f4-5a55-5c6e-8f07-3f4f2f1f9b52")
MOST = 1000
"""Missed firings that are made up for at most, the newest."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """An event at each time that a cron expression names: `Schedule("0 6 * * 1-5", into=ticks, data={"kind": "morning"})`.

    cron    minute, hour, day of month, month, day of week, as in Debian's cron: names, ranges, steps, `L`, `#`
    zone    the IANA time zone it is read in. A time that a clock change skips fires right after it; one that comes twice fires once
    data    the topic's data, or a pure function of the due time (an aware datetime in the zone)
    missed  what came due while nothing ran: `skip`, `latest` (once for all), `all` (the newest 1,000)
    name    names it in ids and origin; None: the topic's name. Another name is another schedule
    """

    cron: str
    _: KW_ONLY
    into: Topic[Any]
    data: Mapping[str, Any] | Callable[[Any], Any] = field(default_factory=dict)
    zone: str = "UTC"
    missed: Literal["skip", "latest", "all"] | str = "latest"
    name: str = ""
    priority: str = NORMAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or getattr(self.into, "name", ""))
        what = f"schedule {self.name}"
        check(what, self.into, None, self.priority)
        try:
            tz = ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise Misused(f"{what}: zone={self.zone!r} is no time zone; write one such as Europe/Zurich") from None
        try:
            CronSim(self.cron, to_datetime(0).astimezone(tz))
        except CronSimError as error:
            raise Misused(f"{what}: {self.cron!r} is no cron expression: {error}; write minute, hour, day, month, weekday") from None
        if self.missed not in ("skip", "latest", "all"):
            raise Misused(f"{what}: missed={self.missed!r} is none of skip, latest, all")

    @property
    def origin(self) -> str:
        return f"schedule/{self.name}"

    def next(self, after: int) -> int | None:
        """The first due time (µs) later than `after`; None: never again."""
        due = next(self._times(after), None)
        return None if due is None else from_datetime(due)

    def due(self, after: int, until: int) -> tuple[list[int], int]:
        """The due times in (after, until], the newest thousand, and how many there are before those."""
        newest: deque[int] = deque(maxlen=MOST)
        many = 0
        for moment in self._times(after):
            if (at := from_datetime(moment)) > until:
                break
            newest.append(at)
            many += 1
        return list(newest), many - len(newest)

    def event(self, due: int) -> Event:
        """The event of one due time: its id follows from name and time. Raises Invalid."""
        moment = to_datetime(due).astimezone(ZoneInfo(self.zone))
        data = converted(self.data, self.into) if isinstance(self.data, Mapping) else converted(moment, self.into, None, self.data)
        id = str(uuid.uuid5(NAMESPACE, f"{self.name}\x1f{format_time(due)}"))
        return Event(id=id, source=f"headwater/{self.origin}", type=self.into.name, time=due, data=data or b"null")

    def _times(self, after: int) -> Iterator[datetime]:
        """Due times later than `after`. Begun in an hour that comes twice, the expression first tells those of the hour before."""
        times = CronSim(self.cron, to_datetime(after).astimezone(ZoneInfo(self.zone)))
        return dropwhile(lambda moment: from_datetime(moment) <= after, times)
