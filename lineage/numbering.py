"""numbering: the names of many ids at once: what `names.number` says of each, in half the time that SQL takes.

MD5 of texts that fill one block, step by step for thousands side by side (RFC 1321); longer ones, and few, go one by one.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

FEW = 512
"""So many or fewer are done before the first of the 64 steps would have paid."""
_AT_ONCE = 32_768
"""As many as a transaction has, mostly: numpy lets go of the interpreter in each of some five hundred steps, and must wait for it again."""
_BLOCK, _LONGEST = 64, 55
_WHOLE = re.compile(r"[0-9a-f]{16}")
_UUID = np.array([*range(8), *range(9, 13), *range(14, 18)])
"""Where the first sixteen hex digits of a UUID stand."""
_NIBBLES = np.full(256, 255, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)
_NIBBLES[np.frombuffer(b"ABCDEF", np.uint8)] = range(10, 16)
_HEX_OR_DASH = np.frombuffer(b"0123456789abcdefABCDEF-", np.uint8)
_MAY = np.isin(np.arange(256), _HEX_OR_DASH)

_BEGIN = tuple(map(np.uint32, (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)))
_TURNS = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]]
_WORDS = ((1, 0), (5, 1), (3, 5), (7, 0))
_STEPS = tuple(
    (step // 16, (factor * step + more) % 16, np.uint32(int(abs(math.sin(step + 1)) * 2**32)), np.uint32(_TURNS[step // 16][step % 4]))
    for step in range(64)
    for factor, more in (_WORDS[step // 16],)
)
"""(round, word of the block, constant, how far it is turned)."""


def number(text: str) -> int:
    """The name of an id, as a number."""
    digits = text.lower().replace("-", "")[:16]
    if _WHOLE.fullmatch(digits):
        return int(digits, 16)
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:], "little")


def numbers(texts: Sequence[str]) -> Numbers:
    """The names of ids, as numbers of 64 bits."""
    if len(texts) <= FEW:
        return np.array([number(text) for text in texts], np.uint64)
    found = np.empty(len(texts), np.uint64)
    for start in range(0, len(texts), _AT_ONCE):
        found[start : start + _AT_ONCE] = _numbers(texts[start : start + _AT_ONCE])
    return found


def _numbers(texts: Sequence[str]) -> Numbers:
    told = pa.array(texts, pa.string())
    lengths = np.diff(np.frombuffer(told.buffers()[1], np.int32))
    found = np.empty(len(texts), np.uint64)
    long = np.flatnonzero(lengths > _LONGEST)
    if len(long):
        told = pc.if_else(pa.array(lengths > _LONGEST), "", told)
    blocks = np.frombuffer(pc.ascii_rpad(told, _BLOCK, "\0").buffers()[2], np.uint8).reshape(-1, _BLOCK)
    may = _beginning_as_hex(blocks)
    digits = _NIBBLES[blocks.take(may, axis=0).take(_UUID, axis=1)]
    uuids = (digits < 16).all(axis=1) & (blocks[may, 8] == ord("-")) & (blocks[may, 13] == ord("-"))
    pairs = digits[uuids, ::2] << 4 | digits[uuids, 1::2]
    found[may[uuids]] = pairs.view(">u8").ravel()
    # What begins as hex in another form is asked one by one; so is what does not fit into one block.
    for place in (*may[~uuids].tolist(), *long.tolist()):
        found[place] = number(texts[place])
    hashed = np.ones(len(texts), bool)
    hashed[may] = hashed[long] = False
    if hashed.any():
        found[hashed] = _md5(blocks[hashed], lengths[hashed])
    return found


def _beginning_as_hex(blocks: Numbers) -> Numbers:
    """The places of those that begin with nothing but hex digits and dashes, as a name of one's own does."""
    may = np.flatnonzero(_MAY[blocks[:, 0]])
    for column in range(1, 16):
        if not len(may):
            break
        may = may[_MAY[blocks[may, column]]]
    return may


def _md5(blocks: Numbers, lengths: Numbers) -> Numbers:
    """Of each block, which holds so many bytes and then zeros, the latter half of its MD5."""
    blocks[np.arange(len(blocks)), lengths] = 0x80
    words = np.ascontiguousarray(blocks.view("<u4").T)
    words[14] = lengths * 8
    filled = [bool(word.any()) for word in words]
    a, b, c, d = (np.full(len(blocks), begin) for begin in _BEGIN)
    turned, mixed = np.empty_like(a), np.empty_like(a)
    for kind, word, constant, turn in _STEPS:
        _mix(kind, b, c, d, mixed)
        mixed += a
        mixed += constant
        if filled[word]:
            mixed += words[word]
        np.right_shift(mixed, np.uint32(32) - turn, out=turned)
        mixed <<= turn
        mixed |= turned
        mixed += b
        a, b, c, d, mixed = d, mixed, b, c, a
    return (d + _BEGIN[3]).astype(np.uint64) << np.uint64(32) | (c + _BEGIN[2]).astype(np.uint64)


def _mix(kind: int, b: Numbers, c: Numbers, d: Numbers, mixed: Numbers) -> None:
    if kind == 0:
        np.bitwise_xor(c, d, out=mixed)
        mixed &= b
        mixed ^= d
    elif kind == 1:
        np.bitwise_xor(b, c, out=mixed)
        mixed &= d
        mixed ^= c
    elif kind == 2:
        np.bitwise_xor(b, c, out=mixed)
        mixed ^= d
    else:
        np.invert(d, out=mixed)
        mixed |= b
        mixed ^= c
