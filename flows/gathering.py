"""How long records gather before they land."""

import threading
import time
from collections.abc import Callable

LANDING_MS = 200
"""A transaction costs much the same for one record and for a thousand: what has come within this time lands together."""
LOOK_MS = 20
"""How often it is looked whether they have gathered for long enough."""
SHARE = 10
"""Landing takes at most one in so many parts of the time, while less than a full batch waits."""
MOST_MS = 1000


class Gathering:
    """When what has gathered is to land. What landing takes is taken from the flows beside it, so the longer it took the last time, the
    more come together; but not while somebody waits for them. Thread-safe.

    least_ms  between two landings of less than a full batch;  most_ms  at most, however long landing takes
    clock     monotonic seconds
    """

    def __init__(self, least_ms: float = LANDING_MS, most_ms: float = MOST_MS, clock: Callable[[], float] = time.monotonic) -> None:
        self._least, self._most, self._clock = least_ms, most_ms, clock
        self._changed = threading.Lock()
        self.ms = least_ms
        self._looked = float("-inf")
        self._landed = self._wanted = self._ending = False

    def due(self) -> bool:
        """Whether to take what has gathered now. Where nothing had the last time, the next need not wait for company."""
        with self._changed:
            now = self._clock()
            pause = self._least if self._wanted else self.ms
            if not self._ending and now - self._looked < pause / 1000:
                return False
            if not self._landed:
                self.ms = self._least
            self._looked, self._landed, self._wanted = now, False, False
            return True

    def took(self, seconds: float) -> None:
        """Something has landed, which took so long."""
        with self._changed:
            self.ms = min(self._most, max(self._least, seconds * 1000 * SHARE))
            self._landed = True

    def ask(self) -> None:
        """Somebody asks what has landed: what waits now lands as soon as it would where landing takes no time."""
        with self._changed:
            self._wanted = True

    def end(self) -> None:
        """Nothing more will come: what comes yet lands at once."""
        with self._changed:
            self._ending = True
