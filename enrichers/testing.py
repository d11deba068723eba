"""Test doubles of enrichers, for us and for the tests of applications."""

import hashlib
import re
import time
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any, cast

import numpy as np

from headwater.enrichers.engine import Index, Vector
from headwater.lineage.errors import Unavailable

_WORD = re.compile(r"\w+")


class HashEmbedder:
    """Words thrown into buckets by hash: no model, no network, microseconds. Texts that share words are similar; meaning is lost.

    `embedded` lists every text it was given, in order.
    """

    name = "hash"

    def __init__(self, size: int = 64) -> None:
        self.size = size
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vector:
        self.embedded.extend(texts)
        rows: Vector = np.zeros((len(texts), self.size), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in _WORD.findall(text.lower()):
                number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
                row[number % self.size] += 1.0 if number >> 63 else -1.0
            length = np.linalg.norm(row)
            if length:
                row /= length
            else:
                row[0] = 1.0
        return rows


class Overlap:
    """A reranker that counts: the share of the query's words that a text has.

    `asked` lists each query with the texts it was given, in order.
    """

    name = "overlap"

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append((query, list(texts)))
        wanted = set(_WORD.findall(query.lower()))
        return [len(wanted & set(_WORD.findall(text.lower()))) / max(1, len(wanted)) for text in texts]


class Stall:
    """A fault that a file switches on, also in other processes: while it is there, calls hang; if it says `refuse`, they are refused."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> None:
        """Return once the file is gone. Raises Unavailable if it says so."""
        while self.holds():
            time.sleep(0.02)

    def holds(self) -> bool:
        """Whether a call must go on waiting. Raises Unavailable."""
        try:
            refuses = self.file.read_text().strip() == "refuse"
        except FileNotFoundError:
            return False
        if refuses:
            raise Unavailable(f"{self.file.name} refuses")
        return True


def stalling(index: Index, stall: Stall) -> Index:
    """The same index, every call of which goes through a stall first; `close` does not."""
    return cast(Index, _Stalling(index, stall))


class _Stalling:
    def __init__(self, index: Index, stall: Stall) -> None:
        self._index, self._stall = index, stall

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._index, name)
        if not callable(found) or name == "close":
            return found

        @wraps(found)
        def stalled(*args: Any, **options: Any) -> Any:
            self._stall()
            return found(*args, **options)

        return stalled
