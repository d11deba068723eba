"""Rerankers: a slower, sharper look at the best candidates of a search. An application may have one."""

import math
from collections.abc import Sequence
from typing import Protocol

from headwater.lineage.errors import Unavailable

RERANKED = 50
"""Candidates that a reranker sees, at least: the best of the fusion; twice the limit if that is more."""


class Reranker(Protocol):
    """Texts → how well each answers the query. The same query and text give the same score in any company."""

    name: str

    def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """A finite number for each text, higher is better; only their order counts. May be called by several threads at once."""
        ...


def scores_of(reranker: Reranker, query: str, texts: Sequence[str]) -> list[float]:
    """What it says. Raises Unavailable, naming it, if it fails or does not answer as it must."""
    hint = "search with rerank=false to do without"
    try:
        scores = [float(score) for score in reranker.rerank(query, texts)]
    except Exception as error:
        raise Unavailable(f"the reranker {reranker.name} failed: {type(error).__name__}: {error}; {hint}") from error
    if len(scores) != len(texts) or not all(map(math.isfinite, scores)):
        raise Unavailable(f"the reranker {reranker.name} did not answer {len(texts)} texts with as many finite numbers; {hint}")
    return scores
