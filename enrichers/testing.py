"""Test doubles of enrichers, for us and for the tests of applications."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from headwater.enrichers.engine import Vector

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
