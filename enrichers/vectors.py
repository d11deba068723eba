"""Where the vector of a chunk comes from: the cache, the index, a former index, and only then the model."""

from collections.abc import Mapping, Sequence

from headwater.enrichers.embed import Embedder, VectorCache
from headwater.enrichers.engine import Index, Vector
from headwater.enrichers.head import Head, points_of
from headwater.enrichers.said import Said
from headwater.lineage.errors import DocumentUnavailable, HeadwaterError, IndexFailed, Unavailable, retryable

SLICE = 256
"""Chunks that are embedded, and points that are put, at once: so much of a long document is in the engine's hands at a time."""

PROBE = "does the embedder answer"
"""What an embedder that did not answer for one text is asked next: whether it is that text, or all of them."""


class Vectors:
    """The vectors of an index's chunks, each computed once. Threads may share it.

    former  another index with vectors of the same model, from which those of unchanged texts are taken
    cache   shared with others who embed with the same model; None: one of its own
    """

    def __init__(self, index: Index, embedder: Embedder, former: Index | None = None, cache: VectorCache | None = None) -> None:
        self._index, self._embedder, self.former = index, embedder, former
        self._cache = cache or VectorCache()

    def add(self, known: dict[str, Vector], new: Sequence[Said], heads: Mapping[str, Head]) -> dict[str, HeadwaterError]:
        """See to it that `known` has a vector for every chunk of `new`; `heads`: of their documents, as the index has them.

        Returns the hashes of refused texts, with the reason. Raises Unavailable.
        """
        passages = {piece.hash: piece.passage for one in new for piece in one.change.chunks if piece.hash not in known}
        known |= {hash: vector for hash in passages if (vector := self._cache.get(hash)) is not None}
        documents = list(dict.fromkeys(one.change.document for one in new))
        found = self._stored([heads[name] for name in documents if name in heads], passages.keys() - known.keys())
        found |= self._formerly(documents, passages.keys() - known.keys() - found.keys())
        missing = [hash for hash in passages if hash not in known and hash not in found]
        self._cache.update(found)
        known |= found
        refused: dict[str, HeadwaterError] = {}
        for start in range(0, len(missing), SLICE):
            hashes = missing[start : start + SLICE]
            computed, refusals = self._compute(hashes, [passages[hash] for hash in hashes])
            self._cache.update(computed)
            known |= computed
            refused |= refusals
        return refused

    def _stored(self, heads: Sequence[Head], wanted: set[str]) -> dict[str, Vector]:
        """Vectors of chunks that did not change, from the documents' current points. A vector of zero is none: see `ByWords`."""
        pairs = [pair for head in heads for pair in zip(head.current.points(head.document), head.hashes, strict=True)]
        ids = {id: hash for id, hash in pairs if hash in wanted}
        found = self._index.points(list(ids)) if ids else {}
        return {ids[id]: vector for id, (_, vector) in found.items() if vector.any()}

    def _formerly(self, documents: Sequence[str], wanted: set[str]) -> dict[str, Vector]:
        """Vectors of the same texts in the former index, from any version of the same documents."""
        if self.former is None or not wanted:
            return {}
        heads = self.former.heads(documents)
        found = self.former.points([id for document, head in heads.items() for id in points_of(document, head.entries)])
        return {point.hash: vector for point, vector in found.values() if point.hash in wanted and vector.any()}

    def _compute(self, hashes: Sequence[str], passages: Sequence[str]) -> tuple[dict[str, Vector], dict[str, HeadwaterError]]:
        """Vectors by hash. If the embedder refuses the batch, each text is tried alone, and only the ones at fault are refused.

        Raises Unavailable if it answers nothing at all.
        """
        if not hashes:
            return {}, {}
        try:
            return dict(zip(hashes, self._embedder.embed(passages), strict=True)), {}
        except Unavailable:
            raise
        except Exception as error:
            if len(hashes) == 1:
                return {}, {hashes[0]: self._refusal(error)}
        computed: dict[str, Vector] = {}
        refused: dict[str, HeadwaterError] = {}
        for hash, passage in zip(hashes, passages, strict=True):
            vectors, refusals = self._compute([hash], [passage])
            computed |= vectors
            refused |= refusals
        return computed, refused

    def _refusal(self, error: Exception) -> HeadwaterError:
        """What is said of the one text that an embedder failed on. Raises Unavailable if it fails on any other as well."""
        why = f"the embedder {self._embedder.name} refused a chunk: {type(error).__name__}: {error}"
        if not retryable(error):
            return IndexFailed(why)
        try:
            self._embedder.embed([PROBE])
        except Exception as other:
            raise Unavailable(f"the embedder {self._embedder.name} does not answer: {type(other).__name__}: {other}") from other
        return DocumentUnavailable(why)
