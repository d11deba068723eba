"""Recent: the last events of the same key before this one, as the topic itself holds them."""

import bisect
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headwater.enrichers.enrich import Answer, Known
from headwater.enrichers.row import Row, row_of, value_of
from headwater.lineage.decode import Received
from headwater.lineage.errors import Misused
from headwater.lineage.event import Position

REACH = 2_000
WINDOWS = 4
"""Readers of one partition that stand at different places (flows, what is tried again): a window is kept for so many."""

Read = Callable[[str, int, int, int], Sequence[Received]]
"""(topic, partition, first, until) → the events at the offsets [first, until) that can be decoded. Raises Unavailable."""


class Earlier(NamedTuple):
    """One event: its offset, its row."""

    offset: int
    row: Row


@dataclass
class Window:
    """The offsets [first, next) of a partition, wholly known: their events by key, oldest first."""

    first: int
    next: int
    keys: dict[str, deque[Earlier]] = field(default_factory=dict)
    order: deque[tuple[int, str]] = field(default_factory=deque)

    def add(self, offset: int, key: str, row: Row) -> None:
        """An event at or after `next`."""
        self.keys.setdefault(key, deque()).append(Earlier(offset, row))
        self.order.append((offset, key))

    def reach(self, next: int, first: int, keep: int) -> None:
        """All below `next` is known; what lies before `first` and more than `keep` offsets before the end is forgotten."""
        self.next = max(self.next, next)
        self.first = max(self.first, min(first, self.next - keep))
        while self.order and self.order[0][0] < self.first:
            _, key = self.order.popleft()
            self.keys[key].popleft()
            if not self.keys[key]:
                del self.keys[key]

    def before(self, key: str, offset: int, first: int, many: int) -> list[Earlier]:
        """The last `many` events of a key in [first, offset), newest first."""
        events = list(self.keys.get(key, ()))
        end = bisect.bisect_left(events, offset, key=_offset)
        return [event for event in reversed(events[max(0, end - many) : end]) if event.offset >= first]


class Recent:
    """`Recent(3, by="gauge")`: the rows of the last three events with the same gauge before this one, newest first.

    many   at most so many rows
    by     the field that two events have alike: the topic's key, for events of one key lie in one partition, in order;
           any field where the topic has one partition
    reach  how many offsets before the event are looked at

    "Before" is by offset. So the facts of an event follow from the topic alone, whoever asks, in whatever flow, after a restart, on a
    retry or in a replay: where memory does not reach back far enough the partition is read again (`read`, given by the flows; without
    it only what passed here is known). Bounds: a key heard of less often than once in `reach` offsets has fewer rows; so has an event
    whose predecessors the broker no longer keeps.
    """

    def __init__(self, many: int, *, by: str, reach: int = REACH) -> None:
        if many < 1 or reach < many:
            raise Misused(f"Recent({many}, by={by!r}, reach={reach}): at least 1 row, and a reach of no less than that")
        self.many, self.by, self.reach = many, by, reach
        self.read: Read | None = None
        self._windows: dict[tuple[str, str, int], list[Window]] = {}
        self._lock = threading.Lock()

    @property
    def reads(self) -> str:
        """What it reads, where nothing more exact is known."""
        return f"the last {self.many} by {self.by}"

    def facts(self, model: Any, time: int) -> list[Row]:
        """Raises Misused: what came before an event hangs on its position, which only `facts_of` is told."""
        raise Misused("Recent answers events with their positions only: call facts_of")

    def facts_of(self, received: Sequence[Received]) -> list[Answer]:
        """For each event the rows before it, and the positions they stand at. Raises Unavailable."""
        found: dict[Position, Answer] = {}
        groups: dict[tuple[str, str, int], list[Received]] = {}
        for one in received:
            groups.setdefault(one.position[:3], []).append(one)
        with self._lock:
            for place, group in groups.items():
                window = self._window(place, sorted(group, key=_place))
                found |= {one.position: self._answer(window, one) for one in group}
        return [found[one.position] for one in received]

    def _answer(self, window: Window, one: Received) -> Answer:
        offset = one.position.offset
        try:
            earlier = window.before(str(value_of(one.model, self.by)), offset, offset - self.reach, self.many)
        except Exception as error:
            return error
        positions = [one.position._replace(offset=event.offset).short for event in earlier]
        return Known([event.row for event in earlier], positions)

    def _window(self, place: tuple[str, str, int], group: Sequence[Received]) -> Window:
        """A window that knows all that these events, in order, ask for."""
        start, last = group[0].position.offset, group[-1].position.offset
        first = max(0, start - self.reach)
        windows = self._windows.setdefault(place, [])
        fit = [window for window in windows if window.first <= first and start <= window.next + self.reach]
        window = max(fit, key=_next, default=None) or Window(first, first)
        self._advance(place, window, group, first, last + 1)
        self._windows[place] = [*(each for each in windows if each is not window), window][-WINDOWS:]
        return window

    def _advance(self, place: tuple[str, str, int], window: Window, group: Sequence[Received], first: int, until: int) -> None:
        """Take what lies between the window's end and `until`: from the events at hand if none is missing there, else from the topic."""
        new = [one for one in group if one.position.offset >= window.next]
        if self.read is not None and len(new) < until - window.next:
            new = list(self.read(place[1], place[2], window.next, until))
        for one in new:
            if hasattr(one.model, self.by):
                window.add(one.position.offset, str(getattr(one.model, self.by)), row_of(one.model))
        window.reach(until, first, 2 * self.reach + len(group))


def _offset(event: Earlier) -> int:
    return event.offset


def _place(one: Received) -> int:
    return one.position.offset


def _next(window: Window) -> int:
    return window.next
