"""Requests to a journal, and which of them share a commit: those that come within a few milliseconds of the first.

Questions to people gather longer, for a person takes no notice of a twentieth of a second: an agent that is dead asks for each of its
decisions, and each commit of its own would take its time from all other agents.
"""

import asyncio
import contextlib
import queue
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from headwater.agents.journal import Decided, Entry, Outgoing
from headwater.lineage.event import Position

GROUP_S = 0.005
"""How long a commit waits for company."""
PATIENT_S = 0.05
"""How long, while nothing waits for it but questions to people."""
LARGEST_GROUP = 500


@dataclass(slots=True)
class Request:
    """Entries and effects that are to be committed together, and who waits for it since `came` (of the monotonic clock).

    first   an entry that is to lie in the log before the effects are sent
    Its answer: where the effects lie, as tokens.
    """

    entries: Sequence[Entry]
    effects: Sequence[Outgoing]
    answer: "asyncio.Future[list[str]]"
    loop: asyncio.AbstractEventLoop
    first: Entry | None = None
    placed: dict[int, Position] = field(default_factory=dict)
    came: float = field(default_factory=time.monotonic)

    @property
    def patient(self) -> bool:
        """Whether it is a question to a person, and no more."""
        return isinstance(self.first, Decided) and self.first.state == "waiting"

    @property
    def tokens(self) -> list[str]:
        return [str(self.placed[index]) for index in range(len(self.effects))]


def settle(requests: Sequence[Request], error: Exception | None = None) -> None:
    """Answer them all, from any thread: with an error, or with where their effects lie. A loop is woken once for all that wait on it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Request]] = {}
    for request in requests:
        by_loop.setdefault(request.loop, []).append(request)
    for loop, those in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, those, error)


class Requests:
    """Those that wait, put from any thread and taken from one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._urgent: deque[None] = deque()  # as long as requests wait that are not patient: its steps need no lock

    def put(self, request: Request) -> None:
        if not request.patient:
            self._urgent.append(None)
        self._queue.put(request)

    def end(self) -> None:
        """Nothing more is taken after what was put so far."""
        self._urgent.append(None)
        self._queue.put(None)

    def gather(self) -> list[Request]:
        """The next that share a commit; waits for the first, and for its company unless it has waited as long already. Empty at the end."""
        first = self._queue.get()
        if first is None:
            return []
        self._await_company(first)
        group = [first]
        while len(group) < LARGEST_GROUP:
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                break
            if request is None:
                self.end()
                break
            group.append(request)
        for request in group:
            if not request.patient:
                self._urgent.popleft()
        return group

    def _await_company(self, first: Request) -> None:
        """Sleeps, for to be woken by each that comes costs more than to take it."""
        until = first.came + (GROUP_S if self._urgent else PATIENT_S)
        while (pause := until - time.monotonic()) > 0 and self._queue.qsize() < LARGEST_GROUP:
            time.sleep(min(pause, GROUP_S))
            if self._urgent:
                return

    def left(self) -> Iterator[Request]:
        """Those that wait now, without waiting for others."""
        while True:
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                return
            if request is not None:
                yield request


def _settle(requests: Sequence[Request], error: Exception | None) -> None:
    for request in requests:
        if request.answer.done():
            continue
        if error is not None:
            request.answer.set_exception(error)
        else:
            request.answer.set_result(request.tokens)
