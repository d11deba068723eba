"""accounting: what it costs to tell of every event that it was read and how it ended."""

from collections.abc import Iterator

from headwater.flows.bench.bed import Bed, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.readings import readings
from headwater.flows.bench.streams import ingest


def rounds(bed: Bed) -> Iterator[Round]:
    """Events per second."""
    count = readings(bed)
    while True:
        told = seconds(lambda: ingest(bed, count))
        silent = seconds(lambda: ingest(bed, count, accounting=False))
        yield Round(count / told, count / silent)


BENCH = Bench("accounting", "ingest with accounting and lineage", "events/s", (Target("≥", 0.95),), rounds, "the same without")
