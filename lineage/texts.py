"""texts: contents on their way into the database: each gets its hash and its number, and what was stored lately is known again."""

import hashlib
from binascii import hexlify
from collections.abc import Mapping, Sequence
from itertools import compress, islice
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Body: TypeAlias = bytes | Raw
"""UTF-8; within a message still, or on its own."""

_sha256 = hashlib.sha256
_HASH_BYTES, _SALT_BYTES = 32, 16
RECENT = 65_536
"""Hashes of contents that are remembered, at least, so that what is said again is not looked for in the database: some 10 MB."""


class Texts:
    """Numbers contents from `next` on, under one key; `recent` are hashes, as hex digits, with their numbers. Those that are to be stored
    wait in the order of their numbers, as columns: a hundred thousand tuples would be gone through by each collection of garbage.
    """

    def __init__(self, key: bytes, next: int, recent: Mapping[str, int]) -> None:
        self.next = next
        self._hashes, self._salts, self._bodies = list[bytes](), list[bytes](), list[Body]()
        self._keyed = hashlib.blake2b(key=key, digest_size=_SALT_BYTES)
        self._recent: dict[bytes, int] = {}
        self.learn(recent)

    def references(self, told: Sequence[bytes], bodies: Sequence[Body]) -> pa.Array:
        """`number:hash` of each JSON text, which is stored if it was not lately; `told` is each after its scope."""
        salts, begun = list[bytes](), self._keyed.copy
        for each in told:
            keyed = begun()
            keyed.update(each)
            salts.append(hexlify(keyed.digest()))
        hashes = [_sha256(salt + body).digest() for salt, body in zip(salts, bodies, strict=True)]
        numbers = pa.array(self._numbered(hashes, salts, bodies))
        return pc.binary_join_element_wise(pc.cast(numbers, pa.string()), _equally_long(hexlify(b"".join(hashes)), 2 * _HASH_BYTES), ":")

    def _numbered(self, hashes: Sequence[bytes], salts: Sequence[bytes], bodies: Sequence[Body]) -> Numbers:
        """The numbers of contents. Those that are new are to be stored, each once: their numbers follow each other."""
        begin, count = self.next, len(hashes)
        numbers = np.fromiter(map(self._recent.setdefault, hashes, range(begin, begin + count)), np.int64, count)
        new = numbers == np.arange(begin, begin + count)
        self.next += int(new.sum())
        if self.next < begin + count:
            # Each was numbered as if all before it were new.
            ranks = begin + np.cumsum(new) - 1
            again = numbers >= begin
            numbers[again] = ranks[numbers[again] - begin]
            hashes, salts, bodies = (list(compress(each, new)) for each in (hashes, salts, bodies))
            self._recent.update(zip(hashes, range(begin, self.next), strict=True))
        self._hashes += hashes
        self._salts += salts
        self._bodies += bodies
        return numbers

    def number(self, hash: str, salt: str, body: bytes) -> int:
        """The number of a content, which is stored if it was not lately."""
        return int(self._numbered([bytes.fromhex(hash)], [salt.encode()], [body])[0])

    def seal(self, scope: bytes, body: bytes) -> tuple[str, str]:
        """(hash, salt) of a JSON text of a scope, which ends with a separator: the salt depends on key, scope and text."""
        keyed = self._keyed.copy()
        keyed.update(scope + body)
        salt = keyed.hexdigest()
        return _sha256(salt.encode() + body).hexdigest(), salt

    def unknown(self, hashes: Sequence[str]) -> list[str]:
        """Those that are not among the recent ones."""
        return [hash for hash in hashes if bytes.fromhex(hash) not in self._recent]

    def learn(self, known: Mapping[str, int]) -> None:
        """What the database has."""
        self._recent.update((bytes.fromhex(hash), number) for hash, number in known.items())

    def take(self) -> pa.Table | None:
        """What is to be stored, once, as columns of `contents`; None if there is nothing. Older hashes are forgotten then."""
        if len(self._recent) > 2 * RECENT:
            self._recent = dict(islice(self._recent.items(), len(self._recent) - RECENT, None))
        if not self._hashes:
            return None
        columns = {
            "n": pa.array(np.arange(self.next - len(self._hashes), self.next)),
            "name": names(self._hashes),
            "salt": _equally_long(b"".join(self._salts), 2 * _SALT_BYTES),
            "body": _texts(self._bodies),
        }
        self._hashes, self._salts, self._bodies = [], [], []
        return pa.table(columns)


def names(hashes: Sequence[bytes]) -> pa.Array:
    """The beginnings of hashes as numbers: what is looked for is found by comparing numbers."""
    beginnings = np.frombuffer(b"".join(hashes), ">u8")[:: _HASH_BYTES // 8]
    return pa.array(beginnings.astype(np.uint64))


def _texts(bodies: Sequence[Body]) -> pa.Array:
    ends = np.zeros(len(bodies) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, bodies), np.int64, len(bodies)), out=ends[1:])
    return pa.LargeStringArray.from_buffers(len(bodies), pa.py_buffer(ends), pa.py_buffer(b"".join(bodies)))


def _equally_long(texts: bytes, length: int) -> pa.Array:
    """Texts of so many bytes each that follow each other. (One by one from a list of them takes ten times as long.)"""
    count = len(texts) // length
    ends = np.arange(count + 1, dtype=np.int32) * np.int32(length)
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(texts))
