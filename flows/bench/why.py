"""why: the path of one decision, found among ten million records."""

import time
from collections.abc import Iterator

from headwater.flows.bench.bed import Bed, demand
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.flown import cache
from headwater.flows.bench.millions import COPIES, EVENTS, decisions, millions
from headwater.flows.bench.told import OF_A_BATCH
from headwater.lineage.store import open_database
from headwater.lineage.verify import Source
from headwater.lineage.why import why

RECORDS = 10_000_000
SLOWEST, FIRST, HELD = "slowest of them", "the first after opening the file", "records in the file"


def rounds(bed: Bed) -> Iterator[Round]:
    """Milliseconds of the median decision, each asked once a round."""
    count = bed.many(RECORDS, least=COPIES * OF_A_BATCH)
    path = millions(cache() if bed.scale == 1 else bed.home(), count)
    ids = decisions()
    while True:
        with open_database(path, read_only=True) as connection:
            held = connection.execute("SELECT count(*) FROM records").fetchall()[0][0]
            took = [_ask(connection, id) for id in ids]
        yield Round(sorted(took)[len(took) // 2], None, {SLOWEST: max(took), FIRST: took[0], HELD: float(held)})


def _ask(source: Source, id: str) -> float:
    start = time.perf_counter()
    found = why(source, id)
    took = (time.perf_counter() - start) * 1000
    (decision,) = found.decisions
    demand(decision.id, id, "the decision that was found")
    demand(bool(decision.retrievals and decision.effects and decision.rulings), True, "its retrieval, effect and ruling")
    events = decision.activation.events if decision.activation else ()
    demand(sum(bool(event.text) for event in events), EVENTS, "its events with their texts")
    return took


BENCH = Bench(
    "why",
    f"the whole path of one of {len(decisions())} decisions among {RECORDS:,} records",
    "ms",
    (Target("<", 50, "value", "ms"),),
    rounds,
)
