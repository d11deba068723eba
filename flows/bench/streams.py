"""The dataflows that the streaming benchmarks run: ours and the stock one, each reading the topic of readings once, on one worker."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow, Stream
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from headwater.flows.batch import Batch
from headwater.flows.bench.bed import Bed, Count, demand, now
from headwater.flows.bench.readings import HOT, READINGS, Reading, hot
from headwater.flows.records import RecordSink
from headwater.flows.recovery import EPOCH
from headwater.flows.source import TopicSource
from headwater.flows.steps import account_step, decode_step
from headwater.lineage.event import Position
from headwater.lineage.record import Record, run_of

FLOW = "bench"
HOT_KEY = "hot"
Partial = tuple[str, int]
Step = Callable[[list[Batch]], list[Partial]]


def read_only(bed: Bed, count: int) -> None:
    """Our source → null, with accounting."""
    flow, sink = Dataflow("source"), Count(lambda batch: len(batch.messages))
    batches = _ours(bed, flow)
    _account(bed, batches)
    op.output("null", batches, sink)
    _run(flow)
    demand(sink.count, count, "events read")


def read_only_stock(bed: Bed, count: int) -> None:
    """Bytewax's own source → null."""
    flow, sink = Dataflow("stock"), Count()
    op.output("null", _stock(bed, flow), sink)
    _run(flow)
    demand(sink.count, count, "events read")


def ingest(bed: Bed, count: int, *, accounting: bool = True, step: Step | None = None) -> None:
    """Our source → decode, filter → count per key, with accounting or without."""
    flow = Dataflow("ingest")
    batches = _ours(bed, flow)
    if accounting:
        _account(bed, batches)
    _count(flow, op.flat_map_batch("decode", batches, step or values_step), count)


def ingest_stock(bed: Bed, count: int) -> None:
    """Bytewax's own source → the same, as its documentation writes it: an operator for each thing, an item for each event."""
    flow = Dataflow("stock")
    decode = msgspec.json.Decoder(Reading).decode
    read = op.map("decode", _stock(bed, flow), lambda message: decode(message.value or b""))
    above = op.filter("filter", read, lambda one: one.celsius > HOT)
    devices, hots = op.map("device", read, lambda one: (one.device, 1)), op.map("hot", above, lambda one: (HOT_KEY, 1))
    _count(flow, op.merge("both", devices, hots), count)


def values_step(batches: list[Batch]) -> list[Partial]:
    """Values → models, validated; counted inside the batch, so that only partial counts go through the exchange."""
    return tally([model for batch in batches for model in READINGS.decode_all(batch.values())])


def events_step(broker: str) -> Step:
    """The same behind the walk's own decoding: every message becomes an event with all its attributes, then its model."""
    decode = decode_step({READINGS.name: READINGS}, broker)

    def step(batches: list[Batch]) -> list[Partial]:
        return tally([received.model for work in decode(batches) for received in work.received])

    return step


def tally(models: Sequence[Reading]) -> list[Partial]:
    """How many of each device, and how many hot ones."""
    counts = Counter([one.device for one in models])
    counts[HOT_KEY] = sum([one.celsius > HOT for one in models])
    return list(counts.items())


class Totals(DynamicSink[Partial]):
    """Keeps the newest count of each key."""

    def __init__(self) -> None:
        self.newest: dict[str, int] = {}

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Totalling":
        return _Totalling(self.newest)


class _Totalling(StatelessSinkPartition[Partial]):
    def __init__(self, newest: dict[str, int]) -> None:
        self._newest = newest

    def write_batch(self, items: list[Partial]) -> None:
        self._newest.update(items)


def check(totals: Mapping[str, int], count: int) -> None:
    """Every reading counted once, every hot one passed the filter. Raises Spoiled."""
    demand(totals.get(HOT_KEY, 0), hot(count), "hot events")
    demand(sum(totals.values()) - totals.get(HOT_KEY, 0), count, "events counted")


def _run(flow: Dataflow) -> None:
    run_main(flow, epoch_interval=EPOCH)  # type: ignore[no-untyped-call]


def _count(flow: Dataflow, partials: Stream[Partial], count: int) -> None:
    """Running totals per key, then run the flow and check them."""
    totals = Totals()
    op.output("totals", op.stateful_map("count", partials, _add), totals)
    _run(flow)
    check(totals.newest, count)


def _add(total: int | None, more: int) -> tuple[int, int]:
    total = (total or 0) + more
    return total, total


def _ours(bed: Bed, flow: Dataflow) -> Stream[Batch]:
    source = TopicSource(bed.kafka, bed.broker.id, {READINGS.name: READINGS.partitions}, group="headwater-bench", end=True)
    return op.input("read", flow, source)


def _account(bed: Bed, batches: Stream[Batch]) -> None:
    """What a flow says of every position: read, and how it ended; written to the lineage topic and acknowledged."""
    consumed = op.flat_map_batch("account", batches, account_step(FLOW, now))
    ended = op.map("ended", batches, _passed)
    sink = RecordSink(FLOW, bed.writer)
    op.output("lineage", op.flat_map_batch("slot", op.merge("records", consumed, ended), sink.keyed), sink)


def _passed(batch: Batch) -> list[Record]:
    at = now()
    return [
        run_of("outcome", FLOW, Position(batch.broker, batch.topic, batch.partition, first), following, following - first, at, "passed")
        for first, following in batch.runs
    ]


def _stock(bed: Bed, flow: Dataflow) -> Stream[KafkaSourceMessage[bytes | None, bytes | None]]:
    source = KafkaSource([bed.kafka.address], [READINGS.name], tail=False)
    read: Stream[Any] = op.input("read", flow, source)
    return read
