"""leaves: the chain's leaves of rows about to land.

Of many rows the texts are put together in SQL: in one statement, while other threads have the interpreter. The hash is Python's, for
DuckDB's SHA-256 takes four times as long. Few rows are done before that statement would be planned.
"""

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa

from headwater.lineage.chain import COLUMNS, TEXT, leaf_of

FEW = 1_000

_AT_ONCE = 1 << 28
"""Bytes: an array of texts holds 2 GB at most, and the texts of leaves are not much longer than the rows."""


def leaves(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> list[bytes]:
    """The leaf of each row; `rows` as `landing.table` makes them."""
    if rows.num_rows <= FEW:
        return [leaf_of(values) for values in zip(*map(_plain, rows.select(COLUMNS).columns), strict=True)]
    at_once = max(1, rows.num_rows * _AT_ONCE // max(rows.nbytes, 1))
    found: list[bytes] = []
    for start in range(0, rows.num_rows, at_once):
        texts = connection.from_arrow(rows.slice(start, at_once)).project(f"{TEXT} AS text").to_arrow_table()
        for chunk in texts["text"].chunks:
            found.extend(_hashed(chunk))
    return found


def _plain(column: pa.ChunkedArray) -> list[object]:
    values: list[object] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values


def _hashed(texts: pa.Array) -> Iterator[bytes]:
    _, offsets, body = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    whole = memoryview(body or b"")
    for start, end in pairwise(ends):
        yield hashlib.sha256(whole[start:end]).digest()
