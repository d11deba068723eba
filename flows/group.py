"""Requests to a journal, and which of them share a commit: those that come within a few milliseconds of the first."""

import asyncio
import contextlib
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from headwater.agents.journal import Entry, Outgoing
from headwater.lineage.event import Position

GROUP_S = 0.005
"""How long a commit waits for company."""
LARGEST_GROUP = 500


@dataclass
class Request:
    """Entries and effects that are to be committed together, and who waits for it. Its answer: where the effects lie, as tokens."""

    entries: Sequence[Entry]
    effects: Sequence[Outgoing]
    answer: "asyncio.Future[list[str]]"
    loop: asyncio.AbstractEventLoop
    placed: dict[int, Position] = field(default_factory=dict)

    @property
    def tokens(self) -> list[str]:
        return [str(self.placed[index]) for index in range(len(self.effects))]

    def settle(self, tokens: list[str], error: Exception | None = None) -> None:
        """Answer, from any thread."""
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(_settle, self.answer, tokens, error)


class Requests:
    """Those that wait, put from any thread and taken from one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()

    def put(self, request: Request) -> None:
        self._queue.put(request)

    def end(self) -> None:
        """Nothing more is taken after what was put so far."""
        self._queue.put(None)

    def gather(self) -> list[Request]:
        """The next that share a commit; waits for the first. Empty at the end."""
        first = self._queue.get()
        if first is None:
            return []
        group = [first]
        until = time.monotonic() + GROUP_S
        while len(group) < LARGEST_GROUP:
            try:
                request = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if request is None:
                self.end()
                break
            group.append(request)
        return group

    def left(self) -> Iterator[Request]:
        """Those that wait now, without waiting for others."""
        while True:
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                return
            if request is not None:
                yield request


def _settle(future: "asyncio.Future[list[str]]", tokens: list[str], error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(tokens)
