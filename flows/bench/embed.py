"""embed: what of the model's throughput is left when documents go through the index."""

import itertools
from collections.abc import Iterator, Sequence

from headwater.enrichers.chunking import chunk
from headwater.enrichers.document import Document
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.embed import minilm
from headwater.enrichers.index import Indexer
from headwater.flows.bench.bed import Bed, demand, now, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.texts import note, received, text
from headwater.flows.walk import INDEX_BATCH
from headwater.lineage.decode import Received

DOCUMENTS = 192
STOCK = "sentence-transformers encode"


def rounds(bed: Bed) -> Iterator[Round]:
    """Documents per second. The reference is the fastest of what the model does when it is given all texts at once."""
    model = minilm()
    count = bed.many(DOCUMENTS, least=8)
    for life in itertools.count():
        texts = [text(life * count + number) for number in range(count)]
        passages = [piece.passage for words in texts for piece in chunk(Document("x", words))]
        model.embed(["loaded before the clock starts"])
        model.model.encode(["so is what it is compared with"], batch_size=32, show_progress_bar=False)
        index = EdgeIndex(bed.home(), model.size)
        events = received(texts, life, now())
        indexer = Indexer(index, model, [note], clock=now)
        through = seconds(lambda: _index(indexer, events))  # noqa: B023
        demand(index.count().documents, count, "documents in the index")
        index.close()
        whole = seconds(lambda: model.embed(passages))  # noqa: B023
        stock = seconds(lambda: model.model.encode(passages, batch_size=32, show_progress_bar=False))  # noqa: B023
        yield Round(count / through, count / min(whole, stock), {STOCK: count / stock})


def _index(indexer: Indexer, events: Sequence[Received]) -> None:
    for start in range(0, len(events), INDEX_BATCH):
        indexer.index(events[start : start + INDEX_BATCH])


BENCH = Bench(
    "embed",
    f"documents → chunks → MiniLM → index, {INDEX_BATCH} at a time",
    "documents/s",
    (Target("≥", 0.95),),
    rounds,
    "the model on all texts at once",
)
