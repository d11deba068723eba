"""Ends: which partitions the sources of a flow have read to the end, and when; what silence means depends on it."""

import threading
from collections.abc import Callable

Place = tuple[str, int]


class Ends:
    """Told by the sources of one flow in this process, asked by its rules. Every method may be called from any thread.

    Sources in other processes tell nothing here: their partitions are not known to stand at their ends.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: dict[Place, int] = {}
        self._ended: dict[Place, tuple[int, int]] = {}

    def begun(self, topic: str, partition: int, offset: int) -> None:
        """A source reads from `offset` on; what lies before it, the flow's state has seen."""
        with self._lock:
            self._begun[topic, partition] = offset
            self._ended.pop((topic, partition), None)

    def read(self, topic: str, partition: int, next: int, appended_us: int) -> None:
        """A source has read on, up to `next`."""
        with self._lock:
            self._ended.pop((topic, partition), None)

    def at_end(self, topic: str, partition: int, offset: int, age: float = 0.0) -> None:
        """A source stands at the end now, having handed on all before `offset`; how long ago it asked makes no odds to silence."""
        with self._lock:
            self._ended[topic, partition] = offset, self._clock()

    def stood(self, topic: str, partition: int, seen: int) -> int | None:
        """When (µs) its source last stood at the end, if one who has seen all before `seen` has seen all that was handed on by then."""
        with self._lock:
            offset, at = self._ended.get((topic, partition), (0, None))
            return at if offset <= max(seen, self._begun.get((topic, partition), 0)) else None
