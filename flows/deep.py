"""`audit verify --deep`: reads the topics again and compares every message that is still there with what lineage says of it.

Read committed, piece by piece, so memory is bounded however long the topics are. Compared are: offsets, of every partition that a flow
consumed; event ids, wherever a document or a dead letter tells one; activations, dead letters and the rungs of the retry ladder, each with
its records. While flows run something is always on its way: what looks wrong is looked at again, and counts if it still does.
"""

import time
from collections.abc import Callable, Generator, Iterator

import msgspec
import structlog
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from headwater.flows.attempt import FROM, ID, RUN
from headwater.flows.drain import drain, oldest_of, scan
from headwater.flows.runtime import Runtime
from headwater.lineage import deep as comparing
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.event import Message
from headwater.lineage.heads import Signed
from headwater.lineage.proof import prove
from headwater.lineage.topic import ACTIVATIONS, DEAD, HEADS, LINEAGE, rung_of
from headwater.lineage.verify import Verdict

_log = structlog.get_logger("headwater.audit")

PIECE = 1000
LANDED_S = 30.0
AGAIN_S = 2.0
"""How long what is on its way gets before what looks wrong is looked at again."""

LIMIT = 20
Steps = Generator[tuple[int, str], None, list[str]]
"""How many messages were read so far, and of what; in the end the offences."""


def deep_verdict(run: Runtime) -> Generator[tuple[int, str], None, Verdict]:
    """What `verify` finds, and what comparing with the topics finds. Gives how far it is meanwhile. Raises Unavailable."""
    verdict = prove(run.store, run.home, in_flight_ok=True, more=_signed(run))
    found = yield from _compared(run)
    if found:
        time.sleep(AGAIN_S)
        again = set((yield from _compared(run)))
        found = [offence for offence in found if offence in again]
    return msgspec.structs.replace(verdict, ok=verdict.ok and not found, offences=(*verdict.offences, *found)[:LIMIT])


def _signed(run: Runtime) -> list[Signed]:
    """The heads on their topic: of this broker's life, if it forgets."""
    values = [message.value or b"" for message in drain(run.kafka, HEADS, 0, 0)] if run.kafka.partitions(HEADS) else []
    found = []
    for value in values:
        try:
            found.append(msgspec.json.decode(value, type=Signed))
        except msgspec.DecodeError as error:
            _log.warning("a message on the topic of signed heads holds none", error=str(error))
    return found


def whole(steps: Generator[tuple[int, str], None, Verdict]) -> Verdict:
    """The verdict alone."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict


def routes(run: Callable[[], Runtime]) -> APIRouter:
    """`GET /v1/verify/deep`: lines of JSON, `{"read": n, "what": "topic/0"}` while it reads, then `{"verdict": …}` or `{"error": …}`."""
    router = APIRouter(tags=["lineage"])

    @router.get("/v1/verify/deep", summary="verify, and every topic read again: lines of JSON that tell how far it is, then the verdict")
    def deep() -> StreamingResponse:
        return StreamingResponse(_lines(run()), media_type="application/x-ndjson")

    return router


def _lines(run: Runtime) -> Iterator[bytes]:
    steps = deep_verdict(run)
    while True:
        try:
            read, what = next(steps)
            yield msgspec.json.encode({"read": read, "what": what}) + b"\n"
        except StopIteration as end:
            yield msgspec.json.encode({"verdict": end.value}) + b"\n"
            return
        except HeadwaterError as error:
            yield msgspec.json.encode({"error": str(error)}) + b"\n"
            return


def _compared(run: Runtime) -> Steps:
    found: list[str] = []
    read = 0
    run.gathering.ask()
    run.meter.await_reached("audit", run.meter.written(LINEAGE), LANDED_S)
    compact = {name for name, topic in run.app.topics.items() if topic.compact}
    with run.store.cursor() as cursor:
        for topic, partition in comparing.lanes(cursor, run.broker):
            if len(found) >= LIMIT:
                break
            low = oldest_of(run.kafka, topic, partition)
            lane = comparing.Lane(cursor, run.broker, topic, partition, low, compacted=topic in compact)
            for piece in _pieces(run, topic, partition):
                read += len(piece)
                found += lane.compare([_seen(message) for message in piece])
                yield read, f"{topic}/{partition}"
            found += lane.finish()
        found += _of_ids(run, cursor, "activation", ACTIVATIONS, LIMIT)
        found += _of_ids(run, cursor, "dead_letter", DEAD, LIMIT)
        found += _of_rungs(run, cursor, LIMIT)
    return found[:LIMIT]


def _of_ids(run: Runtime, cursor: comparing.Connection, kind: str, topic: str, limit: int) -> Iterator[str]:
    ids = comparing.Ids(cursor, run.broker, kind)
    whole = True
    for partition in range(run.app.partitions[topic]):
        whole = whole and oldest_of(run.kafka, topic, partition) == 0
        for piece in _pieces(run, topic, partition):
            ids.compare(topic, partition, [_seen(message) for message in piece])
    yield from ids.finish(whole=whole, limit=limit)


def _of_rungs(run: Runtime, cursor: comparing.Connection, limit: int) -> Iterator[str]:
    rungs = comparing.Rungs(cursor, run.broker)
    whole = True
    for topic, partitions in run.rungs.items():
        for partition in range(partitions):
            whole = whole and oldest_of(run.kafka, topic, partition) == 0
            for piece in _pieces(run, topic, partition):
                rungs.compare(topic, partition, [_seen(message) for message in piece])
    yield from rungs.finish(whole=whole, limit=limit)


def _pieces(run: Runtime, topic: str, partition: int) -> Iterator[list[Message]]:
    piece: list[Message] = []
    for message in scan(run.kafka, topic, partition, 0):
        piece.append(message)
        if len(piece) == PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def _seen(message: Message) -> comparing.Seen:
    """What a message says it is: an event by `ce_id`, a dead letter by its own id."""
    headers = {name: _text(value) for name, value in message.headers if name in ("ce_id", ID, FROM, RUN)}
    id = headers.get(ID) if message.topic == DEAD else headers.get("ce_id")
    kin = headers.get(FROM, "") if rung_of(message.topic) else ""
    return comparing.Seen(message.offset, id, kin, headers.get(RUN, ""))


def _text(value: bytes | str | None) -> str:
    return value if isinstance(value, str) else (value or b"").decode("utf-8", "replace")
