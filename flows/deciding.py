"""The `decide` step: activations into deciders, one for each (agent, partition), their journals opened and fenced first."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import structlog
from bytewax.operators import StatefulBatchLogic

from headwater.agents.agent import Agent, decision_id
from headwater.agents.book import Book
from headwater.agents.budget import Spent
from headwater.agents.decider import Decider, Finished, Item
from headwater.agents.journal import Decided, Entry
from headwater.agents.memory import Memory
from headwater.agents.verdict import Verdict, Waiting
from headwater.flows.former import lapse_record
from headwater.flows.journal import Broken, KafkaJournal
from headwater.flows.recall import message_at
from headwater.flows.steps import bury_all
from headwater.flows.waking import Woken
from headwater.lineage.decode import Failure
from headwater.lineage.duration import to_datetime
from headwater.lineage.errors import HeadwaterError, Unavailable
from headwater.lineage.event import Message, Position
from headwater.lineage.ranges import Ranges
from headwater.lineage.record import Record, run_of
from headwater.lineage.topic import ACTIVATIONS

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

POLL = timedelta(milliseconds=5)
"""How often it is looked whether the journal is read."""
COLLECT = timedelta(milliseconds=20)
"""How often what has finished is collected: for the records only, effects are out by then."""
LAPSE = timedelta(seconds=1)
"""The soonest that the end of a suspension is looked for."""
GRACE_S = 5.0
LEAST_IN_FLIGHT = 200
"""An agent may have so many decisions under way in one partition; more where its partitions together then have twice as many as there are
places for attempts: a decision that is being written down takes none."""
EXPIRE_AFTER_US = 10_000_000
"""After a start verdicts that came meanwhile are read first; then reviews that have waited too long end."""
LOOK_US = 200_000
"""How often reviews are looked at for that."""
REOPEN_S = 0.5
"""How long it waits before it asks again for a journal that could not be opened."""

_log = structlog.get_logger("headwater.decide")


class State(msgspec.Struct):
    """What survives of one (agent, partition): what is in flight, which reviews wait, from where its journal is read, what is known."""

    partition: int
    items: list[Item]
    since: int
    form: int = 2
    spent: dict[str, Spent] = {}
    memory: list[Memory] = []
    verdicts: list[Verdict] = []
    waiting: list[Waiting] = []


_encode_state = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(State).decode


def decide_logic(run: "Runtime", agent: Agent) -> Callable[[bytes | None], "DecideLogic"]:
    """The builder of one agent's keyed logic."""
    return lambda resume: DecideLogic(run, agent, resume)


class DecideLogic(StatefulBatchLogic[Woken, list[Record], bytes]):
    """Feeds one decider and hands on what it finished. What is in flight is the state: after a crash it is submitted again.

    Opening fences the former owner (a) and does not wait while its decisions are read to the end (b): other agents' logics run in
    this very thread, and theirs may have to open first. What comes meanwhile waits in `_early`; only then (c) is it submitted.

    After a second kill in a row the engine may give back a state that is ahead of the source: what was in flight then comes once more
    from there. How a position ended is told once (`_told`).
    """

    def __init__(self, run: "Runtime", agent: Agent, resume: bytes | None) -> None:
        self._run, self._agent = run, agent
        self._flow = f"decide/{agent.name}"
        self._decider: Decider | None = None
        self._journal: KafkaJournal | None = None
        self._early: list[Item | Verdict] = []
        self._waiting: list[Waiting] = []
        self._look_at = run.clock() + EXPIRE_AFTER_US
        self._partition = -1
        self._since = 0
        self._next = 0
        self._reached = -1
        self._told = Ranges()
        self._underway: list[int] = []
        self._known: State | None = State(-1, [], 0)
        if resume is not None:
            state = _decode_state(resume)
            self._open(state.partition, state.since)
            self._early, self._waiting = [*state.items, *state.verdicts], state.waiting
            self._known = state

    def _open(self, partition: int, since: int) -> None:
        self._partition, self._since = partition, since
        self._run.opening.add((self._agent.name, partition))
        self._journal = KafkaJournal(self._run.kafka, self._run.broker, self._run.app.name, self._agent.name, partition, since)
        self._run.closing(self._journal.close)

    def _begin(self) -> None:
        """Once the journal is read, what waited for it goes to the decider. One that could not be read is opened anew."""
        if self._decider is not None or self._journal is None or not self._journal.ready:
            return
        try:
            entries = self._journal.book
        except Unavailable as error:
            self._begin_anew(error)
            return
        self._recall(entries)
        most = max(LEAST_IN_FLIGHT, 2 * self._run.settings.agents_at_once // self._run.app.activations)
        decider = Decider(
            self._agent, self._run.ports, self._journal, Book(entries), self._run.loop, max_in_flight=most, waiting=self._waiting
        )  # fmt: skip
        self._decider = self._run.deciders[self._agent.name, self._partition] = decider
        self._run.opening.discard((self._agent.name, self._partition))
        early, self._early = self._early, []
        self._submit(early)

    def _let_go(self, decider: Decider) -> None:
        """What is in flight waits for another decider."""
        assert self._journal is not None
        self._early = self._in_flight()
        self._waiting = decider.waiting()
        self._since = self._journal.since(self._decisions(self._early))
        del self._run.deciders[self._agent.name, self._partition]
        self._decider = None
        decider.close(0.0)

    def _begin_anew(self, error: HeadwaterError) -> None:
        """A journal that broke, though no other owner took it, gets a new owner here: fenced, read back, and given what was in flight.

        So the flow outlives what a client does not recover from. While the broker does not answer, this waits for it.
        """
        stop = self._run.stops["decide"]
        if stop.is_set():
            raise error
        _log.warning("the journal is opened anew", agent=self._agent.name, partition=self._partition, error=str(error))
        while True:
            try:
                self._open(self._partition, self._since)
                return
            except Unavailable as refused:
                if stop.wait(REOPEN_S):
                    raise
                _log.warning("the journal cannot be opened; trying again", agent=self._agent.name, error=str(refused))

    def _decisions(self, items: Iterable[Item | Verdict]) -> list[str]:
        """The decisions that what is in flight is about."""
        return [item.decision if isinstance(item, Verdict) else decision_id(self._agent.name, item.activation.id) for item in items]

    def _submit(self, items: Iterable[Item | Verdict]) -> None:
        if self._decider is None:
            self._early += items
            return
        new: list[Item | Verdict] = []
        for item in items:
            if isinstance(item, Verdict):
                new.append(item)
                continue
            offset = int(item.position.rpartition("/")[2])
            self._next = max(self._next, offset + 1)
            if not self._told.overlap(offset, offset + 1):
                heapq.heappush(self._underway, offset)
                new.append(item)
        self._decider.submit(*new)

    def _in_flight(self) -> list[Item | Verdict]:
        return [*(self._decider.in_flight() if self._decider is not None else ()), *self._early]

    def on_batch(self, values: list[Woken]) -> tuple[Iterable[list[Record]], bool]:
        records: list[Record] = []
        for woken in values:
            if self._journal is None:
                self._open(woken.partition, 0)
            self._submit((*woken.items, *woken.verdicts))
            self._next = max(self._next, woken.next)
            records += woken.records
        return ([[*records, *self._finished()]], StatefulBatchLogic.RETAIN)

    def on_notify(self) -> tuple[Iterable[list[Record]], bool]:
        records = self._finished()
        return ([records] if records else [], StatefulBatchLogic.RETAIN)

    def on_eof(self) -> tuple[Iterable[list[Record]], bool]:
        """What runs gets a grace; what is left stays in the snapshot."""
        if self._decider is None:
            return ([], StatefulBatchLogic.RETAIN)
        self._decider.close(GRACE_S)
        return ([self._finished()], StatefulBatchLogic.RETAIN)

    def notify_at(self) -> datetime | None:
        opening = self._journal is not None and self._decider is None
        if opening or self._early:
            return datetime.now(UTC) + POLL
        if self._decider is None:
            return None
        if self._decider.busy:
            return datetime.now(UTC) + COLLECT
        expires = [max(each.expires, self._look_at) for each in self._decider.waiting()]
        lapse = self._run.ports.memories.next_lapse(self._journal_name)
        soonest = [to_datetime(min(expires))] if expires else []
        if lapse is not None:
            soonest.append(max(to_datetime(lapse), datetime.now(UTC) + LAPSE))
        return min(soonest, default=None)

    def snapshot(self) -> bytes:
        assert self._journal is not None
        held = self._in_flight()  # before the reviews that wait: what is in neither has ended
        if self._decider is not None:
            self._since = self._journal.since(self._decisions(held))
            self._waiting = self._decider.waiting()
        items = [each for each in held if isinstance(each, Item)]
        verdicts = [each for each in held if isinstance(each, Verdict)]
        ports, name = self._run.ports, self._journal_name
        spent, memory = ports.reins.totals(self._agent, name), ports.memories.kept(name, self._run.clock())
        if self._known is not None:  # nothing is known yet of what came after it
            spent, memory = self._known.spent, self._known.memory
        state = State(self._partition, items, self._since, spent=spent, memory=memory, verdicts=verdicts, waiting=self._waiting)
        return _encode_state(state)

    def _recall(self, entries: Sequence[Entry]) -> None:
        """What was spent and is remembered: the snapshot's, then the journal's behind it. What this process has known since is newer."""
        if self._known is None:
            return
        ports, name = self._run.ports, self._journal_name
        ports.reins.recall(self._agent, name, self._known.spent, entries)
        firsts: dict[str, Decided] = {}
        for entry in entries:
            if isinstance(entry, Decided):
                firsts.setdefault(entry.id, entry)
        ports.memories.keep(name, [*self._known.memory, *firsts.values()])
        self._known = None

    @property
    def _journal_name(self) -> str:
        return f"{self._agent.name}/{self._partition}"

    def _finished(self) -> list[Record]:
        self._begin()
        if self._decider is None:
            return []
        self._expire()
        try:
            done = self._decider.poll()
        except Broken as error:
            self._let_go(self._decider)
            self._begin_anew(error)
            return []
        now = self._run.clock()
        records: list[Record] = []
        for finished in done:
            records += finished.records
            if finished.position:
                records += self._buried(finished, now)
                records.append(self._outcome(finished, now))
            self._forget(finished)
        if done:
            self._count(done)
        self._tell()
        return records + [lapse_record(self._flow, each, now) for each in self._run.ports.memories.lapsed(self._journal_name, now)]

    def _count(self, done: Sequence[Finished]) -> None:
        self._run.meter.wrote([position for finished in done for position in _effects(finished)])
        for outcome, many in Counter(each.outcome for each in done if each.position and each.decision).items():
            self._run.meter.count(f"decisions {outcome}", many)

    def _outcome(self, finished: Finished, now: int) -> Record:
        where = Position.parse(finished.position)
        self._told.add(where.offset, where.offset + 1)
        parents = (finished.activation,)
        return run_of("outcome", self._flow, where, where.offset + 1, 1, now, finished.outcome, ref=finished.decision, parents=parents)

    def _buried(self, finished: Finished, now: int) -> list[Record]:
        """The dead letter of an activation whose decision failed outside."""
        if finished.failure is None:
            return []
        where = Position.parse(finished.position)
        message = message_at(self._run.kafka, where.topic, where.partition, where.offset)
        if message is None:  # retention took it: what is left is its name
            message = Message(*where[1:], now // 1000, None, None, [("ce_id", finished.activation.encode())])
        return bury_all(self._flow, [Failure(message, where, finished.failure)], self._run.writer, now, own=True, apart=True)

    def _expire(self) -> None:
        """End reviews that have waited too long: not at once after a start, for verdicts may have come meanwhile."""
        now = self._run.clock()
        if self._decider is not None and now >= self._look_at:
            self._look_at = now + LOOK_US
            self._decider.expire(now)

    def _forget(self, finished: Finished) -> None:
        if self._journal is not None and finished.decision:
            self._journal.forget(finished.decision)

    def _tell(self) -> None:
        """How far this agent is: everything below its oldest item in flight."""
        while self._underway and self._told.overlap(self._underway[0], self._underway[0] + 1):
            heapq.heappop(self._underway)
        reached = self._underway[0] if self._underway else self._next
        if reached == self._reached:
            return
        self._reached = reached
        self._run.meter.reached(self._flow, ACTIVATIONS, self._partition, reached)


def _effects(finished: Finished) -> list[Position]:
    """Where the events lie that a decision published."""
    tokens = [record.data.get("position") for record in finished.records if record.kind == "effect"]
    return [Position.parse(token) for token in tokens if token]

