"""Dead letters sent again or given up: each at most once, and with its record, or not at all.

A redrive puts original bytes, key and headers onto the original topic again, in one transaction with the record that says so. One process
at a time does it for an application: its transactional id fences the one before, and what that one had begun is undone by the broker
(a broker that shows what was undone shows the record too). What is closed already is known from lineage and from what has not landed yet.
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from headwater.flows.attempt import ATTEMPT, ID, ORIGIN, OURS, TRUNCATED, originals
from headwater.flows.drain import scan
from headwater.flows.kafka import Kafka
from headwater.flows.runtime import Runtime
from headwater.flows.sink import Outgoing
from headwater.flows.steps import to_lineage
from headwater.lineage.dead import Letter, Which, letters, place_of
from headwater.lineage.duration import format_time
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import STRUCTURED, Message, Position
from headwater.lineage.message import decode_batch
from headwater.lineage.record import Record, fact
from headwater.lineage.topic import DEAD, LINEAGE, rung_of

TOGETHER = 100
"""Dead letters that share a transaction."""
AT_MOST = 1000
"""Dead letters that one call deals with; who has more asks again."""
ANSWER_S = 20.0


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """What a call did, or would do. `position`: the token of each one's next life; `refused`: those left as they were, and why."""

    done: tuple[dict[str, str], ...] = ()
    refused: tuple[dict[str, str], ...] = ()
    dry_run: bool = False
    more: bool = False


class _Ready(NamedTuple):
    letter: Letter
    message: Outgoing | None


class DeadLetters:
    """The dead letters of a running application."""

    def __init__(self, run: Runtime) -> None:
        self._run = run
        self._one_at_a_time = threading.Lock()

    def redrive(self, which: Which, *, by: str, dry_run: bool = False) -> Closing:
        """Send again what waits. Raises Misused, NotFound, Unavailable (nothing of what is not in lineage happened)."""
        return self._close(which, by, dry_run, None)

    def drop(self, which: Which, *, by: str, reason: str, dry_run: bool = False) -> Closing:
        """Give up what waits, for a reason that is recorded. Raises Misused, NotFound, Unavailable."""
        if not reason.strip():
            raise Misused("say why these dead letters are dropped (--reason): it is recorded")
        return self._close(which, by, dry_run, reason)

    def message(self, letter: Letter) -> Message | None:
        """The message of a dead letter, whole, as it lies on headwater.dead; None if it is gone."""
        if letter.message:
            return self._messages([letter]).get(letter.id)
        # A gateway writes the record first, so that no letter is without one; where the letter lies is told by its id alone.
        return next((message for message in scan(self._run.kafka, DEAD, 0, 0) if dict(message.headers).get(ID) == letter.id.encode()), None)

    def _close(self, which: Which, by: str, dry_run: bool, reason: str | None) -> Closing:
        if which.anything:
            raise Misused("say which dead letters: ids, or a filter such as a cause, a topic or since when")
        with self._one_at_a_time:
            producer = None if dry_run else self._producer()
            closed = self._closed_lately()  # first: what lands meanwhile, the store tells
            found, more = letters(self._run.store, which, limit=AT_MOST)
            done: list[dict[str, str]] = []
            refused: list[dict[str, str]] = []
            for start in range(0, len(found), TOGETHER):
                chosen = found[start : start + TOGETHER]
                ready, left = self._ready(chosen, closed, drop=reason is not None, named=bool(which.ids))
                refused += left
                if producer is None:
                    done += [_told(each.letter) for each in ready]
                else:
                    done += self._commit(producer, ready, by, reason)
            return Closing(done=tuple(done), refused=tuple(refused), dry_run=dry_run, more=more is not None)

    def _ready(
        self, chosen: Sequence[Letter], closed: dict[str, str], *, drop: bool, named: bool
    ) -> tuple[list[_Ready], list[dict[str, str]]]:
        """Those that may be closed, with what is to be sent; and those that may not, with the reason. Filters pass over closed ones."""
        ready: list[_Ready] = []
        refused: list[dict[str, str]] = []
        messages = {} if drop else self._messages([letter for letter in chosen if letter.state == "waiting"])
        for letter in chosen:
            state = closed.get(letter.id, letter.state)
            if state != "waiting":
                if named:
                    refused.append({"id": letter.id, "why": f"it was {state} already; each is redriven or dropped once"})
                continue
            why = None if drop else self._unfit(letter, messages.get(letter.id))
            if why is not None:
                refused.append({"id": letter.id, "why": why})
            else:
                ready.append(_Ready(letter, None if drop else again(letter, messages[letter.id])))
        return ready, refused

    def _unfit(self, letter: Letter, message: Message | None) -> str | None:
        """Why a letter cannot be sent again, if it cannot."""
        if not letter.position:
            return f"it never lay on a topic: it came from {letter.origin}; mend it there and send it again"
        place = place_of(letter)
        if place.broker != self._run.broker:
            return f"its message lay with the broker {place.broker}, whose life is over; publish the event again"
        if place.topic not in self._run.app.partitions or rung_of(place.topic):
            return f"{place.topic} is no topic of this application"
        if message is None:
            return f"its message is no longer on {DEAD}: retention took it"
        if TRUNCATED in dict(message.headers):
            return "it was too large to be kept whole"
        return None

    def _messages(self, wanted: Sequence[Letter]) -> dict[str, Message]:
        """Dead letter id → its message, of this broker's life."""
        offsets = {}
        for letter in wanted:
            if letter.message and (at := Position.parse(letter.message)).broker == self._run.broker:
                offsets[at.offset] = letter.id
        return {offsets[offset]: message for offset, message in _messages_at(self._run.kafka, offsets.keys()).items()}

    def _closed_lately(self) -> dict[str, str]:
        """Dead letter id → how it was closed, of the records that have not landed yet."""
        names = {"redrive": "redriven", "drop": "dropped"}
        since = self._run.store.offsets(self._run.broker).get(0, 0)
        found: dict[str, str] = {}
        for message in scan(self._run.kafka, LINEAGE, 0, since):
            if message.key == b"dead":
                found |= {record.ref: names[record.kind] for record in _records(message) if record.kind in names}
        return found

    def _producer(self) -> Producer:
        """The one that may close dead letters now; whoever was before is fenced."""
        producer = self._run.kafka.producer(
            transactional_id=f"headwater-{self._run.app.name}-dead", transaction_timeout_ms=30_000, message_timeout_ms=20_000, linger_ms=0
        )
        try:
            producer.init_transactions(30)
        except KafkaException as error:
            raise Unavailable(f"dead letters cannot be dealt with now: {self._run.kafka.told(error)}") from None
        return producer

    def _commit(self, producer: Producer, ready: Sequence[_Ready], by: str, reason: str | None) -> list[dict[str, str]]:
        """One transaction: the messages, then the records that say where they lie."""
        if not ready:
            return []
        sending = _Sending(producer, self._run.broker)
        try:
            producer.begin_transaction()
            lives = sending.send([each.message for each in ready if each.message is not None])
            records = list(self._told_of(ready, lives, by, reason))
            lineage = sending.send(to_lineage("dead", records, self._run.kafka.largest, self._run.id))
            producer.commit_transaction(ANSWER_S)
        except KafkaException as error:
            _abort(producer)
            told = self._run.kafka.told(error)
            why = f"the broker did not take it ({told}); see what happened with `headwater dead list`, then try again"
            raise Unavailable(why) from None
        self._run.meter.wrote([*lives, *lineage])
        tokens = map(str, lives) if lives else ("" for _ in ready)
        return [_told(each.letter, token) for each, token in zip(ready, tokens, strict=True)]

    def _told_of(self, ready: Sequence[_Ready], lives: Sequence[Position], by: str, reason: str | None) -> Iterator[Record]:
        now = self._run.clock()
        for number, (letter, _) in enumerate(ready):
            parents = [letter.position or letter.origin]
            data: dict[str, Any] = {"event": letter.event, "by": by}
            if reason is not None:
                yield fact("drop", "dead", "drop", letter.id, logged=now, parents=parents, data={**data, "reason": reason})
            else:
                data |= {"position": str(lives[number]), "attempt": letter.attempt + 1, "origin": letter.origin}
                yield fact("redrive", "dead", "redrive", letter.id, logged=now, parents=parents, ordinal=data["position"], data=data)


def _messages_at(kafka: Kafka, offsets: Collection[int]) -> dict[int, Message]:
    """The dead letters at these offsets that are still there."""
    found: dict[int, Message] = {}
    for message in scan(kafka, DEAD, 0, min(offsets)) if offsets else ():
        if message.offset in offsets:
            found[message.offset] = message
        if message.offset >= max(offsets):
            break
    return found


def again(letter: Letter, message: Message) -> Outgoing:
    """A dead letter's event as it was first sent, and which try this is. A message that names no time keeps the one it had: its append."""
    place = place_of(letter)
    headers = originals(message.headers)
    names = {name for name, _ in headers}
    ours = {name: bytes(value).decode("utf-8", "replace") for name, value in message.headers if name in OURS and value is not None}
    structured = any(name.lower() == "content-type" and bytes(value or b"").startswith(STRUCTURED.encode()) for name, value in headers)
    appended = ours.get("headwater-appended", "")
    if "ce_time" not in names and not structured and appended.isdigit():
        headers.append(("ce_time", format_time(int(appended) * 1000).encode()))
    headers += [(ORIGIN, letter.origin.encode()), (ATTEMPT, str(letter.attempt + 1).encode())]
    return Outgoing(place.topic, message.key, message.value, headers, place.partition)


class _Sending:
    """Messages of an open transaction, each with its answer."""

    def __init__(self, producer: Producer, broker: str) -> None:
        self._producer, self._broker = producer, broker

    def send(self, messages: Sequence[Outgoing]) -> list[Position]:
        """Their positions. Raises KafkaException."""
        placed: dict[int, Position] = {}
        failed: list[KafkaError] = []
        for number, message in enumerate(messages):
            more: dict[str, Any] = {} if message.partition < 0 else {"partition": message.partition}
            answer = self._answer(number, placed, failed)
            self._producer.produce(message.topic, message.value, message.key, headers=message.headers or None, on_delivery=answer, **more)
        left = self._producer.flush(ANSWER_S)
        if failed or left:
            raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))
        return [placed[number] for number in range(len(messages))]

    def _answer(self, number: int, placed: dict[int, Position], failed: list[KafkaError]) -> Any:
        def delivered(error: KafkaError | None, message: KafkaMessage) -> None:
            if error is not None:
                failed.append(error)
            else:
                placed[number] = Position(self._broker, message.topic(), message.partition(), message.offset())

        return delivered


def _abort(producer: Producer) -> None:
    """End the transaction if that is possible; else the next one to come fences it."""
    try:
        producer.abort_transaction(ANSWER_S)
    except KafkaException:
        return


def _records(message: Message) -> list[Record]:
    try:
        return decode_batch(message.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def _told(letter: Letter, position: str = "") -> dict[str, str]:
    found = {"id": letter.id, "where": letter.short, "cause": letter.cause}
    return {**found, "position": position} if position else found
