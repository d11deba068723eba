"""A lane: one topic in one direction of a bridge, carried by a thread of its own with a transactional producer.

No message is lost or doubled, whenever this process is killed, cut off or replaced, because
  1. the transactional id names both brokers and the topic: opening a lane fences every other one of the same, in any process, and ends
     what it had begun, so that from then on nobody but us adds messages of this source to the target's topic;
  2. only then the target is asked where the link stands (`readback`): what its readers can see of us, and nothing else, counts as
     carried; all that comes after is sent, in source order, each partition to the one of the same number;
  3. whatever goes wrong with a transaction, nothing is concluded from it: the producer is dropped and the lane opened anew (1, 2).
     So it does not matter whether a commit whose answer was lost has happened, nor whether a broker hides what was aborted.
     But a lane that another has opened since is not opened anew, it ends: a mark at the target tells (`ownership`);
  4. a source partition is settled (and its source goes on from there after a restart) only behind a commit.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from headwater.flows.crossing import Carry, Crossing, Ended, Group, bytes_of, plain
from headwater.flows.delivery import Told, cause_of, teller
from headwater.flows.kafka import Kafka
from headwater.flows.ownership import Mark as Owner
from headwater.flows.readback import Mark, Notes, read_back
from headwater.flows.source import Batch
from headwater.lineage.decode import Failure
from headwater.lineage.errors import Forbidden, Invalid, Misused, Oversized, Retryable, Terminal, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.record import Record
from headwater.lineage.topic import LINKS

_log = structlog.get_logger("headwater.bridge")

MOST_WAITING = 20_000
MOST_BYTES = 16_000_000
"""What may wait in a lane, messages and bytes of values; beyond it the source's partitions are paused. One batch may exceed it."""
LARGEST_GROUP = 5_000
"""Messages that share a transaction, unless one batch has more."""
GROUP_S = 0.005
"""How long a small transaction waits for company: with one message each, every second offset of the target is a marker."""
TRANSACTION_S = 60.0
CALL_S = 1.0
"""How long one call to the target may take before we look whether we are to stop."""
PATIENCE_S = 8.0
"""How long a transaction may take before the lane is opened anew: after a cut link a client was seen to ask for the same thing forever."""
NOTE_S = 1.0
"""How often it is noted at the target where the lane stands."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 3.0
_FENCED = frozenset((KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH))
_TOO_LARGE = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG_SIZE))


class Fenced(Terminal):
    """Another process runs the same lane now; this one must stop."""

    cause = "fenced"


class _Stopped(Exception):
    """The lane was told to stop meanwhile."""


class Lane:
    """Takes batches of one topic, hands them back when they are done with, in order. Opening, sending and waiting happen in its thread.

    target    the broker that is written to
    source    the id of the broker that the batches come from
    parts     how many partitions the topic has there
    bury      writes dead letters and waits until they are safe; gives their records
    notes     where the target keeps how far the lane has come
    """

    def __init__(
        self,
        name: str,
        target: Kafka,
        source: str,
        topic: str,
        parts: int,
        *,
        carry: Carry,
        bury: Callable[[Sequence[Failure]], list[Record]],
        notes: Notes,
        compact: bool = False,
    ) -> None:
        self.name, self.topic, self.source = name, topic, source
        self._deadline = 0.0
        self._taken = f"{name}: {topic} is carried by another bridge now; let one side of the two regions run this link"
        self.parts = parts
        self._target, self._carry, self._bury, self._compact = target, carry, bury, compact
        self._marks: dict[int, Mark] = {}
        self._there = ""
        self._owner: Owner | None = None
        self._notes = notes
        self._noted: dict[int, Mark] = {}
        self._noted_at = 0.0
        self._changed = threading.Condition()
        self._waiting: deque[Batch] = deque()
        self._group: Group | None = None
        self._done: deque[Ended] = deque()
        self._messages = self._bytes = self._open_batches = 0
        self._stop = threading.Event()
        self._in_trouble = False
        self._pause = FIRST_PAUSE_S
        self.broken: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name=f"lane-{name}-{topic}", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Have a batch carried over. Never waits."""
        with self._changed:
            self._waiting.append(batch)
            self._open_batches += 1
            self._messages += len(batch.messages)
            self._bytes += bytes_of(batch)
            self._changed.notify()

    def room(self) -> bool:
        """Whether more may be read for it."""
        return self._messages < MOST_WAITING and self._bytes < MOST_BYTES

    def busy(self) -> bool:
        """Whether something was put in that was not taken out."""
        return self._open_batches > 0

    def poll(self) -> list[Ended]:
        """What is done since the last call, in the order it was put in."""
        with self._changed:
            found = [*self._done]
            self._done.clear()
            self._open_batches -= len(found)
        return found

    def finish(self, patience: float) -> None:
        """Wait so many seconds for what was put in, then stop. What is left was not told as done: its source reads it again."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._done) == self._open_batches or self.broken is not None, max(0.0, patience))
        self._stop.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(2 * CALL_S)

    def _main(self) -> None:
        while not self._stop.is_set():
            try:
                self._run()
            except _Stopped:
                self._note()
                return
            except BaseException as error:
                broken = self._breaking(error)
                if broken is not None:
                    self.broken = broken
                    with self._changed:
                        self._changed.notify_all()
                    return
                _log.warning("a lane is opened anew", lane=self.name, topic=self.topic, error=self._told(error))
            self._stop.wait(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)

    def _breaking(self, error: BaseException) -> BaseException | None:
        """What ends this lane, and so its flow; None: try again."""
        found = error.__cause__ if isinstance(error, SystemError) and error.__cause__ is not None else error
        if isinstance(found, KafkaException):
            # A transaction that stood open too long, for the link was cut or we were stopped, is ended by the broker with a fence too.
            if found.args[0].code() in _FENCED and not self._in_trouble:
                return Fenced(self._taken)
            return None
        if isinstance(found, Retryable):
            return None
        return found

    def _run(self) -> None:
        producer = self._open()
        self._in_trouble = False
        while True:
            if self._group is None:
                self._group = self._gather()
            if self._group is not None:
                self._settle(producer, self._group)
                self._group = None
            if time.monotonic() - self._noted_at > NOTE_S:
                self._note()

    def _note(self) -> None:
        changed = {p: mark for p, mark in self._marks.items() if self._noted.get(p) != mark}
        if changed:
            self._notes.write(self.topic, changed)
        self._noted, self._noted_at = dict(self._marks), time.monotonic()

    # ---- opening: fence, then ask

    def _open(self) -> Producer:
        there = self._target.broker_id(CALL_S * 5)
        if there == self.source:
            raise Misused(f"{self.name}: both ends are the same broker, {there}; the bridge's bootstrap servers must be the other region's")
        link = f"headwater-bridge-{self.source}-{there}-{self.topic}"
        if self._owner is None or there != self._there:
            self._there, self._owner = there, Owner(self._target, LINKS, 0, link)
        self._look(self._owner)
        self._make_topic()
        times = {"transaction_timeout_ms": int(TRANSACTION_S * 1000), "message_timeout_ms": int(TRANSACTION_S * 500)}
        producer = self._target.producer(transactional_id=link, **times)
        self._deadline = time.monotonic() + PATIENCE_S
        self._repeat(producer.init_transactions)
        self._mark(producer, self._owner)
        marks = self._notes.read(self.topic, self.parts)
        self._marks = read_back(self._target, self.source, self.topic, self.parts, marks, self._stop)
        _log.info("a lane is open", lane=self.name, topic=self.topic, marks=self._marks)
        return producer

    def _look(self, owner: Owner) -> None:
        """Before a lane is opened again, which fences others. Raises Fenced if another came, Unavailable if the target does not tell."""
        passed = owner.passed_by(CALL_S * 5) if owner.lies else False
        if passed is None:
            raise Unavailable(f"the broker at {self._target.address} does not tell whether another bridge carries {self.topic} now")
        if passed:
            raise Fenced(self._taken)

    def _mark(self, producer: Producer, owner: Owner) -> None:
        """Leave a mark, so that whom we fenced finds it. Raises KafkaException."""
        producer.begin_transaction()
        owner.leave(producer)
        self._flush(producer)
        if owner.refused is not None:
            raise cause_of(producer, owner.refused, CALL_S)
        self._repeat(producer.commit_transaction)

    def _make_topic(self) -> None:
        self._target.create({LINKS: 1})
        there = self._target.partitions(self.topic)
        if not there:
            self._target.create({self.topic: self.parts}, [self.topic] if self._compact else ())
        elif there != self.parts:
            raise Misused(
                f"{self.name}: topic {self.topic} has {self.parts} partitions where it is read and {there} where it is to be written "
                f"({self._target.address}); a bridge keeps partition numbers, so make them equal, or leave the topic out"
            )

    # ---- one group

    def _gather(self) -> Group | None:
        """What waits, as much as one transaction takes; None: nothing does. Raises _Stopped."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._stop.is_set(), NOTE_S):
                return None
            if not self._stop.is_set() and self._messages < LARGEST_GROUP // 10:
                self._changed.wait_for(lambda: self._messages >= LARGEST_GROUP // 10 or self._stop.is_set(), GROUP_S)
            if self._stop.is_set():
                raise _Stopped
            batches: list[Batch] = []
            count = 0
            while self._waiting and (not batches or count + len(self._waiting[0].messages) <= LARGEST_GROUP):
                batches.append(self._waiting.popleft())
                count += len(batches[-1].messages)
        group = Group([Ended(batch) for batch in batches], [])
        for ended in group.ended:
            self._sort(ended, group.crossing)
        return group

    def _sort(self, ended: Ended, crossing: list[Crossing]) -> None:
        """What crosses, what stays, what is refused."""
        batch = ended.batch
        for message in batch.messages:
            where = Position(batch.broker, batch.topic, batch.partition, message.offset())
            try:
                headers = self._carry(message.headers(), where, self._there)
            except (Forbidden, Invalid) as error:
                ended.refused[where.offset] = Failure(plain(message), where, error)
                continue
            if headers is not None:
                crossing.append(Crossing(message, headers))
                ended.carried += 1

    def _settle(self, producer: Producer, group: Group) -> None:
        """Carry over what is not there yet, bury what is refused, and tell. Raises what makes the lane open anew."""
        missing = [one for one in group.crossing if one.offset >= self._marks[one.partition].forwarded]
        for part in [[one] for one in missing] if group.singly else [missing] if missing else []:
            self._transact(producer, group, part)
        for ended in group.ended:
            if ended.refused and not ended.records:
                ended.records = self._bury(list(ended.refused.values()))
        self._tell(group)

    def _tell(self, group: Group) -> None:
        for ended in group.ended:
            p = ended.batch.partition
            if ended.carried:
                ended.written = [Position(self._there, self.topic, p, self._marks[p].since)]
        with self._changed:
            self._done += group.ended
            self._messages -= sum(len(ended.batch.messages) for ended in group.ended)
            self._bytes -= sum(bytes_of(ended.batch) for ended in group.ended)
            self._changed.notify_all()

    # ---- one transaction

    def _transact(self, producer: Producer, group: Group, crossing: list[Crossing]) -> None:
        self._deadline = time.monotonic() + PATIENCE_S
        try:
            producer.begin_transaction()
            marks = self._fill(producer, crossing)
            self._repeat(producer.commit_transaction)
        except KafkaException as error:
            self._in_trouble = self._in_trouble or time.monotonic() > self._deadline
            self._doubt(error.args[0], group, crossing)
            raise
        self._in_trouble, self._pause = False, FIRST_PAUSE_S
        self._marks.update(marks)

    def _fill(self, producer: Producer, crossing: list[Crossing]) -> dict[int, Mark]:
        """Produce all and wait until they are acknowledged; gives the marks that follow. Raises KafkaException."""
        found: dict[int, Mark] = {}
        failed: list[KafkaError] = []
        last = {one.partition: one for one in crossing}
        for one in crossing:
            told = teller(one, found, failed) if last[one.partition] is one else None
            self._produce(producer, one, told)
        self._flush(producer)
        if failed:
            raise cause_of(producer, failed[0], CALL_S)
        return found

    def _flush(self, producer: Producer) -> None:
        while producer.flush(CALL_S):
            self._in_trouble = True
            self._alive()

    def _produce(self, producer: Producer, one: Crossing, told: Told | None) -> None:
        message = one.message
        kind, stamp = message.timestamp()
        more: dict[str, Any] = {"timestamp": stamp} if kind and stamp > 0 else {}
        if told is not None:
            more["on_delivery"] = told
        while True:
            try:
                producer.produce(self.topic, message.value(), message.key(), partition=one.partition, headers=one.headers, **more)
                return
            except BufferError:  # the client's queue is full: let the target catch up
                self._alive()
                producer.poll(0.1)

    def _doubt(self, cause: KafkaError, group: Group, crossing: list[Crossing]) -> None:
        """The target takes no message as large as one of these: each is sent alone then, and the one that is refused again is buried."""
        if cause.code() not in _TOO_LARGE:
            return
        if len(crossing) > 1:
            group.singly = True
        else:
            one = crossing[0]
            size = len(one.message.value() or b"")
            group.refuse(one, Oversized(f"the other region's broker takes no message of this size ({size} bytes and its headers)"))

    def _repeat(self, call: Callable[[float], Any]) -> None:
        """Call again until it is known how it ended: called again the client takes up the same request. Raises KafkaException, _Stopped."""
        while True:
            try:
                call(CALL_S)
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                self._in_trouble = True
                self._alive()
                self._stop.wait(0.02)

    def _told(self, error: BaseException) -> str:
        found = error.__cause__ or error
        return self._target.told(found) if isinstance(found, KafkaException) else f"{type(found).__name__}: {found}"

    def _alive(self) -> None:
        """Whether waiting goes on. Raises _Stopped, Unavailable."""
        if self._stop.is_set():
            raise _Stopped
        if time.monotonic() > self._deadline:
            raise Unavailable(f"the broker at {self._target.address} left a transaction without an answer for {PATIENCE_S:g} s")
