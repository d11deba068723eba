"""Room: how many attempts are made at once in this process, over all agents. A slow agent cannot take the places of the others."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Iterable

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
        self._shares = sum(self._own.values())
        self._taken = 0
        self._used: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def place(self, agent: str) -> "_Place":
        """For `async with`: a place for as long as the block lasts; waits for one, first come first served among an agent's attempts."""
        return _Place(self, agent)

    @property
    def used(self) -> dict[str, int]:
        """Agent → places it has."""
        return dict(self._used)

    def waits(self, agent: str) -> int:
        """How many attempts of an agent wait for a place."""
        return len(self._waiting.get(agent, ()))

    def _entered(self, agent: str) -> bool:
        """Take a place if one is free for this agent now."""
        if self._waiting.get(agent) or not self._may(agent):
            return False
        self._take(agent)
        return True

    def _take(self, agent: str) -> None:
        self._used[agent] += 1
        self._taken += 1

    async def _enter(self, agent: str) -> None:
        """Take a place as soon as one is free."""
        if self._entered(agent):
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(agent, deque()).append(ticket)
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled():
                self._leave(agent)  # it was let in and told to go in the same moment
            else:
                with contextlib.suppress(ValueError, KeyError):  # passed over already
                    self._waiting[agent].remove(ticket)
            raise

    def _leave(self, agent: str) -> None:
        """Give a place back, and let in whoever may come now."""
        self._used[agent] -= 1
        self._taken -= 1
        if not self._waiting:
            return
        for name in sorted(self._waiting, key=self._used.__getitem__):
            tickets = self._waiting[name]
            while tickets and self._may(name):
                ticket = tickets.popleft()
                if not ticket.done():
                    self._take(name)
                    ticket.set_result(None)
            if not tickets:
                del self._waiting[name]

    def _may(self, agent: str) -> bool:
        if self._used[agent] < self._own.get(agent, 0):
            return True
        if self._taken + self._shares < self._places:  # even if nobody had anything of a share yet
            return True
        kept = sum(max(0, own - self._used[name]) for name, own in self._own.items() if name != agent)
        return self._taken + kept < self._places


class _Place:
    """A place, from entering the block to leaving it."""

    __slots__ = ("_agent", "_room")

    def __init__(self, room: Room, agent: str) -> None:
        self._room, self._agent = room, agent

    async def __aenter__(self) -> None:
        if not self._room._entered(self._agent):
            await self._room._enter(self._agent)

    async def __aexit__(self, *raised: object) -> None:
        self._room._leave(self._agent)
