"""readers: landing while ten people ask, each again a second after every answer, against landing with nobody there."""

import itertools
import threading
from collections.abc import Iterator
from typing import Self

from headwater.flows.bench.bed import Bed, demand, now, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.lineage import land
from headwater.flows.bench.told import OF_A_BATCH, messages, told
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.giving_way import give_way
from headwater.lineage.guard import reading
from headwater.lineage.store import Store
from headwater.lineage.verify import Source

READERS = 10
PAUSE_S = 1.0
RECORDS = 400_000
ANSWERS = "answers a second"
QUERIES = (
    "SELECT flow, outcome, sum(count) AS positions FROM outcomes GROUP BY ALL",
    "FROM documents ORDER BY appended DESC LIMIT 20",
    "SELECT time_bucket(INTERVAL '1 second', appended) AS at, count(*) AS many, quantile_cont(ms, 0.99) AS p99 FROM freshness GROUP BY 1",
    "SELECT kind, count(*) AS records FROM records GROUP BY ALL",
    "FROM decisions ORDER BY logged DESC LIMIT 20",
)
"""What is asked in turn, each of the whole history."""


class Readers:
    """Ten threads that ask as `/v1/sql` does, while this is entered."""

    def __init__(self, source: Source, readers: int = READERS, pause_s: float = PAUSE_S) -> None:
        self._source, self._pause_s = source, pause_s
        self._left = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n, n / readers), name=f"bench-reader-{n}") for n in range(readers)]
        self.answers = 0
        self.refused: HeadwaterError | None = None

    def _ask(self, number: int, first: float) -> None:
        give_way()
        pause = first * self._pause_s  # people do not all ask at once
        for turn in itertools.count(number):
            if self._left.wait(pause):
                return
            pause = self._pause_s
            try:
                with reading(self._source, QUERIES[turn % len(QUERIES)]) as answer:
                    answer.read_all()
            except HeadwaterError as error:
                self.refused = error
                return
            self.answers += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._left.set()
        for thread in self._threads:
            thread.join()


def rounds(bed: Bed) -> Iterator[Round]:
    """Records per second."""
    records = told(bed.many(RECORDS, least=4 * OF_A_BATCH))
    sent, count = messages(records), len(records)
    del records  # as in `lineage`
    while True:
        with Store(bed.home() / "alone.duckdb", clock=now) as store:
            alone = seconds(lambda: land(store, sent))
        with Store(bed.home() / "read.duckdb", clock=now) as store:
            with Readers(store) as readers:
                beside = seconds(lambda: land(store, sent))
            demand(readers.refused, None, "what readers were refused")
            demand(store.head().seq, count, "records landed")
        yield Round(count / beside, count / alone, {ANSWERS: readers.answers / beside})


BENCH = Bench(
    "readers",
    f"landing records while {READERS} readers ask, each a second after every answer",
    "records/s",
    (Target("≥", 0.9),),
    rounds,
    "landing with no reader",
)
