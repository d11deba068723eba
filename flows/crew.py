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
GROUP_S, GROWN = 0.15, 8
"""Where so many take less time than this, more go together, up to so many times as many: what is behind catches up in large groups."""
MOST, MOST_BYTES = 1024, 4_000_000
"""What may be on its way of one lane; beyond it no more is read of it. One batch may exceed it."""
ALL, ALL_BYTES = 4096, 32_000_000
"""And of all lanes together. A lane that has nothing on its way may have a batch even then, up to twice as much."""
HELP_S = 0.2
"""A further thread begins only when those at work have been so for this long: where all goes quickly, threads would only be in each
other's way (the engine holds the interpreter), and one after the other is the quicker way. One that waits for a model is passed by."""
LATELY = 0.2
"""The share of the last group in what is known of the speed."""

Size = tuple[int, int]


@dataclass
class _Queue:
    """A lane. `size` counts what was put in and not taken out, in messages and bytes; `done` is what can be."""

    waiting: deque[tuple[Work, Size]] = field(default_factory=deque)
    done: deque[tuple[Upserted, Size]] = field(default_factory=deque)
    size: Size = (0, 0)
    busy: bool = False

    def takes(self, room: Size) -> bool:
        """Whether the next of it goes with others that leave so much room."""
        if self.busy or not self.waiting:
            return False
        work, own = self.waiting[0]
        return type(work) is Work and own[0] <= room[0] and own[1] <= room[1]


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
        self._began: dict[int, float] = {}
        self._speed = 0.0
        self._helper = self._closed = False
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
                pause = self._pause() if self._ready else None
                if pause is None or (pause > 0 and self._helper):
                    self._changed.wait()
                elif pause > 0:
                    self._helper = True
                    self._changed.wait(pause)
                    self._helper = False
                else:
                    return self._begun()
            return None

    def _pause(self) -> float:
        """Seconds until one thread more is of use."""
        return max(self._began.values()) + self._help_s - time.monotonic() if self._began else 0.0

    def _begun(self) -> list[tuple[Work, Size]]:
        group = self._gathered()
        for work, _ in group:
            self._lanes[work.lane].busy = True
            self._ready.pop(work.lane, None)
        self._began[threading.get_ident()] = time.monotonic()
        if self._ready:
            self._changed.notify()
        return group

    def _gathered(self) -> list[tuple[Work, Size]]:
        """The first of the lane that waits longest, and what goes with it."""
        first, *others = self._ready
        group = [self._lanes[first].waiting.popleft()]
        if type(group[0][0]) is not Work:
            return group
        room = _minus(together(self._speed), group[0][1])
        for lane in (first, *others):
            queue = self._lanes[lane]
            while queue.takes(room):
                group.append(queue.waiting.popleft())
                room = _minus(room, group[-1][1])
            if min(room) <= 0:
                break
        return group

    def _finish(self, group: Sequence[tuple[Work, Size]], done: Sequence[Upserted]) -> None:
        sizes: dict[Lane, Size] = {}
        for work, size in group:
            sizes[work.lane] = _plus(sizes.get(work.lane, (0, 0)), size)
        with self._changed:
            self._note_speed(sum(size[0] for _, size in group))
            for upserted in done:
                self._lanes[upserted.lane].done.append((upserted, sizes.pop(upserted.lane, (0, 0))))
            for lane in {work.lane for work, _ in group}:
                queue = self._lanes[lane]
                queue.busy = False
                if queue.waiting:
                    self._ready.setdefault(lane)

    def _note_speed(self, messages: int) -> None:
        took = time.monotonic() - self._began.pop(threading.get_ident())
        self._speed += LATELY * (messages / max(took, 0.001) - self._speed)


def together(speed: float) -> Size:
    """How much may be dealt with at once where so many messages a second are."""
    times = min(max(1.0, speed * GROUP_S / GROUP), GROWN)
    return int(times * GROUP), int(times * GROUP_BYTES)


def _plus(one: Size, other: Size) -> Size:
    return one[0] + other[0], one[1] + other[1]


def _minus(one: Size, other: Size) -> Size:
    return one[0] - other[0], one[1] - other[1]
