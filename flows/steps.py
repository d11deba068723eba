"""The steps of the flows, as plain callables over batches; `walk` wires them into dataflows."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from headwater.enrichers.enrich import enrich
from headwater.enrichers.freshness import Progress
from headwater.enrichers.index import Indexed, Indexer
from headwater.flows.deadletter import bury, dead_letter_id, fitted
from headwater.flows.kafka import LARGEST_MESSAGE
from headwater.flows.meter import Meter
from headwater.flows.selecting import Unwanted, sift, sort_out
from headwater.flows.sink import Outgoing, Writer
from headwater.flows.source import Batch
from headwater.lineage.decode import Failure, Received, decode
from headwater.lineage.errors import HeadwaterError, Oversized, Unavailable
from headwater.lineage.event import Message, Position
from headwater.lineage.record import Record, encode_batch, outcomes
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
        raw = {message.offset: message for message in self.messages}
        gone = {received.position for received, _ in refused}
        self.received = [received for received in self.received if received.position not in gone]
        self.failures += [Failure(raw[r.position.offset], r.position, error, r.event) for r, error in refused]


def decode_step(
    topics: Mapping[str, Topic[Any]], broker: str, selects: Mapping[str, Sequence[Select]] | None = None
) -> Callable[[list[Batch]], list[Work]]:
    """Batches → work: messages become events with their models. `selects`: topic → what its subscribers want, if none wants all."""
    wanted = selects or {}

    def step(batches: list[Batch]) -> list[Work]:
        found = []
        for batch in batches:
            messages, unwanted = sort_out(batch.plain(), broker, wanted.get(batch.topic, ()))
            received, failures = decode(topics[batch.topic], broker, messages)
            received, more = sift(received, wanted.get(batch.topic, ()))
            found.append(Work(batch, received, failures, messages, sorted((*unwanted, *more))))
        return found

    return step


def enrich_step(topics: Mapping[str, Topic[Any]]) -> Callable[[list[Work]], list[Work]]:
    """Work → work with facts; what an enricher refuses fails."""

    def step(work: list[Work]) -> list[Work]:
        for each in work:
            each.received, refused = enrich(topics[each.batch.topic], each.received)
            each.fail(refused)
        return work

    return step


def account_step(flow: str, clock: Clock) -> Callable[[list[Batch]], list[list[Record]]]:
    """Batches → their `consumed` and `absent` records, before any step sees them."""
    return lambda batches: [[record for batch in batches for record in batch.records(flow, clock())]]


@dataclass
class UpsertStep:
    """Work → records: chunk, embed and upsert a whole activation of batches at once, bury what failed, then tell progress."""

    indexer: Indexer
    writer: Writer
    progress: Progress
    meter: Meter
    clock: Clock
    stop: threading.Event

    def __call__(self, work: list[Work]) -> list[list[Record]]:
        indexed = self._indexed([received for each in work for received in each.received])
        refused = {received.position: (received, error) for received, error in indexed.failures}
        for each in work:
            each.fail([refused[received.position] for received in each.received if received.position in refused])
        failures = [failure for each in work for failure in each.failures]
        buried = bury_all("index", failures, self.writer, self.clock(), own=True)
        for failure in failures:
            self.progress.dead_letter(failure.position, dead_letter_id(failure.position))
        ended = {**dict(indexed.outcomes), **{failure.position: "dead_lettered" for failure in failures}}
        ended |= {one.position: "passed" for each in work for one in each.unwanted}
        for each in work:
            place = (each.batch.topic, each.batch.partition)
            self.progress.settle(*place, each.batch.next)
            self.meter.reached("index", *place, each.batch.next)
        for outcome in ended.values():
            self.meter.count(outcome)
        told = outcomes("index", sorted(ended.items(), key=lambda pair: pair[0]), self.clock())
        return [[*indexed.records, *buried, *told]]

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


def bury_all(flow: str, failures: Sequence[Failure], writer: Writer, now: int, *, own: bool) -> list[Record]:
    """Write dead letters and wait until they are safe. `own=False`: another flow writes the message, we only know of it."""
    messages, records = bury(flow, failures, now)
    if not own:
        return []
    if messages:
        try:
            writer.write([fitted(message, writer.largest) for message in messages])
        except Oversized as error:  # a broker that takes less than we send: better the beginning of each than a flow that ends
            _log.warning("dead letters are cut to what every broker takes", error=str(error))
            writer.write([fitted(message, BYTES_PER_MESSAGE) for message in messages])
    return records


def to_lineage(flow: str, records: Sequence[Record], largest: int = LARGEST_MESSAGE) -> list[Outgoing]:
    """Records as messages of the lineage topic, a few hundred in each, fewer where they are large; none is larger than `largest` bytes."""
    room = largest - Outgoing(LINEAGE, flow.encode(), b"[]", []).size
    encoded = (_encoded(record, room) for record in records)
    return [Outgoing(LINEAGE, flow.encode(), b"[" + b",".join(piece) + b"]", []) for piece in _packed(encoded)]


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
    whole = encode_batch([record])[1:-1]
    if len(whole) <= room:
        return whole
    told = {"cut": len(whole)}
    for data in ({**_shortened(record.data), **told}, told):
        cut = encode_batch([msgspec.structs.replace(record, data=data)])[1:-1]
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
