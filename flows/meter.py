"""What a process knows of its own flows while they run: how far each has come, and how many of what."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

from headwater.lineage.event import Position

Place = tuple[str, int]


class Meter:
    """Counts and places, thread-safe. A flow tells it; progress displays, replays and `/metrics` read it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._next: dict[str, dict[Place, int]] = {}
        self._written: dict[Place, int] = {}
        self._watermarks: dict[str, int] = {}

    def count(self, what: str, many: int = 1) -> None:
        """Add to a counter."""
        with self._changed:
            self._counts[what] += many

    def counts(self) -> dict[str, int]:
        with self._changed:
            return dict(self._counts)

    def reached(self, flow: str, topic: str, partition: int, offset: int) -> None:
        """A flow has dealt with everything below `offset` of a partition."""
        with self._changed:
            places = self._next.setdefault(flow, {})
            places[topic, partition] = max(places.get((topic, partition), 0), offset)
            self._changed.notify_all()

    def wrote(self, positions: Iterable[Position]) -> None:
        """The broker acknowledged these positions of our own topics."""
        with self._changed:
            for position in positions:
                place = (position.topic, position.partition)
                self._written[place] = max(self._written.get(place, 0), position.offset + 1)
            self._changed.notify_all()

    def come(self, flow: str) -> dict[Place, int]:
        """Per partition that a flow has read anything of here, the offset below which it has dealt with everything."""
        with self._changed:
            return dict(self._next.get(flow, {}))

    def behind(self, flow: str, topics: Iterable[str]) -> int:
        """How many positions of these topics were written by this process and not yet dealt with by a flow."""
        names = set(topics)
        with self._changed:
            known = self._next.get(flow, {})
            return sum(max(0, end - known.get(place, 0)) for place, end in self._written.items() if place[0] in names)

    def written(self, topic: str) -> dict[Place, int]:
        """Per partition of a topic, the offset after the last acknowledged message of ours."""
        with self._changed:
            return {place: offset for place, offset in self._written.items() if place[0] == topic}

    def watermark(self, topic: str, at: int) -> None:
        """Rules over this topic have seen everything up to event time `at` (µs)."""
        with self._changed:
            self._watermarks[topic] = max(self._watermarks.get(topic, at), at)
            self._changed.notify_all()

    def await_reached(self, flow: str, places: Mapping[Place, int], timeout: float) -> bool:
        """Wait until a flow has come to these offsets."""

        def there() -> bool:
            known = self._next.get(flow, {})
            return all(known.get(place, 0) >= offset for place, offset in places.items())

        with self._changed:
            return self._changed.wait_for(there, timeout)

    def await_watermark(self, topics: Iterable[str], at: int, timeout: float) -> bool:
        """Wait until the rules over these topics have seen everything up to `at` (µs)."""
        names = list(topics)
        with self._changed:
            return self._changed.wait_for(lambda: all(self._watermarks.get(name, -1) >= at for name in names), timeout)
