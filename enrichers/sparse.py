"""BM25 as sparse vectors, the same for every engine: what the server calls `qdrant/bm25`, computed here."""

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from qdrant_edge import Bm25, Bm25Config

AVERAGE_WORDS = 60
"""The length of text at which BM25 neither favours nor punishes: about a chunk of a status text or a short section."""


class Sparse(NamedTuple):
    """A sparse vector: term numbers, and a weight for each."""

    indices: Sequence[int]
    values: Sequence[float]


@functools.cache
def _model() -> Bm25:
    return Bm25(Bm25Config(language="english", avg_len=AVERAGE_WORDS))


def of_document(text: str) -> Sparse:
    """Term frequencies, saturated and normalised by length. The engine multiplies by the inverse document frequency."""
    vector = _model().embed_document(_composed(text))
    return Sparse(vector.indices, vector.values)


def of_query(text: str) -> Sparse:
    """Each term once."""
    vector = _model().embed_query(_composed(text))
    return Sparse(vector.indices, vector.values)


def _composed(text: str) -> str:
    """Accents may be written as part of a letter or after it; the same word must be the same term."""
    return unicodedata.normalize("NFC", text)
