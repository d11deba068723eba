"""Room: how many attempts are made at once in this process, over all agents. A slow agent cannot take the places of the others."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable

PLACES = 1000


class Room:
    """Places for attempts. Half of them are for whoever comes; of the other half each of `agents` has a share that nobody else takes.

    One event loop uses it.
    """

    def __init__(self, places: int = PLACES, agents: Iterable[str] = ()) -> None:
        names = list(agents)
        self._places = max(1, places, len(names))
        own = max(1, self._places // (2 * len(names))) if names else 0
        self._own = dict.fromkeys(names, own)
        self._used: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @contextlib.asynccontextmanager
    async def place(self, agent: str) -> AsyncIterator[None]:
        """A place for as long as the block lasts; waits for one, first come first served among the attempts of an agent."""
        await self._enter(agent)
        try:
            yield
        finally:
            self._leave(agent)

    @property
    def used(self) -> dict[str, int]:
        """Agent → places it has."""
        return dict(self._used)

    def waits(self, agent: str) -> int:
        """How many attempts of an agent wait for a place."""
        return len(self._waiting.get(agent, ()))

    async def _enter(self, agent: str) -> None:
        if not self._waiting.get(agent) and self._may(agent):
            self._used[agent] += 1
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(agent, deque()).append(ticket)
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled():
                self._leave(agent)  # it was let in and told to go in the same moment
            else:
                with contextlib.suppress(ValueError):  # passed over already
                    self._waiting[agent].remove(ticket)
            raise

    def _leave(self, agent: str) -> None:
        self._used[agent] -= 1
        for name in sorted(self._waiting, key=self._used.__getitem__):
            tickets = self._waiting[name]
            while tickets and self._may(name):
                ticket = tickets.popleft()
                if not ticket.done():
                    self._used[name] += 1
                    ticket.set_result(None)

    def _may(self, agent: str) -> bool:
        if self._used[agent] < self._own.get(agent, 0):
            return True
        kept = sum(max(0, own - self._used[name]) for name, own in self._own.items() if name != agent)
        return self._used.total() + kept < self._places
