"""Deadlines: what `asyncio.timeout` does, for thousands at once: one timer for all that have the same time, and none that is never due."""

import asyncio
from collections import deque
from types import TracebackType


class Deadlines:
    """Of tasks of one event loop at a time.

    An attempt nearly always ends in time. So it is only put at the end of its queue, in which all have the same time and thus fall due
    in order; the queue's one timer looks at who is left.
    """

    def __init__(self) -> None:
        self._queues: dict[float, _Queue] = {}

    def within(self, seconds: float) -> "_Deadline":
        """For `with`, in a coroutine: the block is cancelled after so many seconds. Raises TimeoutError then."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get(seconds)
        if queue is None or queue.loop is not loop:
            queue = self._queues[seconds] = _Queue(loop, seconds)
        return _Deadline(queue)


class _Queue:
    """Who has the same time, the one who came first at its head."""

    __slots__ = ("_armed", "_waiting", "loop", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop, self.seconds = loop, seconds
        self._waiting: deque[_Deadline] = deque()
        self._armed = False

    def add(self, one: "_Deadline") -> None:
        self._waiting.append(one)
        if not self._armed:
            self._arm()

    def drop(self) -> None:
        """Let go of those that ended, as far as they stand at the head."""
        waiting = self._waiting
        while waiting and waiting[0].task is None:
            waiting.popleft()

    def _arm(self) -> None:
        self._armed = True
        self.loop.call_at(self._waiting[0].due, self._look)

    def _look(self) -> None:
        self._armed = False
        now = self.loop.time()
        self.drop()
        while self._waiting and self._waiting[0].due <= now:
            self._waiting.popleft().expire()
            self.drop()
        if self._waiting:
            self._arm()


class _Deadline:
    """One block's."""

    __slots__ = ("_cancelling", "_expired", "_queue", "due", "task")

    def __init__(self, queue: _Queue) -> None:
        self._queue = queue
        self.task: asyncio.Task[object] | None = None
        self._expired = False

    def __enter__(self) -> None:
        task = self.task = asyncio.current_task()
        assert task is not None, "a deadline is of a task"
        self._cancelling = task.cancelling()
        self.due = self._queue.loop.time() + self._queue.seconds
        self._queue.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task, self.task = self.task, None
        self._queue.drop()
        # As in asyncio.timeout: if somebody else cancelled the task too, that is what happened to it.
        if self._expired and task is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """The time is over."""
        assert self.task is not None
        self._expired = True
        self.task.cancel()
