"""The runner: many activations through one agent at once, each key in order, each decided once and done once.

One decider belongs to one (agent, partition of activations) and owns its journal. It runs on an event loop in another
thread and never blocks its caller, which submits, polls, and keeps `in_flight` in its snapshots.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from headwater.agents.accept import Refused, judged
from headwater.agents.activation import Activation
from headwater.agents.agent import Agent, decision_id
from headwater.agents.book import Book
from headwater.agents.context import Ports
from headwater.agents.course import Course, End, Wait
from headwater.agents.course import Outcome as Ending
from headwater.agents.decide import decide
from headwater.agents.effect import effect_records
from headwater.agents.journal import Answered, Decided, Done, Entry, Journal, Judged
from headwater.agents.perform import Performer, persist
from headwater.agents.reins import journal_name
from headwater.agents.verdict import Verdict, Waiting, verdict_record
from headwater.lineage.errors import EffectFailed, HeadwaterError, NotFound
from headwater.lineage.event import Position
from headwater.lineage.record import Record

MAX_IN_FLIGHT = 1000
_PARKED = 4
"""Items held, those that wait behind others of their key included, are at most this many times the bound."""

Outcome: TypeAlias = Ending | Literal["waiting", "passed"]


class Item(msgspec.Struct, frozen=True):
    """One activation as it was read: the token of its position, and when it came (wall clock, µs). Plain data for snapshots."""

    activation: Activation
    position: str
    woken: int = 0

    @property
    def place(self) -> str:
        """What it is held under while it is on its way."""
        return self.position


class Finished(NamedTuple):
    """How a position of activations ended: that of the item, or that of the decision which a verdict was about.

    decision   empty where the agent was not woken
    position   empty where nothing ended: a verdict that does not count, or that another one followed
    failure    why it is a dead letter
    closes     the reviews that no longer wait
    """

    item: Item | Verdict
    outcome: Outcome
    records: tuple[Record, ...]
    decision: str = ""
    activation: str = ""
    position: str = ""
    failure: HeadwaterError | None = None
    closes: tuple[str, ...] = ()


@dataclass
class _Chain:
    """The items of one key, in order; the first is running or about to."""

    items: deque[Item | Verdict] = field(default_factory=deque)


class Decider:
    """Runs one agent over the activations of one partition.

    agent, ports, journal   who decides, with what, and where it is written
    book            what the journal says already, read to its end after the former owner was fenced
    loop            a running event loop of another thread
    max_in_flight   how many are decided at once; one key takes one of these places, for its decisions follow each other
    waiting         reviews that had no verdict when the former owner gave its state
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
        waiting: Iterable[Waiting] = (),
    ) -> None:
        self._agent = agent
        self._ports = ports
        self._journal = journal
        self._book = book
        self._loop = loop
        self._bound = max(1, max_in_flight)
        self._lock = threading.Lock()
        self._performer = Performer(agent, ports, journal, book)
        self._waiting = {each.review: each for each in waiting}
        self._held: OrderedDict[str, Item | Verdict] = OrderedDict()
        self._chains: dict[str, _Chain] = {}
        self._ready: deque[str] = deque()
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._finished: deque[Finished] = deque()
        self._pumping = False
        self._closing = False
        self._broken: BaseException | None = None

    def submit(self, *items: Item | Verdict) -> None:
        """Take items; one whose position is already held is not taken again. Never blocks; mind `room`.

        Of many the loop is told once: to wake it gives the interpreter away, and to get it back may take as long as the switching interval.
        """
        with self._lock:
            for item in items:
                self._take(item)
            if self._ready:
                self._wake()

    def _take(self, item: Item | Verdict) -> None:
        if item.place in self._held:
            return
        self._held[item.place] = item
        key = item.activation.key if isinstance(item, Item) else self._key_of(item)
        chain = self._chains.setdefault(key, _Chain())
        chain.items.append(item)
        if len(chain.items) == 1:
            self._ready.append(key)

    def room(self) -> int:
        """How many more items to submit now; 0: let the source wait. What waits behind its own key takes nobody's place."""
        with self._lock:
            if self._closing or self._broken is not None:
                return 0
            return max(0, min(self._bound - len(self._chains), _PARKED * self._bound - len(self._held)))

    def poll(self) -> list[Finished]:
        """What has finished since the last call. Raises what broke the journal: this owner must stop then."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            finished = list(self._finished)
            self._finished.clear()
            for done in finished:
                del self._held[done.item.place]
                for review in done.closes:  # not before: until then a snapshot needs both
                    self._waiting.pop(review, None)
            return finished

    @property
    def busy(self) -> bool:
        """Whether anything is in flight."""
        return bool(self._held)

    def in_flight(self) -> list[Item | Verdict]:
        """What was submitted and not yet polled, in the order it came: to be submitted again after a crash."""
        with self._lock:
            return list(self._held.values())

    def waiting(self) -> list[Waiting]:
        """The reviews without a verdict. Ask for it after `in_flight`: what is in neither has ended."""
        with self._lock:
            return list(self._waiting.values())

    def expire(self, now: int) -> None:
        """Submit the end of reviews that have waited long enough."""
        for each in self.waiting():
            if each.expires <= now:
                self.submit(_expired(self._agent.name, each, now))

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
                self._running[key] = self._loop.create_task(self._run(key, self._chains[key].items[0]), name=self._agent.name)

    async def _run(self, key: str, item: Item | Verdict) -> None:
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
        if chain.items:
            self._ready.append(key)
        else:
            del self._chains[key]

    async def _end(self, item: Item | Verdict) -> Finished:
        if isinstance(item, Verdict):
            return await self._judge(item)
        activation = item.activation
        if not self._agent.wakes(activation) and not self._resumes(item):
            return _at_once(item, "no_action" if self._agent.watches(activation) else "passed")
        decision = decision_id(self._agent.name, activation.id)
        before = self._book.ended(decision)
        if before is not None:
            # The same position again was in flight at a crash; another position is the same activation sent twice.
            return _at_once(item, before.state if before.position == item.position else "passed", decision)
        decided = self._book.decided(decision) or await self._decide(item)
        if decided.position != item.position:
            return _at_once(item, "passed", decision)
        course = self._book.course(decision)
        assert course is not None
        step = await self._performer.perform(course)
        told = (*decided.records, *effect_records(course), *self._verdicts(course))
        return self._ended(item, course, step, told)

    def _resumes(self, item: Item) -> bool:
        """Whether the agent is suspended for this activation, or was: then it stands in the book."""
        if not self._agent.suspends_for(item.activation):
            return False
        decision = decision_id(self._agent.name, item.activation.id)
        if self._book.ended(decision) is not None or self._book.decided(decision) is not None:
            return True
        journal = journal_name(self._agent, item.position)
        return self._ports.memories.suspended(journal, item.activation, self._ports.clock()) is not None

    async def _decide(self, item: Item) -> Decided:
        """Decide, and have it committed before any call, with the events that it begins with. The log had no other: its key is ours."""
        decided = await decide(self._agent, item.activation, self._ports, position=item.position, woken=item.woken)
        await self._performer.begin(decided)
        if decided.memory is not None:
            self._ports.memories.keep(journal_name(self._agent, item.position), [decided])
        return decided

    def _ended(self, item: Item | Verdict, course: Course, step: End | Wait, records: tuple[Record, ...]) -> Finished:
        """Hand over how a decision ended; one that waits is remembered by its review."""
        decided = course.decided
        assert decided is not None
        closes = tuple(course.judged)
        if isinstance(step, Wait):
            again = isinstance(item, Verdict)
            place = self._waiting[item.review].place if isinstance(item, Verdict) else self._journal.place(decided.id)
            with self._lock:
                self._waiting[step.review] = _waits(course, step.review, place)
            self._book.end(decided, "waiting")
            position = "" if again else decided.position
            return Finished(item, "waiting", records, decided.id, decided.activation, position, closes=closes)
        self._book.end(decided, step.outcome)
        failure = EffectFailed(step.error) if step.outcome == "dead_lettered" else None
        return Finished(item, step.outcome, records, decided.id, decided.activation, decided.position, failure, closes)

    def _key_of(self, verdict: Verdict) -> str:
        """The key of its decision, whose turn it waits for; any other if it is about none."""
        waiting = self._waiting.get(verdict.review)
        known = self._book.decided(verdict.decision) if waiting is None else None
        return waiting.key if waiting is not None else known.key if known is not None else verdict.review

    async def _judge(self, verdict: Verdict) -> Finished:
        """A verdict is written down, then its decision goes on. One whose activation is yet to come again after a crash is only written."""
        waiting = self._waiting.get(verdict.review)
        before = self._book.ended(verdict.decision)
        if before is not None and before.state != "waiting":
            waiting = None  # it ended a moment ago, and this is one verdict more
        try:
            course = await self._taken_up(waiting) if waiting is not None else self._book.course(verdict.decision)
        except NotFound as error:
            return self._lost(verdict, waiting, str(error))
        try:
            entry = judged(self._agent, self._ports, before, course, verdict)
        except Refused as error:
            if waiting is not None and course is not None and course.decided is not None:
                self._book.end(course.decided, "waiting")
            records = (*error.records, verdict_record(verdict, self._ports.clock(), refused=str(error)))
            return Finished(verdict, "passed", records, verdict.decision)
        assert course is not None
        if entry is not None:
            await persist(lambda: self._journal.append([entry]), self._ports)
            self._book.apply(entry)
        if waiting is None:
            return Finished(verdict, "passed", (), verdict.decision)
        step = await self._performer.perform(course)
        told = {name for known in waiting.entries for name in _named(known)}
        return self._ended(verdict, course, step, (*effect_records(course, told), *self._verdicts(course)))

    async def _taken_up(self, waiting: Waiting) -> Course:
        course = self._book.course(waiting.decision)
        if course is None or course.decided is None:
            decided = await persist(lambda: self._journal.recall(waiting.decision, waiting.place), self._ports)
            course = self._book.take_up(decided, waiting.entries)
        return course

    def _lost(self, verdict: Verdict, waiting: Waiting | None, why: str) -> Finished:
        """The decision is no longer in the journal, so nothing of it can be done: that ends it."""
        assert waiting is not None
        record = verdict_record(verdict, self._ports.clock(), refused=why)
        finished = Finished(verdict, "dead_lettered", (record,), waiting.decision, waiting.activation, waiting.position)
        return finished._replace(failure=EffectFailed(why), closes=(verdict.review,))

    def _verdicts(self, course: Course) -> tuple[Record, ...]:
        """The verdicts that counted."""
        assert course.decided is not None
        agent, decision = course.decided.agent, course.decided.id
        trace = course.decided.traceparent
        return tuple(
            verdict_record(_verdict(agent, decision, each), each.at, counted=each.counted, traceparent=trace)
            for each in course.judged.values()
        )


def _waits(course: Course, review: str, place: int) -> Waiting:
    decided = course.decided
    assert decided is not None
    asked = max((each.at for each in course.answered.values()), default=0) if decided.review is None or decided.review.id != review else 0
    return Waiting(
        review=review, decision=decided.id, activation=decided.activation, key=decided.key, position=decided.position, place=place,
        expires=(asked or decided.decided) + decided.expires, entries=tuple(course.entries),
    )  # fmt: skip


def _at_once(item: Item, outcome: Outcome, decision: str = "") -> Finished:
    """What ends without a decision of its own."""
    return Finished(item, outcome, (), decision, item.activation.id, item.position)


def _expired(agent: str, waiting: Waiting, now: int) -> Verdict:
    partition = Position.parse(waiting.position).partition
    return Verdict(
        review=waiting.review, decision=waiting.decision, agent=agent, partition=partition, verdict="expired", by="headwater", at=now,
        reason="nobody answered in time",
    )  # fmt: skip


def _verdict(agent: str, decision: str, judged: Judged) -> Verdict:
    return Verdict(
        review=judged.review, decision=decision, agent=agent, partition=-1, verdict=judged.verdict, by=judged.by, reason=judged.reason,
        choice=judged.choice, at=judged.at, position=judged.position,
    )  # fmt: skip


def _named(entry: Entry) -> tuple[str, ...]:
    """The effects that an entry of the journal tells the end of."""
    match entry:
        case Answered():
            return (entry.effect,)
        case Done():
            return entry.effects
    return ()
