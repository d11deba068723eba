"""quality: how well search finds what is right, by meaning, by words and by both; and how many answers are stale while facts change."""

import statistics
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from headwater.enrichers import sparse
from headwater.enrichers.embed import Embedder, minilm
from headwater.enrichers.engine import Half, Scope, Vector
from headwater.enrichers.freshness import Progress
from headwater.enrichers.retrieve import Retriever
from headwater.flows.bench.bed import Bed, now
from headwater.flows.bench.corpus import Corpus, corpus
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.judge import TOP, documents, ndcg, recall
from headwater.flows.bench.questions import Question
from headwater.flows.bench.stale import facts, stale

CHUNKS = 3 * TOP
"""Chunks that are asked for, so that ten documents are among them though some have several."""
ASKED = 300
DENSE, SPARSE, HYBRID = "dense", "sparse", "hybrid"
RECALL, GAIN = "recall@10", "gain in recall@10"
QUESTIONS = "questions, half of them held out"
STALE = "stale with token"

Rank = Callable[[str], Sequence[str]]
"""A query → the documents of the chunks found, best first."""


def rounds(bed: Bed) -> Iterator[Round]:
    """nDCG@10 of hybrid search over the half that is held out; its reference is the better of the two it is made of."""
    model = minilm()
    found = corpus(bed.home(), model, bed.scale)
    asked = [one for one in found.questions if one.held_out]
    ways = ways_of(found, Precomputed(model, [one.text for one in asked]))
    try:
        with facts(bed) as up:
            while True:
                figures = {name: figures_of(rank, asked) for name, rank in ways.items()}
                best, most = (max(figures[name][n] for name in (DENSE, SPARSE)) for n in (0, 1))
                with_token, without = stale(up, bed.many(ASKED, least=10))
                beside = {DENSE: figures[DENSE][0], SPARSE: figures[SPARSE][0]}
                beside |= {f"{RECALL} {name}": recalled for name, (_, recalled) in figures.items()}
                beside |= {GAIN: figures[HYBRID][1] - most, QUESTIONS: len(found.questions)}
                beside |= {STALE: with_token, "% stale without token": without}
                yield Round(figures[HYBRID][0], best, beside)
    finally:
        found.store.close()


class Precomputed:
    """The questions' vectors, made once: they are asked again in every round."""

    def __init__(self, model: Embedder, texts: Sequence[str]) -> None:
        self.name, self.size = model.name, model.size
        self._rows = dict(zip(texts, model.embed(texts), strict=True))

    def embed(self, texts: Sequence[str]) -> Vector:
        rows: Vector = np.array([self._rows[text] for text in texts], dtype=np.float32)
        return rows


def ways_of(found: Corpus, model: Embedder) -> dict[str, Rank]:
    """The three ways to rank: each half of a search by itself, and the product's search."""
    retriever = Retriever(found.store, model, Progress("bench", now))

    def dense(text: str) -> list[str]:
        return half(model.embed([text])[0])

    def words(text: str) -> list[str]:
        return half(sparse.of_query(text))

    def half(by: Vector | sparse.Sparse) -> list[str]:
        [ranking] = found.store.find([Half(by, CHUNKS)], Scope())
        whose = found.store.belongings([hit.id for hit in ranking])
        return [whose[hit.id].document for hit in ranking]

    def hybrid(text: str) -> list[str]:
        return [hit.document for hit in retriever.search(text, limit=CHUNKS).results]

    return {DENSE: dense, SPARSE: words, HYBRID: hybrid}


def figures_of(rank: Rank, asked: Sequence[Question]) -> tuple[float, float]:
    """(nDCG@10, recall@10), the mean over the questions."""
    ranked = [(documents(rank(one.text)), one.right) for one in asked]
    return statistics.fmean(ndcg(*each) for each in ranked), statistics.fmean(recall(*each) for each in ranked)


BENCH = Bench(
    "quality",
    "search over the reference application's documents, hybrid, nDCG@10 on the held-out half",
    "nDCG@10",
    (Target(">", 1), Target(">", 0, GAIN), Target("≥", 150, QUESTIONS), Target("=", 0, STALE)),
    rounds,
    "the better of dense and sparse alone",
)
