"""Event ids that were published, so that sending an event again gives the first one's token and produces nothing.

Remembered are the newest ids of each topic, as many as `WINDOW`; after a start they are read back from the topic's tail.
Two requests with one id at the same time: the second waits until the first knows how it ended.
"""

import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from headwater.lineage.errors import Conflict
from headwater.lineage.event import Event, Position

WINDOW = 100_000
"""Ids per topic."""

Told: TypeAlias = Sequence[tuple[Event, Position]]


class Known(NamedTuple):
    """What is remembered of an id: a digest of its data, and where it lies."""

    digest: bytes
    position: Position


class Seen:
    """The remembered ids of one topic. Thread-safe."""

    def __init__(self, topic: str, window: int = WINDOW) -> None:
        self._topic, self._window = topic, window
        self._changed = threading.Condition()
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._under_way: set[str] = set()

    def once(self, events: Sequence[Event], produce: Callable[[list[int]], list[Position]]) -> list[Position]:
        """The events' positions; those that are new are produced, given to `produce` by their numbers, each id once.

        Raises Conflict, before anything is produced, if an id is known with other data; and what `produce` raises.
        """
        digests = [digest(event.data) for event in events]
        self._agree(events, digests)
        ids = {event.id for event in events}
        with self._changed:
            # All ids at once, so that nobody waits while holding some.
            self._changed.wait_for(lambda: not (ids & self._under_way))
            for number, event in enumerate(events):
                if (known := self._known.get(event.id)) is not None and known.digest != digests[number]:
                    raise _conflict(event, self._topic, known.position)
            fresh = {event.id: number for number, event in reversed(list(enumerate(events))) if event.id not in self._known}
            before = {id: self._known[id] for id in ids if id in self._known}
            self._under_way |= fresh.keys()
        try:
            numbers = sorted(fresh.values())
            positions = produce(numbers) if numbers else []
        except BaseException:
            with self._changed:
                self._under_way -= fresh.keys()
                self._changed.notify_all()
            raise
        new = {events[number].id: Known(digests[number], position) for number, position in zip(numbers, positions, strict=True)}
        with self._changed:
            self._under_way -= fresh.keys()
            self._remember(new.items())
            self._changed.notify_all()
        return [(new.get(event.id) or before[event.id]).position for event in events]

    def learn(self, told: Iterable[tuple[Event, Position]]) -> None:
        """Remember what already lies in the topic. Of an id that lies there twice the first counts."""
        with self._changed:
            self._remember((event.id, Known(digest(event.data), position)) for event, position in told if event.id not in self._known)

    def _agree(self, events: Sequence[Event], digests: Sequence[bytes]) -> None:
        """Within one request as between two."""
        first: dict[str, int] = {}
        for number, event in enumerate(events):
            other = first.setdefault(event.id, number)
            if digests[other] != digests[number]:
                raise Conflict(f"events {other + 1} and {number + 1} of this request have the id {event.id!r} and different data")

    def _remember(self, known: Iterable[tuple[str, Known]]) -> None:
        for id, one in known:
            self._known[id] = one
            self._known.move_to_end(id)
        while len(self._known) > self._window:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        with self._changed:
            return len(self._known)


def digest(data: bytes) -> bytes:
    """16 bytes that tell data from other data, however its JSON is spaced and ordered."""
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        data = msgspec.json.encode(msgspec.json.decode(data), order="sorted")
    return hashlib.blake2b(data, digest_size=16).digest()


def _conflict(event: Event, topic: str, position: Position) -> Conflict:
    return Conflict(
        f"the id {event.id!r} on {topic} is that of another event with other data, at {position.short}; "
        "an event never changes: give the new one an id of its own",
        id=event.id, token=str(position),
    )  # fmt: skip
