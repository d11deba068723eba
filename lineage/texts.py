"""texts: contents on their way into the database: each gets its hash and its number, and what was stored lately is known again."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_sha256 = hashlib.sha256
RECENT = 65_536
"""Hashes of contents that are remembered, at least, so that what is said again is not looked for in the database: some 15 MB."""


class Texts:
    """Numbers contents from `next` on, under one key. Those that are to be stored wait in the order of their numbers, as columns:
    a hundred thousand tuples would be gone through by the garbage collector again and again.
    """

    def __init__(self, key: bytes, next: int, recent: Mapping[str, int]) -> None:
        self.next = next
        self._hashes, self._salts, self._bodies = list[str](), list[str](), list[bytes]()
        self._keyed, self._recent = hashlib.blake2b(key=key, digest_size=16), dict(recent)

    def references(self, told: Sequence[bytes], bodies: Sequence[bytes]) -> pa.Array:
        """`number:hash` of each JSON text, which is stored if it was not lately; `told` is each after its scope."""
        salts, begun = list[str](), self._keyed.copy
        for each in told:
            keyed = begun()
            keyed.update(each)
            salts.append(keyed.hexdigest())
        hashes = [_sha256(salt.encode() + body).hexdigest() for salt, body in zip(salts, bodies, strict=True)]
        known, numbers, following = self._recent.setdefault, list[int](), self.next
        for hash in hashes:
            n = known(hash, following)
            numbers.append(n)
            following += n == following
        self._wait(numbers, hashes, salts, bodies)
        return pc.binary_join_element_wise(pc.cast(pa.array(numbers, pa.int64()), pa.string()), pa.array(hashes, pa.string()), ":")

    def _wait(self, numbers: Sequence[int], hashes: Sequence[str], salts: Sequence[str], bodies: Sequence[bytes]) -> None:
        """Those of these contents that are new are to be stored, each once: their numbers follow each other."""
        if numbers and numbers[-1] - self.next == len(numbers) - 1:
            self.next += len(numbers)
            self._hashes.extend(hashes)
            self._salts.extend(salts)
            self._bodies.extend(bodies)
            return
        for n, hash, salt, body in zip(numbers, hashes, salts, bodies, strict=True):
            if n == self.next:
                self.next += 1
                self._hashes.append(hash)
                self._salts.append(salt)
                self._bodies.append(body)

    def number(self, hash: str, salt: str, body: bytes) -> int:
        """The number of a content, which is stored if it was not lately."""
        n = self._recent.setdefault(hash, self.next)
        self._wait([n], [hash], [salt], [body])
        return n

    def seal(self, scope: bytes, body: bytes) -> tuple[str, str]:
        """(hash, salt) of a JSON text of a scope, which ends with a separator: the salt depends on key, scope and text."""
        keyed = self._keyed.copy()
        keyed.update(scope + body)
        salt = keyed.hexdigest()
        return _sha256(salt.encode() + body).hexdigest(), salt

    def unknown(self, hashes: Sequence[str]) -> list[str]:
        """Those that are not among the recent ones."""
        return [hash for hash in hashes if hash not in self._recent]

    def learn(self, known: Mapping[str, int]) -> None:
        """What the database has."""
        self._recent.update(known)

    def take(self) -> pa.Table | None:
        """What is to be stored, once, as the columns of `contents`; None if there is nothing. Older hashes are forgotten then."""
        if len(self._recent) > 2 * RECENT:
            self._recent = dict(itertools.islice(self._recent.items(), len(self._recent) - RECENT, None))
        if not self._hashes:
            return None
        columns = {
            "n": pa.array(np.arange(self.next - len(self._hashes), self.next)),
            "name": names(self._hashes),
            **{name: pa.array(of, pa.string()) for name, of in (("hash", self._hashes), ("salt", self._salts), ("body", self._bodies))},
        }
        self._hashes, self._salts, self._bodies = [], [], []
        return pa.table(columns)


def names(hashes: Sequence[str]) -> pa.Array:
    """The beginnings of hashes as numbers: what is looked for is found by comparing numbers."""
    beginnings = np.frombuffer(bytes.fromhex("".join([hash[:16] for hash in hashes])), ">u8")
    return pa.array(beginnings.astype(np.uint64))
