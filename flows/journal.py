"""The journal on Kafka: a transactional producer per (agent, partition), whose id fences the former owner.

Correctness rests on the fence, never on abort: what a fenced owner had open stays out, and readers take the first `decided` of an id.
Commits are grouped: what arrives within a few milliseconds shares one transaction.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from confluent_kafka import KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from headwater.agents.journal import Decided, Done, Entry, Outgoing, decode, encode
from headwater.flows.kafka import Kafka
from headwater.flows.source import drain
from headwater.lineage.errors import Terminal, Unavailable
from headwater.lineage.event import Position, to_binary
from headwater.lineage.topic import DECISIONS

_log = structlog.get_logger("headwater.journal")

GROUP_S = 0.005
"""How long a commit waits for company."""
LARGEST_GROUP = 500
LOOK_BACK = 20_000
"""Offsets: an activation that comes a second time (its flow was killed between two snapshots) is known within this distance."""
_COMMIT_S = 20.0
_TRANSACTION_S = 30.0
_READ_S = 2 * _TRANSACTION_S
"""An open transaction that nobody ends is ended by the broker after `_TRANSACTION_S`, at its next look around."""


class Fenced(Terminal):
    """Another process owns this journal now; this one must stop."""

    cause = "fenced"


@dataclass
class _Request:
    entries: Sequence[Entry]
    effects: Sequence[Outgoing]
    answer: "asyncio.Future[list[str]]"
    loop: asyncio.AbstractEventLoop
    placed: dict[int, Position] = field(default_factory=dict)


class KafkaJournal:
    """The decisions of one agent in one partition. Opening it fences the former owner at once; what was decided is read beside.

    Reading waits until no transaction is open before the end of the partition: one that another agent's killed owner left there hides
    all that comes after it, ours included. That agent's next owner ends it by fencing; so opening must not wait for reading.
    """

    def __init__(self, kafka: Kafka, broker: str, app: str, agent: str, partition: int, since: int = 0) -> None:
        self._kafka, self._broker, self._agent, self._partition = kafka, broker, agent, partition
        self._producer: Producer = kafka.producer(
            transactional_id=f"headwater-{app}-{agent}-{partition}",
            transaction_timeout_ms=int(_TRANSACTION_S * 1000),
            message_timeout_ms=20_000,
            linger_ms=0,
        )
        try:
            self._producer.init_transactions(30)
        except KafkaException as error:
            raise Unavailable(f"the journal of {agent}/{partition} cannot be opened: {error.args[0].str()}") from None
        self._since = self._end = since
        self._decided_at: dict[str, int] = {}
        self._book: Future[list[Entry]] = Future()
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
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

    def _read_back(self) -> None:
        try:
            self._mark_opened()
            place = (self._kafka, DECISIONS, self._partition, self._since)
            there = drain(*place, "read_uncommitted")  # ends of partitions cannot be compared: markers count for some readers only
            messages = drain(*place, until=there[-1].offset + 1 if there else 0, patience_s=_READ_S)
            self._book.set_result([entry for message in messages if (entry := self._read(message)) is not None])
        except BaseException as error:
            self._book.set_exception(error)

    def _mark_opened(self) -> None:
        """A transaction of our own in our partition: some brokers end what a killed owner left open there only then, not at the fence."""
        self._producer.begin_transaction()
        told = msgspec.json.encode({"entry": "opened", "agent": self._agent})
        self._producer.produce(DECISIONS, told, self._agent.encode(), partition=self._partition, headers=[("opened", self._agent.encode())])
        self._flush()
        self._producer.commit_transaction(_COMMIT_S)

    def _read(self, message: Any) -> Entry | None:
        self._end = message.offset + 1
        if dict(message.headers).get("agent") != self._agent.encode():
            return None
        entry = decode(message.value or b"")
        if isinstance(entry, Decided):
            self._decided_at.setdefault(entry.id, message.offset)
        return entry

    def since(self, decisions: Iterable[str]) -> int:
        """From where a next owner must read to know these decisions, all later ones, and enough earlier ones to tell a duplicate."""
        oldest = min((self._decided_at[d] for d in list(decisions) if d in self._decided_at), default=self._end)
        return max(0, oldest - LOOK_BACK)

    def forget(self, decision: str) -> None:
        """This decision's outcome is in a snapshot; no later owner asks for it."""
        self._decided_at.pop(decision, None)

    async def append(self, entries: Sequence[Entry]) -> None:
        await self._ask(entries, ())

    async def perform(self, effects: Sequence[Outgoing], done: Done) -> list[str]:
        return await self._ask((done,), effects)

    async def _ask(self, entries: Sequence[Entry], effects: Sequence[Outgoing]) -> list[str]:
        loop = asyncio.get_running_loop()
        request = _Request(entries, effects, loop.create_future(), loop)
        self._requests.put(request)
        return await request.answer

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join(_COMMIT_S)

    def _run(self) -> None:
        self._read_back()
        while (first := self._requests.get()) is not None:
            group = [first]
            until = time.monotonic() + GROUP_S
            while len(group) < LARGEST_GROUP:
                try:
                    request = self._requests.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if request is None:
                    self._requests.put(None)
                    break
                group.append(request)
            self._commit(group)

    def _commit(self, group: list[_Request]) -> None:
        try:
            self._producer.begin_transaction()
            for request in group:
                for index, effect in enumerate(request.effects):
                    self._send(effect, request, index)
            self._flush()
            for request in group:
                tokens = [str(request.placed[index]) for index in range(len(request.effects))]
                for entry in request.entries:
                    self._write(entry.placed(tokens) if isinstance(entry, Done) else entry)
            self._flush()
            self._producer.commit_transaction(_COMMIT_S)
        except (KafkaException, Unavailable) as error:
            self._refuse(group, error)
            return
        for request in group:
            self._answer(request, [str(request.placed[index]) for index in range(len(request.effects))])

    def _send(self, effect: Outgoing, request: _Request, index: int) -> None:
        headers, value = to_binary(effect.event)

        def delivered(error: Any, message: KafkaMessage) -> None:
            if error is None:
                request.placed[index] = Position(self._broker, message.topic(), message.partition(), message.offset())

        key = effect.key if effect.key is not None else effect.id
        self._producer.produce(effect.topic, value, key.encode(), headers=headers, on_delivery=delivered)

    def _write(self, entry: Entry) -> None:
        def delivered(error: Any, message: KafkaMessage) -> None:
            if error is None:
                self._end = max(self._end, message.offset() + 1)
                if isinstance(entry, Decided):
                    self._decided_at.setdefault(entry.id, message.offset())

        headers = [("agent", self._agent.encode()), ("content-type", b"application/json")]
        self._producer.produce(
            DECISIONS, encode(entry), entry.id.encode(), partition=self._partition, headers=headers, on_delivery=delivered
        )

    def _flush(self) -> None:
        if left := self._producer.flush(_COMMIT_S):
            raise Unavailable(f"{left} journal entries of {self._agent}/{self._partition} are not acknowledged")

    def _refuse(self, group: list[_Request], error: Exception) -> None:
        cause = error.args[0] if isinstance(error, KafkaException) else None
        refusal: Exception
        if cause is not None and cause.fatal():
            refusal = Fenced(f"the journal of {self._agent}/{self._partition} has another owner now ({cause.name()})")
        else:
            refusal = Unavailable(f"the journal of {self._agent}/{self._partition} did not commit: {error}")
            try:
                self._producer.abort_transaction(_COMMIT_S)
            except KafkaException as failed:
                _log.warning("abort failed", agent=self._agent, error=str(failed))
        for request in group:
            request.loop.call_soon_threadsafe(_settle, request.answer, None, refusal)

    def _answer(self, request: _Request, tokens: list[str]) -> None:
        request.loop.call_soon_threadsafe(_settle, request.answer, tokens, None)


def _settle(future: "asyncio.Future[list[str]]", tokens: list[str] | None, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(tokens or [])
