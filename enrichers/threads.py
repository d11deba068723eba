"""Threads for what waits, beside an event loop: so many calls at once, so many more in line, and beyond them a call is refused at once."""

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio

from headwater.lineage.errors import Unavailable

T = TypeVar("T")

THREADS = 16
WAITING = 64


class Threads:
    """Threads that nothing else takes: whoever shares them waits for each other, and for nobody besides.

    threads, waiting  how many calls are under way at once, and how many more may wait for their turn
    """

    def __init__(self, threads: int = THREADS, waiting: int = WAITING) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._most = threads + waiting
        self._lock = threading.Lock()
        self._many = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Raises Unavailable, and what the work raises."""
        with self._lock:
            if self._many >= self._most:
                raise Unavailable(f"{self._many} calls are under way, and no more may wait; call again", retry_after=1)
            self._many += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            with self._lock:
                self._many -= 1
