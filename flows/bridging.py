"""The `bridge` flow's source and step: batches from one region's broker to the lanes that carry them, and what came of them.

Forwarding itself runs in the lanes' threads: all steps of a worker share one thread, and a region that does not answer must hold
neither the other direction nor another region. The source's snapshot is what is *settled*, not what was read: what was on its
way when the process died is read again, the lanes find at the target what is there already, and landing cuts off repeated records.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from confluent_kafka import KafkaException

from headwater.flows.crossing import Ended
from headwater.flows.link import Link, Place, Sight
from headwater.flows.source import Batch, TopicSource
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.record import Record, outcomes, run_of

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

_log = structlog.get_logger("headwater.bridge")

BATCH = 1000
POLL = timedelta(milliseconds=3)
REST = timedelta(milliseconds=50)
GRACE_S = 5.0
"""How long a flow that is to stop waits for what is on its way."""


class Settled(TypedDict):
    """What survives of one link: per partition of one broker's life, the offset to go on at."""

    form: int
    broker: str
    next: dict[Place, int]


class LinkSource(FixedPartitionedSource[Batch, Settled]):
    """Reads what a link is to carry, as soon as its broker answers, and again when its topics or its broker's life change."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def list_parts(self) -> list[str]:
        return ["link"]

    def build_part(self, step_id: str, for_part: str, resume_state: Settled | None) -> "_Part":
        return _Part(self._link, resume_state or Settled(form=1, broker="", next={}))


class _Part(StatefulSourcePartition[Batch, Settled]):
    def __init__(self, link: Link, state: Settled) -> None:
        self._link = link
        self._state = state
        self._read: dict[Place, int] = dict(state["next"])
        self._sight: Sight | None = None
        self._inner: StatefulSourcePartition[Batch, Any] | None = None
        self._idle = True
        link.start()

    def next_batch(self) -> list[Batch]:
        if self._link.stop.is_set():
            raise StopIteration
        self._link.check()
        seen = self._link.sight
        if seen is None:
            return []
        if self._inner is None or seen != self._sight:
            self._connect(seen)
        try:
            batches = [*self._inner.next_batch()] if self._inner is not None else []
        except (KafkaException, Unavailable) as error:  # the next poll connects anew, from what was read
            _log.warning("a link reads anew", link=self._link.flow, error=str(error))
            self._drop()
            batches = []
        for batch in batches:
            self._read[batch.topic, batch.partition] = batch.next
        self._idle = not batches
        return batches

    def _connect(self, seen: Sight) -> None:
        """Read these topics of this broker's life. Asks the broker nothing: every partition's start is known."""
        self._drop()
        if seen.broker != self._state["broker"]:
            self._read = {}
            self._state = Settled(form=1, broker=seen.broker, next={})
        starts = {place: self._read.get(place, oldest) for place, oldest in seen.oldest.items()}
        self._state["next"] = {**starts, **self._state["next"]}
        self._read = starts
        try:
            self._link.open(seen)
        except Misused as error:
            self._link.fail(error)
        self._sight = seen
        link, run = self._link, self._link.run
        source = TopicSource(
            link.source,
            seen.broker,
            seen.topics,
            group=f"headwater-{run.app.name}-{link.flow.replace('/', '-')}",
            slots=1,
            batch=BATCH,
            stop=link.stop,
            gate=partial(link.room, seen.broker),
            resume=starts,
        )
        self._inner = source.build_part(link.step, source.list_parts()[0], None)

    def _drop(self) -> None:
        if self._inner is not None:
            self._inner.close()
        self._inner = None

    def next_awake(self) -> datetime | None:
        if not self._idle:
            return None
        return datetime.now(UTC) + (POLL if self._inner is not None else REST)

    def snapshot(self) -> Settled:
        broker, link = self._state["broker"], self._link
        now = {place: link.settled.get((broker, *place), first) for place, first in self._state["next"].items()}
        self._state["next"] = now
        return Settled(form=1, broker=broker, next=dict(now))

    def close(self) -> None:
        self._drop()


def forward_logic(link: Link) -> Callable[[None], "ForwardLogic"]:
    """The builder of one link's logic. It has no state: see the source's."""
    return lambda resume: ForwardLogic(link, link.run)


class ForwardLogic(StatefulBatchLogic[Batch, list[Record], None]):
    """Gives batches to the lanes of one link and tells what became of them."""

    def __init__(self, link: Link, run: "Runtime") -> None:
        self._link, self._run = link, run

    def on_batch(self, values: list[Batch]) -> tuple[Iterable[list[Record]], bool]:
        now = self._run.clock()
        read = [record for batch in values for record in batch.records(self._link.flow, now)]
        for batch in values:
            self._link.lane(batch.broker, batch.topic).put(batch)
        return ([[*read, *self._ended(self._link.poll())]], StatefulBatchLogic.RETAIN)

    def on_notify(self) -> tuple[Iterable[list[Record]], bool]:
        records = self._ended(self._link.poll())
        return ([records] if records else [], StatefulBatchLogic.RETAIN)

    def on_eof(self) -> tuple[Iterable[list[Record]], bool]:
        """What is on its way gets a grace; what is left is read again at the next start."""
        self._link.finish(GRACE_S)
        return self.on_notify()

    def notify_at(self) -> datetime | None:
        return datetime.now(UTC) + POLL if self._link.busy() else None

    def snapshot(self) -> None:
        return None

    def _ended(self, ended: Iterable[Ended]) -> list[Record]:
        now = self._run.clock()
        records: list[Record] = []
        for each in ended:
            batch = each.batch
            records += [*each.records, *told(self._link.flow, each, now)]
            self._link.settled[batch.broker, batch.topic, batch.partition] = batch.next
            self._run.meter.reached(self._link.flow, batch.topic, batch.partition, batch.next)
            self._run.meter.count(f"{self._link.flow} carried", each.carried)
            self._run.meter.count(f"{self._link.flow} stayed", len(batch.messages) - each.carried - len(each.refused))
            self._run.meter.count(f"{self._link.flow} refused", len(each.refused))
            if self._link.direction == "receive":
                self._run.meter.wrote(each.written)
        return records


def told(flow: str, ended: Ended, now: int) -> list[Record]:
    """The outcomes of a batch: `passed` for what crossed and for what stays for it has been there, `dead_lettered` for what is refused."""
    batch = ended.batch
    if not ended.refused:
        places = [(Position(batch.broker, batch.topic, batch.partition, first), following) for first, following in batch.runs]
        return [run_of("outcome", flow, where, following, following - where.offset, now, "passed") for where, following in places]
    offsets = (offset for first, following in batch.runs for offset in range(first, following))
    ends = ((offset, "dead_lettered" if offset in ended.refused else "passed") for offset in offsets)
    return [*outcomes(flow, ((Position(batch.broker, batch.topic, batch.partition, offset), end) for offset, end in ends), now)]
