"""ahead: acts one after the other in a thread of their own, while their owner makes the next one ready."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Ahead:
    """For one owner, in one thread at a time. What an act raised is raised from then on, and no act is done after it, for what came after
    may rest on it. An act may be on its way with others as long as all their sizes fit into `room`.
    """

    def __init__(self, room: int = 0) -> None:
        self._room = room
        self._thread: ThreadPoolExecutor | None = None
        self._acts: deque[tuple[Future[None], int]] = deque()

    def begin(self, act: Callable[[], None], size: int = 0) -> None:
        """Have an act done after those before, once these leave room for it. Raises what one of them raised."""
        while self._acts and (self._acts[0][0].done() or sum(each for _, each in self._acts) + size > self._room):
            self._first()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "landing")
        before = self._acts[-1][0] if self._acts else None
        self._acts.append((self._thread.submit(_after, before, act), size))

    def settle(self) -> None:
        """Wait until nothing is on its way. Raises what an act raised."""
        while self._acts:
            self._first()

    def _first(self) -> None:
        self._acts[0][0].result()
        self._acts.popleft()

    def wait(self) -> None:
        """The same, but raises nothing: whoever settles next is told."""
        wait([act for act, _ in self._acts])

    def close(self) -> None:
        """Let all acts come to their end; nothing can be begun then that was not begun before."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None


def _after(before: Future[None] | None, act: Callable[[], None]) -> None:
    """An act, unless the one before, which is over, raised something: then it raises the same."""
    if before is not None:
        before.result()
    act()
