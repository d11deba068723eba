"""ingest: decode, validate, filter and count, against the best loop that can be written around a bare consumer."""

from collections.abc import Callable, Iterator

from headwater.flows.bench import pathway
from headwater.flows.bench.bed import Bed, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.loops import ahead, best, by_message, client_only, decoded_only
from headwater.flows.bench.readings import readings
from headwater.flows.bench.streams import events_step, ingest, ingest_stock

WIDE, ORJSON, STOCK, EVENTS = "loop of consume(5000)", "orjson loop", "stock Bytewax", "as CloudEvents"
AHEAD, CLIENT, DECODED = "loop that consumes ahead in a thread", "the client alone", "the client and the decoder alone"
PATHWAY, PATHWAY_WHOLE = "Pathway", "Pathway, its start included"


def rounds(bed: Bed) -> Iterator[Round]:
    """Events per second."""
    import orjson  # only this measurement needs it

    count = readings(bed)
    events = events_step(bed.broker.id)
    python = pathway.interpreter()
    beside: dict[str, Callable[[], None]] = {
        WIDE: lambda: best(bed, count, 5000),
        AHEAD: lambda: ahead(bed, count),
        CLIENT: lambda: client_only(bed, count),
        DECODED: lambda: decoded_only(bed, count),
        ORJSON: lambda: by_message(bed, count, orjson.loads),
        STOCK: lambda: ingest_stock(bed, count),
        EVENTS: lambda: ingest(bed, count, step=events),
    }
    while True:
        ours = seconds(lambda: ingest(bed, count))
        loop = seconds(lambda: best(bed, count))
        told = {name: count / seconds(act) for name, act in beside.items()}
        if python is not None:
            took = pathway.ingest(bed, count, python)
            told |= {PATHWAY: count / took.run, PATHWAY_WHOLE: count / took.whole}
        yield Round(count / ours, count / loop, told)


BENCH = Bench(
    "ingest",
    "Kafka → decode, validated → count per key → filter, with accounting",
    "events/s",
    (Target("≥", 0.8), Target("≥", 2, f"×{ORJSON}"), Target("≥", 3, f"×{PATHWAY}", where_measured=True)),
    rounds,
    "the best bare loop, same decoder, same counting",
)
