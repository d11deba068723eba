"""source: how fast events come in, against Bytewax's own source."""

from collections.abc import Iterator

from headwater.flows.bench.bed import Bed, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.readings import readings
from headwater.flows.bench.streams import read_only, read_only_stock


def rounds(bed: Bed) -> Iterator[Round]:
    """Events per second."""
    count = readings(bed)
    while True:
        ours = seconds(lambda: read_only(bed, count))
        stock = seconds(lambda: read_only_stock(bed, count))
        yield Round(count / ours, count / stock)


BENCH = Bench("source", "Kafka → null, with accounting", "events/s", (Target("≥", 4),), rounds, "Bytewax's own KafkaSource → null")
