"""ahead: one act at a time in a thread of its own, while its owner makes the next one ready."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Ahead:
    """For one owner, in one thread at a time. What an act raised is raised from then on: what came after may rest on it."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._act: Future[None] | None = None

    def begin(self, act: Callable[[], None]) -> None:
        """Begin an act once the one before is done. Raises what that raised."""
        self.settle()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "landing")
        self._act = self._thread.submit(act)

    def settle(self) -> None:
        """Wait until nothing is on its way. Raises what the last act raised."""
        if self._act is not None:
            self._act.result()
            self._act = None

    def wait(self) -> None:
        """The same, but raises nothing: whoever settles next is told."""
        if self._act is not None:
            wait([self._act])

    def close(self) -> None:
        """Let the act come to its end; nothing can be begun then that was not begun before."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
