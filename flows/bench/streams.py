"""The dataflows that the streaming benchmarks run: ours and the stock one, each reading the topic of readings once, on one worker."""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
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
from headwater.flows.kafka import Kafka
from headwater.flows.records import RecordSink
from headwater.flows.recovery import EPOCH
from headwater.flows.sink import Writer
from headwater.flows.source import TopicSource
from headwater.flows.steps import account_step, decode_step
from headwater.lineage.event import Position
from headwater.lineage.record import Record, run_of

FLOW = "bench"
HOT_KEY = "hot"
Partial = tuple[str, dict[str, int]]
"""What one activation counted of the keys of one shard."""
SHARDS = 16
Step = Callable[[list[Batch]], list[Partial]]


def read_only(bed: Bed, count: int) -> None:
    """Our source → null, with accounting."""
    flow, sink = Dataflow("source"), Count(lambda batch: len(batch.messages))
    batches = _ours(bed.kafka, bed.broker.id, flow)
    _account(bed.writer, batches)
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
    totals = Totals()
    _run(ingest_flow(bed.kafka, bed.broker.id, totals, bed.writer if accounting else None, step))
    check(totals.newest, count)


def ingest_flow(kafka: Kafka, broker: str, totals: "Totals", writer: Writer | None, step: Step | None = None, **options: Any) -> Dataflow:
    """The flow; without a writer it does no accounting. `options` are the source's."""
    flow = Dataflow("ingest")
    batches = _ours(kafka, broker, flow, **options)
    if writer is not None:
        _account(writer, batches)
    partials = op.flat_map_batch("decode", batches, step or values_step)
    op.output("totals", op.stateful_map("count", partials, _add), totals)
    return flow


def ingest_stock(bed: Bed, count: int) -> None:
    """Bytewax's own source → the same, as its documentation writes it: an operator for each thing, an item for each event."""
    flow = Dataflow("stock")
    decode = msgspec.json.Decoder(Reading).decode
    read = op.map("decode", _stock(bed, flow), lambda message: decode(message.value or b""))
    above = op.filter("filter", read, lambda one: one.celsius > HOT)
    devices, hots = op.map("device", read, lambda one: (one.device, 1)), op.map("hot", above, lambda one: (HOT_KEY, 1))
    totals = Totals()
    op.output("totals", op.stateful_map("count", op.merge("both", devices, hots), _add_one), totals)
    _run(flow)
    check(totals.newest, count)


def values_step(batches: list[Batch]) -> list[Partial]:
    """Values → models, validated; counted inside the batch, so that only partial counts go through the exchange."""
    return shards(tally([model for batch in batches for model in READINGS.decode_all(batch.values())]))


def events_step(broker: str) -> Step:
    """The same behind the walk's own decoding: every message becomes an event with all its attributes, then its model."""
    decode = decode_step({READINGS.name: READINGS}, broker)

    def step(batches: list[Batch]) -> list[Partial]:
        return shards(tally([received.model for work in decode(batches) for received in work.received]))

    return step


def tally(models: Sequence[Reading]) -> Counter[str]:
    """How many of each device, and how many hot ones."""
    counts = Counter([one.device for one in models])
    counts[HOT_KEY] = sum([one.celsius > HOT for one in models])
    return counts


def shards(counts: Mapping[str, int]) -> list[Partial]:
    """Counts, keyed by what share of all keys they are of: few items go through the exchange, however many keys there are."""
    found: dict[str, dict[str, int]] = {}
    for key, many in counts.items():
        found.setdefault(shard(key), {})[key] = many
    return list(found.items())


@lru_cache(maxsize=65_536)
def shard(key: str) -> str:
    """The same in every process."""
    return str(zlib.crc32(key.encode()) % SHARDS)


class Totals(DynamicSink[tuple[str, Any]]):
    """Keeps the newest count of each key."""

    def __init__(self) -> None:
        self.newest: dict[str, int] = {}

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Totalling":
        return _Totalling(self.newest)


class _Totalling(StatelessSinkPartition[tuple[str, Any]]):
    def __init__(self, newest: dict[str, int]) -> None:
        self._newest = newest

    def write_batch(self, items: list[tuple[str, Any]]) -> None:
        for key, newest in items:
            self._newest.update(newest if isinstance(newest, dict) else {key: newest})


def check(totals: Mapping[str, int], count: int) -> None:
    """Every reading counted once, every hot one passed the filter. Raises Spoiled."""
    demand(totals.get(HOT_KEY, 0), hot(count), "hot events")
    demand(sum(totals.values()) - totals.get(HOT_KEY, 0), count, "events counted")


def _run(flow: Dataflow) -> None:
    run_main(flow, epoch_interval=EPOCH)  # type: ignore[no-untyped-call]


def _add(totals: dict[str, int] | None, more: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The state is the totals of a shard's keys; handed on are those that changed."""
    totals = totals if totals is not None else {}
    changed = {key: totals.get(key, 0) + many for key, many in more.items()}
    totals.update(changed)
    return totals, changed


def _add_one(total: int | None, more: int) -> tuple[int, int]:
    total = (total or 0) + more
    return total, total


def _ours(kafka: Kafka, broker: str, flow: Dataflow, **options: Any) -> Stream[Batch]:
    source = TopicSource(kafka, broker, {READINGS.name: READINGS.partitions}, group="headwater-bench", end=True, **options)
    return op.input("read", flow, source)


def _account(writer: Writer, batches: Stream[Batch]) -> None:
    """What a flow says of every position: read, and how it ended; written to the lineage topic and acknowledged."""
    consumed = op.flat_map_batch("account", batches, account_step(FLOW, now))
    ended = op.map("ended", batches, _passed)
    sink = RecordSink(FLOW, writer)
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
