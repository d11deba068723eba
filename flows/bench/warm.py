"""warm: what a restart costs when nothing changed."""

import itertools
from collections.abc import Iterator, Sequence

from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.index import Indexer
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.bench.bed import Bed, demand, now, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.texts import note, received, text
from headwater.flows.walk import INDEX_BATCH

DOCUMENTS = 5000
SIZE = 384
EMBEDDINGS = "embeddings"


def rounds(bed: Bed) -> Iterator[Round]:
    """Seconds from opening the index until all documents are settled again. No model: what it would be asked is counted."""
    texts = [text(number) for number in range(bed.many(DOCUMENTS))]
    home = bed.home()
    first = EdgeIndex(home, SIZE)
    _index(first, texts, 0, HashEmbedder(SIZE))
    first.close()
    for life in itertools.count(1):
        embedder = HashEmbedder(SIZE)
        index: list[EdgeIndex] = []

        def restart() -> None:
            index.append(EdgeIndex(home, SIZE))  # noqa: B023
            demand(_index(index[0], texts, life, embedder), len(texts), "unchanged documents")  # noqa: B023

        took = seconds(restart)
        index[0].close()
        yield Round(took, None, {EMBEDDINGS: float(len(embedder.embedded))})


def _index(index: EdgeIndex, texts: Sequence[str], life: int, embedder: HashEmbedder) -> int:
    """Everything through a new indexer; how many were unchanged."""
    indexer = Indexer(index, embedder, [note], clock=now)
    events = received(texts, life, now())
    ended = [indexer.index(events[start : start + INDEX_BATCH]).outcomes for start in range(0, len(events), INDEX_BATCH)]
    return sum(outcome == "unchanged" for outcomes in ended for _, outcome in outcomes)


BENCH = Bench(
    "warm",
    f"{DOCUMENTS:,} unchanged documents under new event ids, times and offsets, after a restart",
    "s",
    (Target("<", 3, "value", "s"), Target("=", 0, EMBEDDINGS)),
    rounds,
)
