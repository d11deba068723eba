"""How near texts are to a described situation, by the vectors that search compares too. A text is cut as the index cuts it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headwater.enrichers.chunking import chunk
from headwater.enrichers.document import Chunk, Document, DocumentType
from headwater.enrichers.embed import Embedder, VectorCache
from headwater.enrichers.engine import Vector
from headwater.enrichers.said import measure_of
from headwater.enrichers.vectors import PROBE
from headwater.lineage.errors import Unavailable, retryable

SLICE = 256
"""Passages that are embedded at once."""
DIGITS = 6
"""Of a similarity; float32 has no more that mean anything."""


class Text(NamedTuple):
    """What an event says in words, to the reading at `place` of the signal at `offset`, which waits for it."""

    offset: int
    place: int
    document: str
    text: str


class Question(NamedTuple):
    """Whether a text is about a situation: texts of which kind, the situation in words."""

    kind: DocumentType
    like: str


class Meaning:
    """Similarities, each vector computed once. Threads may share it.

    cache  vectors by content hash; the index's, where it runs in the same process
    """

    def __init__(self, embedder: Embedder, cache: VectorCache | None = None) -> None:
        self._embedder = embedder
        self._cache = cache or VectorCache()
        self._tokens = measure_of(embedder)
        self._situations: dict[str, Vector] = {}

    def near(self, asked: Sequence[tuple[Question, Text]]) -> list[float | None]:
        """For each text the cosine of its nearest chunk; None: it has none, or the embedder refuses it. Raises Unavailable."""
        situations = {question.like: self._situation(question.like) for question, _ in asked}
        passages: dict[str, str] = {}
        hashes: list[list[str]] = []
        for question, text in asked:
            pieces = self._pieces(question, text)
            passages.update({piece.hash: piece.passage for piece in pieces})
            hashes.append([piece.hash for piece in pieces])
        vectors = self._vectors(passages)
        return [_nearest(situations[question.like], own, vectors) for (question, _), own in zip(asked, hashes, strict=True)]

    def _pieces(self, question: Question, text: Text) -> list[Chunk]:
        """What a chunker cannot cut is near nothing; the index tells of it."""
        try:
            return chunk(Document(text.document, text.text), question.kind.chunk, self._tokens)
        except Unavailable:
            raise
        except Exception:
            return []

    def _situation(self, like: str) -> Vector:
        if like not in self._situations:
            try:
                self._situations[like] = self._embedder.embed([like])[0]
            except Exception as error:
                why = f"the embedder {self._embedder.name} does not answer: {type(error).__name__}: {error}"
                raise Unavailable(why) from error
        return self._situations[like]

    def _vectors(self, passages: Mapping[str, str]) -> dict[str, Vector]:
        known = {hash: vector for hash in passages if (vector := self._cache.get(hash)) is not None}
        missing = [hash for hash in passages if hash not in known]
        for start in range(0, len(missing), SLICE):
            hashes = missing[start : start + SLICE]
            computed = self._computed(hashes, [passages[hash] for hash in hashes])
            self._cache.update(computed)
            known |= computed
        return known

    def _computed(self, hashes: Sequence[str], passages: Sequence[str]) -> dict[str, Vector]:
        """If the embedder refuses a batch, each text is tried alone; what it refuses then the index tells of.

        Raises Unavailable if it answers nothing at all.
        """
        try:
            return dict(zip(hashes, self._embedder.embed(passages), strict=True))
        except Unavailable:
            raise
        except Exception as error:
            if len(hashes) == 1:
                return self._refused(error)
        found: dict[str, Vector] = {}
        for hash, passage in zip(hashes, passages, strict=True):
            found |= self._computed([hash], [passage])
        return found

    def _refused(self, error: Exception) -> dict[str, Vector]:
        """Nothing, if it is this one text; an embedder that fails for now fails on any other as well."""
        if retryable(error):
            try:
                self._embedder.embed([PROBE])
            except Exception as other:
                raise Unavailable(f"the embedder {self._embedder.name} does not answer: {type(other).__name__}: {other}") from other
        return {}


def _nearest(situation: Vector, hashes: Sequence[str], vectors: Mapping[str, Vector]) -> float | None:
    found = [float(situation @ vectors[hash]) for hash in hashes if hash in vectors]
    return round(max(found), DIGITS) if found else None
