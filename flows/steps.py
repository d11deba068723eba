"""The steps of the flows, as plain callables over batches; `walk` wires them into dataflows."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import structlog

from headwater.enrichers.enrich import enrich
from headwater.enrichers.freshness import Progress
from headwater.enrichers.index import Indexed, Indexer
from headwater.enrichers.indexing import Indexing
from headwater.flows.attempt import RUN, Attempt, attempt_of
from headwater.flows.batch import Batch
from headwater.flows.deadletter import bury, dead_letter_id, fitted
from headwater.flows.kafka import LARGEST_MESSAGE
from headwater.flows.ladder import Ladder, Moving, outcome_of
from headwater.flows.meter import Meter
from headwater.flows.selecting import Unwanted, sift, sort_out, without_tombstones
from headwater.flows.sink import Outgoing, Writer
from headwater.flows.telemetry import Telemetry
from headwater.lineage.decode import Failure, Received, decode
from headwater.lineage.errors import HeadwaterError, Oversized, Unavailable
from headwater.lineage.event import Message, Position
from headwater.lineage.message import encode_batch
from headwater.lineage.record import Record, encode_rows, outcomes
from headwater.lineage.select import Select
from headwater.lineage.topic import LINEAGE, Topic

Clock = Callable[[], int]
RECORDS_PER_MESSAGE = 200
BYTES_PER_MESSAGE = 800_000
"""Several records share a message up to this size, which every broker takes by default; a larger record goes alone."""
KEPT_OF_A_TEXT = 1000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0

_log = structlog.get_logger("headwater.index")


@dataclass(slots=True)
class Work:
    """One source batch on its way: what was received, what cannot go on, and what no subscriber of the flow wants (never decoded)."""

    batch: Batch
    received: list[Received]
    failures: list[Failure] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    unwanted: list[Unwanted] = field(default_factory=list)

    def fail(self, refused: Sequence[tuple[Received, HeadwaterError]]) -> None:
        """Take positions out of what goes on."""
        if not refused:
            return
        raw = {(message.partition, message.offset): message for message in self.messages}
        gone = {received.position for received, _ in refused}
        self.received = [received for received in self.received if received.position not in gone]
        self.failures += [Failure(raw[r.position[2:]], r.position, error, r.event) for r, error in refused]

    def attempt(self, failure: Failure) -> Attempt:
        """Which try it was that failed."""
        return attempt_of(failure.position, failure.message)

    def close(self, ended: Sequence[tuple[Position, str]], flow: str, now: int) -> Iterable[Record]:
        """The outcome records of positions that ended here."""
        return outcomes(flow, ended, now)

    @property
    def lane(self) -> tuple[str, int]:
        """The topic and partition in whose order it is dealt with."""
        return self.batch.topic, self.batch.partition

    @property
    def size(self) -> int:
        """Bytes of its messages' values."""
        return sum(len(message.value or b"") for message in self.messages)

    @property
    def reached(self) -> tuple[str, int, int]:
        """Topic, partition, and the offset below which all is dealt with after this."""
        return self.batch.topic, self.batch.partition, self.batch.next


def decode_step(
    topics: Mapping[str, Topic[Any]], broker: str, selects: Mapping[str, Sequence[Select]] | None = None
) -> Callable[[list[Batch]], list[Work]]:
    """Batches → work: messages become events with their models. `selects`: topic → what its subscribers want, if none wants all."""
    wanted = selects or {}

    def step(batches: list[Batch]) -> list[Work]:
        found = []
        for batch in batches:
            topic, selects = topics[batch.topic], wanted.get(batch.topic, ())
            messages, ends = without_tombstones(batch.plain(), broker) if topic.compact else (batch.plain(), [])
            messages, unwanted = sort_out(messages, broker, selects)
            received, failures = decode(topic, broker, messages)
            received, more = sift(received, selects)
            found.append(Work(batch, received, failures, messages, sorted((*ends, *unwanted, *more))))
        return found

    return step


def enrich_step(topics: Mapping[str, Topic[Any]]) -> Callable[[list[Work]], list[Work]]:
    """Work → work with facts; what an enricher refuses fails."""

    def step(work: list[Work]) -> list[Work]:
        for each in work:
            if each.received:
                each.received, refused = enrich(topics[each.batch.topic], each.received)
                each.fail(refused)
        return work

    return step


def account_step(flow: str, clock: Clock) -> Callable[[list[Batch]], list[list[Record]]]:
    """Batches → their `consumed` and `absent` records, before any step sees them."""
    return lambda batches: [[record for batch in batches for record in batch.records(flow, clock())]]


class Told(NamedTuple):
    """What became of a position that had moved to the ladder, for the process that reads its topic. `dead`: its dead letter's id."""

    position: Position
    dead: str = ""


@dataclass
class Upserted:
    """What became of the work of one lane: the records, and what other processes must hear of. `next`: the offset it is settled below."""

    records: list[Record] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    lane: tuple[str, int] = ("", 0)
    next: int = 0


@dataclass
class UpsertStep:
    """Work → records: chunk, embed and upsert batches of several lanes at once, then move on or bury what failed, then tell progress.

    What is tried again is upserted by itself: a life may be here twice after a crash, and each place has an outcome of its own.
    `telemetry` hears of events that are traced.
    `save` stores progress: what is on the ladder must be known after a kill, before any snapshot goes beyond it.
    """

    indexer: Indexer | Indexing
    writer: Writer
    progress: Progress
    meter: Meter
    clock: Clock
    stop: threading.Event
    ladder: Ladder = field(default_factory=Ladder)
    save: Callable[[], None] = lambda: None
    telemetry: Telemetry | None = None

    def __call__(self, work: list[Work]) -> list[Upserted]:
        fresh = [each for each in work if type(each) is Work]
        groups = [fresh] if fresh else []
        groups += [[each] for each in work if type(each) is not Work]
        return [upserted for group in groups for upserted in self._settle(group)]

    def _settle(self, work: list[Work]) -> list[Upserted]:
        started = self.clock()
        given = [received for each in work for received in each.received] if self.telemetry is not None else []
        indexed = self._indexed([received for each in work for received in each.received])
        refused = {received.position: (received, error) for received, error in indexed.failures}
        for each in work:
            each.fail([refused[received.position] for received in each.received if received.position in refused])
        now = self.clock()
        failed = [(failure, each.attempt(failure)) for each in work for failure in each.failures]
        dead, moving = self.ladder.sort(failed, now, self.writer.largest)
        places, refused_moves = self._move(moving)
        dead += [pair for pair in failed if pair[1].place in refused_moves]
        buried = bury_all("index", [f for f, _ in dead], self.writer, now, own=True, attempts=[attempt for _, attempt in dead])
        moved = [outcome_of("index", each.attempt, each.attempt.position, "moved", now, str(place)) for each, place in places]
        ended = [*indexed.outcomes, *((one.position, "passed") for each in work for one in each.unwanted)]
        ended += [(failure.position, "dead_lettered") for failure, _ in dead]
        if self.telemetry is not None:
            self.telemetry.indexed(given, dict([*ended, *((each.attempt.position, "moved") for each, _ in places)]), started)
        told = self._tell(work, ended, [each.attempt for each, _ in places])
        closed = work[0].close(sorted(ended, key=lambda pair: pair[0]), "index", now)
        return _by_lane(work, [*indexed.records, *buried, *moved, *closed], told)

    def _move(self, moving: Sequence[Moving]) -> tuple[list[tuple[Moving, Position]], set[Position]]:
        """Write what moves to its rung and wait until it is safe there; gives the new places, and what no broker takes."""
        if not moving:
            return [], set()
        try:
            return list(zip(moving, self.writer.write([each.message for each in moving]), strict=True)), set()
        except Oversized as error:
            _log.warning("what should be tried again is too large for the broker; it is a dead letter", error=str(error))
            return [], {each.attempt.place for each in moving}

    def _tell(self, work: Sequence[Work], ended: Sequence[tuple[Position, str]], moved: Sequence[Attempt]) -> list[Told]:
        """Tell progress and the meter; gives what those processes must hear that read the positions' topics, where it is not this one."""
        again = type(work[0]) is not Work
        told = []
        for attempt in moved:
            if not again:
                self.progress.moved(attempt.position)
        for position, outcome in ended:
            self.meter.count(outcome)
            one = Told(position, dead_letter_id(position) if outcome == "dead_lettered" else "")
            if again and not self.progress.reads(position):
                told.append(one)
            elif again or one.dead:
                tell(self.progress, one)
        if moved:
            self.meter.count("moved", len(moved))
        if moved or (again and ended):
            self.save()
        for each in work:
            topic, partition, offset = each.reached
            if not again:
                self.progress.settle(topic, partition, offset)
            if topic:
                self.meter.reached("index", topic, partition, offset)
        return told

    def _indexed(self, received: list[Received]) -> Indexed:
        """An engine that does not answer holds this flow and no other; the batch is given again until it does."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self.indexer.index(received)
            except Unavailable as error:
                if self.stop.wait(pause):
                    raise
                _log.warning("the index does not answer; trying again", error=str(error), seconds=pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)


def _by_lane(work: Sequence[Work], records: list[Record], told: list[Told]) -> list[Upserted]:
    """What was dealt with together, told apart. What is tried again is of one lane."""
    if type(work[0]) is not Work:
        return [Upserted(records, told, work[0].lane, work[0].reached[2])]
    found = {each.lane: Upserted(lane=each.lane) for each in work}
    for each in work:
        found[each.lane].next = each.batch.next
    for record in records:
        found[record.topic, record.partition].records.append(record)
    return list(found.values())


def tell(progress: Progress, told: Told) -> None:
    """Progress hears what became of a position."""
    if told.dead:
        progress.dead_letter(told.position, told.dead)
    else:
        progress.arrived(told.position)


def bury_all(
    flow: str,
    failures: Sequence[Failure],
    writer: Writer,
    now: int,
    *,
    own: bool,
    attempts: Sequence[Attempt] | None = None,
    apart: bool = False,
) -> list[Record]:
    """Write dead letters and wait until they are safe; each record says where its message lies.

    own=False  another flow writes the message, we only know of it;  attempts, apart  as for `bury`
    """
    if not own or not failures:
        return []
    messages, records = bury(flow, failures, now, attempts, apart=apart)
    try:
        lie = writer.write([fitted(message, writer.largest) for message in messages])
    except Oversized as error:  # a broker that takes less than we send: better the beginning of each than a flow that ends
        _log.warning("dead letters are cut to what every broker takes", error=str(error))
        lie = writer.write([fitted(message, BYTES_PER_MESSAGE) for message in messages])
    return [
        msgspec.structs.replace(record, data={**record.data, "message": str(place)}) for record, place in zip(records, lie, strict=True)
    ]


def to_lineage(flow: str, records: Sequence[Record], largest: int = LARGEST_MESSAGE, run: str = "") -> list[Outgoing]:
    """Records as messages of the lineage topic, a few hundred in each, fewer where they are large; none is larger than `largest` bytes.

    Each tells which `run` of a process says it: what one run says twice, no replay explains.
    """
    told = [(RUN, run.encode())] if run else []
    room = largest - Outgoing(LINEAGE, flow.encode(), b"[]", told).size
    bodies: list[bytes] = []
    for first in range(0, len(records), RECORDS_PER_MESSAGE):
        some = records[first : first + RECORDS_PER_MESSAGE]
        whole = encode_batch(some)  # the common case: all of them fit
        if len(whole) <= min(BYTES_PER_MESSAGE, room):
            bodies.append(whole)
        else:
            bodies += (b"[" + b",".join(piece) + b"]" for piece in _packed(_encoded(record, room) for record in some))
    return [Outgoing(LINEAGE, flow.encode(), body, told) for body in bodies]


def _packed(encoded: Iterable[bytes]) -> Iterator[list[bytes]]:
    piece: list[bytes] = []
    size = 0
    for one in encoded:
        if piece and (len(piece) == RECORDS_PER_MESSAGE or size + len(one) > BYTES_PER_MESSAGE):
            yield piece
            piece, size = [], 0
        piece.append(one)
        size += len(one) + 1
    if piece:
        yield piece


def _encoded(record: Record, room: int) -> bytes:
    """One record's JSON. Of one that no message holds the long texts are cut, so that form and ids stay; failing that, all its data."""
    whole = encode_rows([record])[1:-1]
    if len(whole) <= room:
        return whole
    told = {"cut": len(whole)}
    for data in ({**_shortened(record.data), **told}, told):
        cut = encode_rows([msgspec.structs.replace(record, data=data)])[1:-1]
        if len(cut) <= room:
            break
    return cut


def _shortened(value: Any) -> Any:
    """The same value with the beginnings of its texts."""
    if isinstance(value, str):
        return value[:KEPT_OF_A_TEXT]
    if isinstance(value, Mapping):
        return {name: _shortened(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(one) for one in value]
    return value


def positions_of(batch: Batch) -> list[Position]:
    """Every position of a batch."""
    return [
        Position(batch.broker, batch.topic, batch.partition, offset)
        for first, following in batch.runs
        for offset in range(first, following)
    ]
