"""The journal on Kafka: a transactional producer per (agent, partition), whose id fences the former owner.

Correctness rests on the fence, never on abort: what a fenced owner had open stays out, and readers take the first `decided` of an id.
Commits are grouped: what arrives within a few milliseconds shares one transaction.
A commit whose answer is late is asked for again, never aborted: aborted or not would be unknown, and some readers see what was aborted.
The embedded broker gives a fenced owner no answer at all: there who waits for one looks whether another owner came.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from headwater.agents.journal import Decided, Done, Entry, Outgoing, Page, decode_page, pages
from headwater.flows.drain import drain
from headwater.flows.group import Request, Requests, settle
from headwater.flows.kafka import Kafka, is_embedded
from headwater.flows.ownership import Mark
from headwater.flows.places import Places
from headwater.flows.placing import Placing, Run
from headwater.flows.recall import decided_at
from headwater.lineage.errors import EffectFailed, HeadwaterError, Terminal, Unavailable
from headwater.lineage.event import Message, Position, to_binary
from headwater.lineage.topic import DECISIONS

_log = structlog.get_logger("headwater.journal")

COMMIT_S = 20.0
"""How long one call to the broker may take before the same commit is asked for again."""
LOOK_S = 2.0
"""How long the embedded broker may leave a commit without an answer before its owner looks whether it is one still."""
_LOOKS = 15
"""How often it finds that nobody else came, though the broker answers readers all the while; then this owner breaks, the next asks anew."""
_PAUSE_S = 0.05
_ABORTS = 2
"""How many times `commit_s` an abort may take before this owner breaks."""
_TRANSACTION_S = 30.0
_LINGER_MS = 200
"""A group is sent whole, when it is flushed, which waits for no lingering: not in as many requests as it has messages."""
_OPEN_S = 2 * _TRANSACTION_S
"""How long opening may take, and then reading: an open transaction that nobody ends is ended by the broker after `_TRANSACTION_S`, at its
next look around."""


class Fenced(Terminal):
    """Another process owns this journal now; this one must stop."""

    cause = "fenced"


class Broken(Terminal):
    """This owner can write no more and cannot mend it: closed, or its transactions are in no known state. The next owner starts afresh."""

    cause = "journal_broken"


_REFUSED = frozenset(
    (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    )
)
"""What sending again cannot mend."""
_TAKEN = frozenset((KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH))
"""A newer owner is there. An abort is told so by an error that is not fatal; taken for a broken journal, it would be opened anew and fence
that owner."""


class KafkaJournal:
    """The decisions of one agent in one partition. Opening it fences the former owner at once; what was decided is read beside.

    Reading waits until no transaction is open before the end of the partition: one that another agent's killed owner left there hides
    all that comes after it, ours included. That agent's next owner ends it by fencing; so opening must not wait for reading.
    The embedded broker shows what was aborted to every reader, and may leave a killed owner's transaction open for ever: there reading
    takes all that lies in the partition and waits for nothing. Every owner then reads the same, whatever was made of the transactions.

    While the broker does not answer, the same commit is asked for until it is known how it ended: its callers wait meanwhile, and
    nothing is sent twice. What breaks the journal (a fence, a state it cannot leave) is told to every caller, now and later.

    commit_s   how long one call to the broker may take before it is repeated
    """

    def __init__(
        self, kafka: Kafka, broker: str, app: str, agent: str, partition: int, since: int = 0, *, commit_s: float = COMMIT_S
    ) -> None:
        self._kafka, self._broker, self._agent, self._partition = kafka, broker, agent, partition
        self._commit_s = min(commit_s, LOOK_S) if is_embedded(broker) else commit_s
        self._abort_s = _ABORTS * commit_s
        self._mark = Mark(kafka, DECISIONS, partition, agent)
        self._producer: Producer = kafka.producer(
            transactional_id=f"headwater-{app}-{agent}-{partition}",
            transaction_timeout_ms=int(_TRANSACTION_S * 1000),
            message_timeout_ms=20_000,
            linger_ms=_LINGER_MS,
        )
        try:
            self._producer.init_transactions(_OPEN_S)
        except KafkaException as error:
            raise Unavailable(f"the journal of {agent}/{partition} cannot be opened: {kafka.told(error)}") from None
        self._since, self._places = since, Places(since)
        self._book: Future[list[Entry]] = Future()
        self._requests = Requests()
        self._placing = Placing(kafka)
        self._pending: list[Request] = []
        self._failed: list[KafkaError] = []
        self._closing = threading.Event()
        self._broken: HeadwaterError | None = None
        self._thread = threading.Thread(target=self._run, name=f"journal-{agent}-{partition}", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether `book` is there, or known not to come."""
        return self._book.done()

    @property
    def book(self) -> list[Entry]:
        """The entries from offset `since` to the end of the partition, as they lie there. Waits for them. Raises Unavailable."""
        return self._book.result()

    def _read_back(self) -> list[Entry]:
        self._mark_opened()
        place = (self._kafka, DECISIONS, self._partition, self._since)
        messages = drain(*place, "read_uncommitted")
        if not is_embedded(self._broker):  # ends of partitions cannot be compared: markers count for some readers only
            messages = drain(*place, until=messages[-1].offset + 1 if messages else 0, patience_s=_OPEN_S)
        return [entry for message in messages for entry in self._read(message)]

    def _mark_opened(self) -> None:
        """A transaction of our own in our partition: some brokers end what a killed owner left open there only then, not at the fence."""
        self._producer.begin_transaction()
        self._mark.leave(self._producer)
        self._flush()
        self._resume(self._producer.commit_transaction)

    def _read(self, message: Message) -> list[Entry]:
        self._places.end = message.offset + 1
        if dict(message.headers).get("agent") != self._agent.encode():
            return []
        entries = decode_page(message.value or b"")
        self._places.note(entries, message.offset)
        return entries

    def since(self, decisions: Iterable[str]) -> int:
        """From where a next owner must read to know these decisions, all later ones, and enough earlier ones to tell a duplicate."""
        return self._places.since(decisions)

    def forget(self, decision: str) -> None:
        """This decision's outcome is in a snapshot; no later owner asks for it."""
        self._places.forget(decision)

    def place(self, decision: str) -> int:
        """The offset of the message with the `decided` of a decision, until that is forgotten."""
        return self._places.of(decision)

    async def recall(self, decision: str, place: int) -> Decided:
        return await asyncio.to_thread(decided_at, self._kafka, self._partition, place, decision)

    async def append(self, entries: Sequence[Entry]) -> None:
        await self._ask(entries, ())

    async def perform(self, effects: Sequence[Outgoing], done: Done, decided: Decided | None = None) -> list[str]:
        return await self._ask((done,), effects, decided)

    async def _ask(self, entries: Sequence[Entry], effects: Sequence[Outgoing], first: Entry | None = None) -> list[str]:
        loop = asyncio.get_running_loop()
        request = Request(entries, effects, loop.create_future(), loop, first)
        self._requests.put(request)
        if self._broken is not None:  # the thread may be gone and see it no more
            settle([request], self._broken)
        return await request.answer

    def close(self) -> None:
        self._closing.set()
        self._requests.end()
        self._thread.join(COMMIT_S)

    def _run(self) -> None:
        """The journal's thread. Whatever ends it, nobody is left waiting for an answer."""
        end: HeadwaterError = Broken(f"{self._name} is closed")
        try:
            self._book.set_result(self._read_back())
            while pending := self._requests.gather():
                self._pending = pending
                self._commit(self._pending)
                self._pending = []
        except BaseException as error:
            end = self._breaking(error)
            if not self._book.done():
                self._book.set_exception(error if isinstance(error, HeadwaterError) else end)
            if not self._closing.is_set():
                _log.warning("the journal broke", agent=self._agent, partition=self._partition, error=str(end))
        self._broken = end
        settle([*self._pending, *self._requests.left()], end)
        del self._producer  # the engine may keep who owned this journal for as long as the process lives

    @property
    def _name(self) -> str:
        return f"the journal of {self._agent}/{self._partition}"

    def _breaking(self, error: BaseException) -> HeadwaterError:
        """What callers are told about an error that ends this owner."""
        if isinstance(error, Terminal):
            return error
        # The client raises a fatal error in the midst of its callbacks, which then fail on it.
        found = error.__cause__ if isinstance(error, SystemError) else error
        cause = found.args[0] if isinstance(found, (KafkaException, _Undelivered)) else None
        if cause is not None and (cause.fatal() or cause.code() in _TAKEN):
            return Fenced(f"{self._name} has another owner now ({cause.name()})")
        told = self._kafka.told(cause) if cause is not None else f"{type(error).__name__}: {error}"
        return Broken(f"{self._name} can write no more: {told}; restart the flow, the next owner reads what was committed")

    def _commit(self, group: list[Request]) -> None:
        """One transaction. Unavailable or EffectFailed to all of the group where it was ended with nothing written.

        Raises what breaks this owner.
        """
        settle(group, self._write(group))

    def _write(self, group: list[Request]) -> HeadwaterError | None:
        self._failed = []
        self._producer.begin_transaction()
        try:
            self._fill(group)
        except (KafkaException, _Undelivered) as error:
            return self._given_up(error.args[0])  # nobody has asked for a commit yet
        except Unavailable as error:
            self._resume(self._producer.abort_transaction, self._abort_s)
            return error
        try:
            self._resume(self._producer.commit_transaction)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            return self._given_up(error.args[0])
        return None

    def _fill(self, group: list[Request]) -> None:
        """Decisions, then the events they begin with, then where these lie. What publishes nothing goes with the first."""
        new = [request.first for request in group if request.first is not None]
        publishing = [request for request in group if request.effects]
        self._write_down([*new, *(entry for request in group if not request.effects for entry in request.entries)])
        self._publish([(request, index) for request in publishing for index in range(len(request.effects))])
        self._write_down([
            entry.placed(request.tokens) if isinstance(entry, Done) else entry for request in publishing for entry in request.entries
        ])  # fmt: skip

    def _write_down(self, entries: Iterable[Entry]) -> None:
        for page in pages(entries):
            self._enter(page)
        self._flush()

    def _publish(self, effects: Sequence[tuple[Request, int]]) -> None:
        """Produce effects, and know where they lie. Raises Unavailable besides what producing does."""
        events = [request.effects[index] for request, index in effects]
        plan = self._placing.plan([(each.topic, _key_of(each), each.id) for each in events])
        for effect, (request, index), (run, number) in zip(events, effects, plan, strict=True):
            self._send(effect, request, index, run, number)
        self._flush()
        self._placing.complete({id(run): run for run, _ in plan}.values())
        for (request, index), (run, number) in zip(effects, plan, strict=True):
            if index not in request.placed and number in run.offsets:
                request.placed[index] = Position(self._broker, run.topic, run.partition, run.offsets[number])

    def _send(self, effect: Outgoing, request: Request, index: int, run: Run, number: int) -> None:
        headers, value = to_binary(effect.event)
        failed = self._failed  # of this transaction: what an abort throws away is told late

        def delivered(error: KafkaError | None, message: KafkaMessage) -> None:
            if error is None:
                run.offsets[number] = message.offset()
                request.placed[index] = Position(self._broker, message.topic(), message.partition(), message.offset())
            else:
                failed.append(error)

        more: dict[str, Any] = {"on_delivery": delivered} if run.asks(number) else {}
        if run.partition >= 0:
            more["partition"] = run.partition
        self._produce(effect.topic, value, _key_of(effect), headers=headers, **more)

    def _enter(self, page: Page) -> None:
        failed = self._failed

        def delivered(error: KafkaError | None, message: KafkaMessage) -> None:
            if error is not None:
                failed.append(error)
            else:
                self._places.note(page.entries, message.offset())

        headers = [("agent", self._agent.encode()), ("content-type", b"application/json")]
        key = page.entries[0].id.encode()
        self._produce(DECISIONS, page.value, key, partition=self._partition, headers=headers, on_delivery=delivered)

    def _produce(self, topic: str, value: bytes | None, key: bytes, **more: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, **more)
                return
            except BufferError:  # the client's queue is full: let the broker catch up
                self._producer.poll(0.1)

    def _flush(self) -> None:
        """Every message has its answer: an acknowledgement, or an error once its own time is over. Raises _Undelivered."""
        while self._producer.flush(self._commit_s) and not self._closing.is_set():
            _log.warning("the broker does not answer", agent=self._agent, partition=self._partition)
        if self._failed:
            raise _Undelivered(next((error for error in self._failed if error.code() in _REFUSED), self._failed[0]))

    def _resume(self, call: Callable[[float], None], patience_s: float = math.inf) -> None:
        """Commit or abort until it is known how that ended: called again, the client takes up the same commit, it sends none twice.

        Aborting instead of asking again would leave the client in a state it never leaves, and the outcome unknown.
        An abort itself may never end: after a broker stood still for longer than a transaction lasts, some refuse the client a new epoch
        for ever. Nobody has asked for that commit, so when patience is over this owner breaks, and the next one's fence ends it.
        """
        until, looks = time.monotonic() + patience_s, 0
        while True:
            try:
                call(self._commit_s)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or self._closing.is_set():
                    raise
                looks += self._look()
                if time.monotonic() > until or looks >= _LOOKS:
                    raise
                _log.warning("the broker does not answer", agent=self._agent, partition=self._partition, error=self._kafka.told(error))
                self._closing.wait(_PAUSE_S)

    def _look(self) -> bool:
        """Whether the embedded broker says that this is still the owner. Raises Fenced if another is."""
        if not is_embedded(self._broker):
            return False
        newer = self._mark.passed_by(self._commit_s)
        if newer:
            raise Fenced(f"{self._name} has another owner now (it left its mark, and the broker answers this one no more)")
        return newer is not None

    def _given_up(self, cause: KafkaError) -> HeadwaterError:
        """End a transaction that was not committed; gives what its callers are told. Raises what breaks this owner."""
        if cause.fatal():
            raise KafkaException(cause)
        self._resume(self._producer.abort_transaction, self._abort_s)
        told = self._kafka.told(cause)
        if cause.code() in _REFUSED:
            return EffectFailed(f"{self._name}: the broker refuses what is to be written: {told}; mend that and restart the flow")
        return Unavailable(f"{self._name} did not commit: {told}")


def _key_of(effect: Outgoing) -> bytes:
    return (effect.key if effect.key is not None else effect.id).encode()


class _Undelivered(Exception):
    """A message of the open transaction was not accepted; the KafkaError is its only argument."""
