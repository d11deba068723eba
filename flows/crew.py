"""The crew: threads that index what a flow has read, so that the engine's own thread waits for no model and no store.

A lane is one partition of a topic; its batches are dealt with one after the other. Small batches of several lanes go together; a long one,
or one that is tried again, goes by itself, so that it holds its own lane and no other.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headwater.flows.steps import Upserted, Work

Lane = tuple[str, int]

THREADS = 8
GROUP, GROUP_BYTES = 64, 64_000
"""Messages that are dealt with at once, and bytes of them: the first waits for the last. One batch may exceed it, and then goes alone."""
MOST, MOST_BYTES = 192, 4_000_000
"""What may be on its way of one lane; beyond it no more is read of it. One batch may exceed it."""
ALL, ALL_BYTES = 4096, 32_000_000
"""And of all lanes together. A lane that has nothing on its way may have a batch even then, up to twice as much."""
HELP_S = 0.02
"""A further thread begins when the last to begin is not done so soon: while all goes quickly, a few large groups are the quicker way."""

Size = tuple[int, int]


@dataclass
class _Queue:
    """A lane. `size` counts what was put in and not taken out, in messages and bytes; `done` is what can be."""

    waiting: deque[tuple[Work, Size]] = field(default_factory=deque)
    done: deque[tuple[Upserted, Size]] = field(default_factory=deque)
    size: Size = (0, 0)
    busy: bool = False

    def takes(self, messages: int, size: int) -> bool:
        """Whether the next of it goes with a group of others that is so large."""
        if self.busy or not self.waiting:
            return False
        work, own = self.waiting[0]
        return type(work) is Work and messages + own[0] <= GROUP and size + own[1] <= GROUP_BYTES


class Crew:
    """Deals with work in threads of its own; each lane in its order. Every method but `close` returns at once.

    settle  work of several lanes, each in its order, or one that is tried again → what became of it, lane by lane
    threads at most;  help_s  see HELP_S
    broken  what `settle` raised: this crew works no more
    """

    def __init__(self, settle: Callable[[list[Work]], list[Upserted]], *, threads: int = THREADS, help_s: float = HELP_S) -> None:
        self.broken: BaseException | None = None
        self._settle, self._help_s = settle, help_s
        self._changed = threading.Condition()
        self._lanes: dict[Lane, _Queue] = {}
        self._ready: dict[Lane, None] = {}
        self._size: Size = (0, 0)
        self._active, self._began, self._helper, self._closed = 0, 0.0, False, False
        self._threads = [threading.Thread(target=self._main, name=f"index-{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, work: Sequence[Work]) -> list[Work]:
        """Have work dealt with; mind `room`. Gives nothing: what became of it is taken by lane."""
        sized = [(each, (max(1, len(each.messages)), each.size)) for each in work]
        with self._changed:
            for each, size in sized:
                queue = self._lanes.setdefault(each.lane, _Queue())
                queue.waiting.append((each, size))
                queue.size = _plus(queue.size, size)
                self._size = _plus(self._size, size)
                if not queue.busy:
                    self._ready.setdefault(each.lane)
            self._changed.notify()
        return []

    def room(self, topic: str, partition: int) -> bool:
        """Whether more may be read of a lane."""
        with self._changed:
            messages, size = self._lanes[topic, partition].size if (topic, partition) in self._lanes else (0, 0)
            times = 1 if messages else 2
            return messages < MOST and size < MOST_BYTES and self._size[0] < times * ALL and self._size[1] < times * ALL_BYTES

    def take(self, lane: Lane) -> list[Upserted]:
        """What is done of a lane since the last call, in order. Raises what broke the crew."""
        with self._changed:
            if self.broken is not None:
                raise self.broken
            queue = self._lanes.get(lane)
            if queue is None:
                return []
            found = list(queue.done)
            queue.done.clear()
            for _, size in found:
                queue.size = _minus(queue.size, size)
                self._size = _minus(self._size, size)
            return [upserted for upserted, _ in found]

    def close(self, patience: float = 5.0) -> None:
        """Begin nothing more, and wait so many seconds for what has begun."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _main(self) -> None:
        while (group := self._group()) is not None:
            try:
                done = self._settle([work for work, _ in group])
            except BaseException as error:
                with self._changed:
                    self.broken, self._closed = self.broken or error, True
                    self._changed.notify_all()
                return
            self._finish(group, done)

    def _group(self) -> list[tuple[Work, Size]] | None:
        """What to deal with next, once there is something and a thread more is of use; None: no more."""
        with self._changed:
            while not self._closed:
                if self._ready and not self._helper:
                    pause = self._began + self._help_s - time.monotonic() if self._active else 0.0
                    if pause <= 0:
                        return self._begun()
                    self._helper = True
                    self._changed.wait(pause)
                    self._helper = False
                else:
                    self._changed.wait()
            return None

    def _begun(self) -> list[tuple[Work, Size]]:
        group = self._gathered()
        for work, _ in group:
            self._lanes[work.lane].busy = True
            self._ready.pop(work.lane, None)
        self._active, self._began = self._active + 1, time.monotonic()
        if self._ready:
            self._changed.notify()
        return group

    def _gathered(self) -> list[tuple[Work, Size]]:
        """The first of the lane that waits longest, and what goes with it."""
        first, *others = self._ready
        group = [self._lanes[first].waiting.popleft()]
        messages, size = group[0][1]
        if type(group[0][0]) is not Work:
            return group
        for lane in (first, *others):
            queue = self._lanes[lane]
            while queue.takes(messages, size):
                group.append(queue.waiting.popleft())
                messages, size = _plus((messages, size), group[-1][1])
            if messages >= GROUP or size >= GROUP_BYTES:
                break
        return group

    def _finish(self, group: Sequence[tuple[Work, Size]], done: Sequence[Upserted]) -> None:
        sizes: dict[Lane, Size] = {}
        for work, size in group:
            sizes[work.lane] = _plus(sizes.get(work.lane, (0, 0)), size)
        with self._changed:
            self._active -= 1
            for upserted in done:
                self._lanes[upserted.lane].done.append((upserted, sizes.pop(upserted.lane, (0, 0))))
            for lane in {work.lane for work, _ in group}:
                queue = self._lanes[lane]
                queue.busy = False
                if queue.waiting:
                    self._ready.setdefault(lane)


def _plus(one: Size, other: Size) -> Size:
    return one[0] + other[0], one[1] + other[1]


def _minus(one: Size, other: Size) -> Size:
    return one[0] - other[0], one[1] - other[1]
