"""What an embedder gives, checked once for all who ask: rows as the index and searches count on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from headwater.enrichers.embed import Embedder
from headwater.enrichers.engine import Vector
from headwater.lineage.errors import Misused, Unavailable

NEAR = 1e-3
"""So far from 1 a row's length may lie: what is nearer keeps its digits."""


class Checked:
    """An embedder whose rows are what `Embedder` promises. Rows of another length are made of length 1."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.size = embedder.name, embedder.size
        self._embedder: Any = embedder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed(self, texts: Sequence[str]) -> Vector:
        """One row per text. Raises what the embedder raises, Unavailable if what it gives is no such rows (no text is at fault, so the
        index waits until it is mended), Misused for a text whose row has no direction."""
        rows: Vector = np.asarray(self._embedder.embed(texts), dtype=np.float32)
        wanted = (len(texts), self.size)
        if rows.shape != wanted:
            told = f"an array of shape {rows.shape}; for {len(texts)} texts and its size={self.size} it must be {wanted}"
            raise Unavailable(f"the embedder {self.name} gave {told}")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        sound = np.isfinite(lengths) & (lengths > 0)
        if not sound.all():
            text = texts[int(np.argmin(sound))]
            raise Misused(f"the embedder {self.name} gave a row without a direction (all zero, or not finite) for {text[:60]!r}")
        return np.where(np.abs(lengths - 1) <= NEAR, rows, rows / lengths)


def checked(embedder: Embedder) -> Embedder:
    """The embedder, its rows checked; one that is already, as it is."""
    return embedder if isinstance(embedder, Checked) else Checked(embedder)
