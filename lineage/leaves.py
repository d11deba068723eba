"""leaves: the chain's leaves of rows about to land, column by column: half of what SQL takes, and other threads run meanwhile.

`chain` says what a leaf is.
"""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_AT_ONCE = 1 << 28
"""Bytes: an array of texts holds 2 GB at most, and the texts of leaves are not much longer than the rows."""
_MOMENTS = ("time", "logged")
_FIELDS: tuple[str | tuple[str, ...], ...] = (
    "seq", "id", ("kind", "flow", "step"), "ref", "parents", ("broker", "topic", "partition"), "first", "next", "count", ("outcome",),
    *_MOMENTS, "data",
)  # fmt: skip
"""In brackets what many rows have in common: `landing.table` gives it as dictionaries, all of the same places."""

_FRAMES = pa.array([f"{length}:" for length in range(4_096)])
"""What stands before texts of these lengths."""


def leaves(rows: pa.Table) -> list[bytes]:
    """The leaf of each row; `rows` as `landing.table` makes them."""
    at_once = max(1, rows.num_rows * _AT_ONCE // max(rows.nbytes, 1))
    found: list[bytes] = []
    for start in range(0, rows.num_rows, at_once):
        found.extend(_hashed(_joined(rows.slice(start, at_once))))
    return found


def _joined(rows: pa.Table) -> pa.Array:
    """The text that each leaf is the hash of."""
    parts: list[pa.Array | str] = []
    for name in _FIELDS:
        if isinstance(name, tuple):
            parts.append(_common([rows[each].combine_chunks() for each in name]))
            continue
        column = rows[name].combine_chunks()
        if name == "parents":
            column = _listed(column)
        elif name in _MOMENTS:
            column = pc.cast(column, pa.int64())
        parts += _framed(_text(column))
    held = rows["held"].combine_chunks()
    # A record that holds no contents, as none did once, has no such field.
    parts.append(pc.fill_null(pc.binary_join_element_wise(*_framed(held), ""), ""))
    return pc.binary_join_element_wise(*parts, "")


def _common(columns: Sequence[pa.DictionaryArray]) -> pa.Array:
    framed = [part for column in columns for part in _framed(_text(column.dictionary))]
    return pc.take(pc.binary_join_element_wise(*framed, ""), columns[0].indices)


def _text(column: pa.Array) -> pa.Array:
    return column if pa.types.is_string(column.type) else pc.fill_null(pc.cast(column, pa.string()), "")


def _framed(texts: pa.Array) -> list[pa.Array | str]:
    lengths = pc.fill_null(pc.binary_length(texts), 0)
    ends = pc.min_max(lengths).as_py()
    longest = ends["max"] or 0
    if ends["min"] == longest:
        return [f"{longest}:", texts]
    if longest < len(_FRAMES):
        return [pc.take(_FRAMES, lengths), texts]
    return [pc.cast(lengths, pa.string()), ":", texts]


def _listed(lists: pa.Array) -> pa.Array:
    """Of each list its texts, each framed, as one text."""
    framed = pc.binary_join_element_wise(*_framed(lists.flatten()), "")
    starts = pc.subtract(lists.offsets, lists.offsets[0])
    return pc.binary_join(pa.ListArray.from_arrays(starts, framed), "")


def _hashed(texts: pa.Array) -> list[bytes]:
    _, offsets, body = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    whole, sha256 = memoryview(body or b""), hashlib.sha256
    return [sha256(whole[start:end]).digest() for start, end in pairwise(ends)]
