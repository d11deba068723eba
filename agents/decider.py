"""The runner: many activations through one agent at once, each key in order, each decided once and done once.

One decider belongs to one (agent, partition of activations) and owns its journal. It runs on an event loop in another
thread and never blocks its caller, which submits, polls, and keeps `in_flight` in its snapshots.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.agent import Agent, decision_id
from headwater.agents.context import Ports
from headwater.agents.decide import decide, effect_records
from headwater.agents.journal import Book, Decided, Done, Journal, State
from headwater.agents.reins import journal_name
from headwater.lineage.errors import Retryable
from headwater.lineage.record import Record

MAX_IN_FLIGHT = 1000
_RETRY_S, _LONGEST_RETRY_S = 0.05, 2.0
_PARKED = 4
"""Items held beyond their key's share are at most this many times the bound."""

Outcome: TypeAlias = State | Literal["passed"]


class Item(msgspec.Struct, frozen=True):
    """One activation as it was read: the token of its position, and when it came (wall clock, µs). Plain data for snapshots."""

    activation: Activation
    position: str
    woken: int = 0


class Finished(NamedTuple):
    """How one item's position ended. `decision` is empty where the agent was not woken."""

    item: Item
    outcome: Outcome
    records: tuple[Record, ...]
    decision: str = ""


@dataclass
class _Chain:
    """The items of one key, in order; the first is running or about to."""

    items: deque[Item] = field(default_factory=deque)


class Decider:
    """Runs one agent over the activations of one partition.

    agent, ports, journal   who decides, with what, and where it is written
    book            what the journal says already, read to its end after the former owner was fenced
    loop            a running event loop of another thread
    max_in_flight   how many are decided at once; of what `room` counts, one key takes at most a tenth
    """

    def __init__(
        self,
        agent: Agent,
        ports: Ports,
        journal: Journal,
        book: Book,
        loop: asyncio.AbstractEventLoop,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self._agent = agent
        self._ports = ports
        self._journal = journal
        self._book = book
        self._loop = loop
        self._bound = max(1, max_in_flight)
        self._share = max(1, self._bound // 10)
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Item] = OrderedDict()
        self._chains: dict[str, _Chain] = {}
        self._ready: deque[str] = deque()
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._finished: deque[Finished] = deque()
        self._counted = 0
        self._pumping = False
        self._closing = False
        self._broken: BaseException | None = None

    def submit(self, item: Item) -> None:
        """Take one item; one whose position is already held is not taken again. Never blocks; mind `room`."""
        with self._lock:
            if item.position in self._held:
                return
            self._held[item.position] = item
            key = item.activation.key
            chain = self._chains.setdefault(key, _Chain())
            self._counted += len(chain.items) < self._share
            chain.items.append(item)
            if len(chain.items) == 1:
                self._ready.append(key)
            self._wake()

    def room(self) -> int:
        """How many more items to submit now; 0: let the source wait. A hot key leaves nine tenths to the others."""
        with self._lock:
            if self._closing or self._broken is not None:
                return 0
            return max(0, min(self._bound - self._counted, _PARKED * self._bound - len(self._held)))

    def poll(self) -> list[Finished]:
        """What has finished since the last call. Raises what broke the journal: this owner must stop then."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            finished = list(self._finished)
            self._finished.clear()
            for done in finished:
                del self._held[done.item.position]
            return finished

    def in_flight(self) -> list[Item]:
        """What was submitted and not yet polled, in the order it came: to be submitted again after a crash."""
        with self._lock:
            return list(self._held.values())

    def close(self, grace_s: float) -> None:
        """Begin nothing more, give what runs a grace, then cancel it: it stays in flight. Blocks at most that long, and a moment."""
        with self._lock:
            self._closing = True
            running = len(self._running)
        deadline = time.monotonic() + grace_s
        while running and time.monotonic() < deadline:
            time.sleep(min(0.01, max(0.0, deadline - time.monotonic())))
            with self._lock:
                running = len(self._running)
        if self._loop.is_running():
            stopped: Future[None] = asyncio.run_coroutine_threadsafe(self._cancel(), self._loop)
            wait([stopped], timeout=1.0)

    async def _cancel(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self) -> None:
        """Have the loop look for work; one look for many submissions. Called with the lock held."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon_threadsafe(self._pump)

    def _pump(self) -> None:
        with self._lock:
            self._pumping = False
            while self._ready and len(self._running) < self._bound and not self._closing and self._broken is None:
                key = self._ready.popleft()
                self._running[key] = self._loop.create_task(self._run(key, self._chains[key].items[0]))

    async def _run(self, key: str, item: Item) -> None:
        """One item to its end; then its key's next may begin."""
        finished: Finished | None = None
        broken: BaseException | None = None
        try:
            finished = await self._end(item)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            broken = error
        with self._lock:
            del self._running[key]
            self._broken = self._broken or broken
            if finished is not None:
                self._finished.append(finished)
                self._leave(key)
            if self._ready:
                self._wake()

    def _leave(self, key: str) -> None:
        chain = self._chains[key]
        chain.items.popleft()
        self._counted -= len(chain.items) < self._share
        if chain.items:
            self._ready.append(key)
        else:
            del self._chains[key]

    async def _end(self, item: Item) -> Finished:
        activation = item.activation
        if not any(rule.name == activation.rule for rule in self._agent.wakes_on):
            return Finished(item, "passed", ())
        if not self._agent.wakes(activation):
            return Finished(item, "no_action", ())
        decision = decision_id(self._agent.name, activation.id)
        ended = self._book.ended(decision)
        if ended is not None:
            # The same position again was in flight at a crash; another position is the same activation sent twice.
            return Finished(item, ended.state if ended.position == item.position else "passed", (), decision)
        decided = self._book.decided(decision) or await self._decide(item)
        if decided.position != item.position:
            return Finished(item, "passed", (), decision)
        records = decided.records + await self._perform(decided)
        self._book.end(decided)
        return Finished(item, decided.state, records, decision)

    async def _decide(self, item: Item) -> Decided:
        """Decide, and have it committed before anything happens outside; what the log had first is the decision."""
        decided = await decide(self._agent, item.activation, self._ports, position=item.position, woken=item.woken)
        await self._persist(lambda: self._journal.append([decided]))
        self._book.apply(decided)
        kept = self._book.decided(decided.id) or decided
        self._ports.memories.keep(journal_name(self._agent, item.position), [kept])
        return kept

    async def _perform(self, decided: Decided) -> tuple[Record, ...]:
        if not decided.outbox:
            return ()
        done = self._book.done(decided.id)
        if done is None:
            entry = Done(id=decided.id, effects=tuple(effect.id for effect in decided.outbox), at=self._ports.clock())
            tokens = await self._persist(lambda: self._journal.perform(decided.outbox, entry))
            done = entry.placed(tokens)
            self._book.apply(done)
            return effect_records(decided, done, done.positions, self._ports.clock())
        return effect_records(decided, done, done.positions, done.at)

    async def _persist(self, write: Any) -> Any:
        """Until it is committed: a journal that does not answer holds this key, it loses nothing."""
        pause = _RETRY_S
        while True:
            try:
                return await write()
            except Retryable:
                await self._ports.sleep(pause * (0.5 + self._ports.random()))
                pause = min(2 * pause, _LONGEST_RETRY_S)
