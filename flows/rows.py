"""The rows of a file, one after another, from JSON, lines of JSON, CSV or Parquet: few are in memory.

A row that is wrong is a row too: it has its number, so that what comes after it keeps its own.
"""

import csv
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import msgspec

from headwater.lineage.errors import HeadwaterError, Invalid, Oversized, Undecodable

LONGEST_LINE = 1_000_000
"""Bytes of a line of CSV or JSON; a longer one is a row that is wrong."""
LARGEST_JSON = 64_000_000
"""Bytes of a `.json` file, which is read whole; lines of JSON have no such bound."""
PARQUET_ROWS = 1000
KEPT = 100_000
"""Bytes of a wrong row that its dead letter keeps."""


class Row(NamedTuple):
    """One row by its number, from 1 on: its value, or what is wrong with it. `raw` is what a dead letter keeps of it."""

    number: int
    value: Any
    raw: bytes
    error: HeadwaterError | None = None


def csv_rows(file: BinaryIO, skip: int) -> Iterator[Row]:
    """Rows of a CSV file with a header, as columns → texts; an empty field is null. A row that spans lines is one row."""
    lines = _Texts(file)
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        lines.raw.clear()
        lines.error = None
        error: HeadwaterError | None = None
        fields: list[str] = []
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as wrong:
            error = Undecodable(f"no CSV: {wrong}")
        error = lines.error or error
        if header is None:
            if error is not None:
                raise error
            header = _header(fields)
            continue
        if not fields and error is None:
            continue  # an empty line is no row
        number += 1
        if number <= skip:
            continue
        raw = b"".join(lines.raw)[:KEPT]
        if error is None and len(fields) != len(header):
            error = Invalid(f"{len(fields)} fields, and the header has {len(header)}")
        if error is not None:
            yield Row(number, None, raw, error)
        else:
            yield Row(number, {name: field or None for name, field in zip(header, fields, strict=True)}, raw)


def _header(fields: list[str]) -> list[str]:
    header = [field.strip() for field in fields]
    if len(set(header)) != len(header) or "" in header:
        raise Undecodable(f"the first line must name the columns, each once: {', '.join(header)[:200]}")
    return header


class _Texts:
    """Lines as texts for the CSV reader, which remembers what is wrong with those of the row at hand."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _lines(file)
        self._first = True
        self.raw: list[bytes] = []
        self.error: HeadwaterError | None = None

    def __iter__(self) -> "_Texts":
        return self

    def __next__(self) -> str:
        line, error = next(self._lines)
        if self._first:
            self._first, line = False, line.removeprefix(b"\xef\xbb\xbf")
        if sum(map(len, self.raw)) <= KEPT:
            self.raw.append(line)
        try:
            text = line.decode()
        except UnicodeDecodeError as wrong:
            error, text = error or Undecodable(f"not UTF-8: {wrong.reason} at byte {wrong.start}"), line.decode(errors="replace")
        self.error = self.error or error
        return text


def json_lines(file: BinaryIO, skip: int) -> Iterator[Row]:
    """A row per line of JSON; empty lines are none."""
    number = 0
    for line, error in _lines(file):
        if not line.strip():
            continue
        number += 1
        if number > skip:
            yield _json_row(number, line, error)


def json_rows(file: BinaryIO, skip: int) -> Iterator[Row]:
    """The items of a JSON array, or the one object. Raises Undecodable, Oversized."""
    body = file.read(LARGEST_JSON + 1)
    if len(body) > LARGEST_JSON:
        raise Oversized(f"more than {LARGEST_JSON} bytes in one JSON document; write a line for each row (.ndjson)")
    try:
        items = msgspec.json.decode(body, type=list[msgspec.Raw]) if body.lstrip().startswith(b"[") else [msgspec.Raw(body)]
    except msgspec.DecodeError as error:
        raise Undecodable(f"not a JSON array: {error}") from None
    for number, item in enumerate(items, 1):
        if number > skip:
            yield _json_row(number, bytes(item), None)


def parquet_rows(file: BinaryIO, skip: int) -> Iterator[Row]:
    """Rows of a Parquet file, a thousand in memory. Raises Undecodable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        number = 0
        for batch in table.iter_batches(batch_size=PARQUET_ROWS):
            if number + batch.num_rows <= skip:
                number += batch.num_rows
                continue
            for value in batch.to_pylist():
                number += 1
                if number > skip:
                    yield Row(number, value, b"")
    except (pa.ArrowException, OSError) as error:
        raise Undecodable(f"no Parquet: {error}") from None


FORMATS: dict[str, Callable[[BinaryIO, int], Iterator[Row]]] = {
    ".csv": csv_rows, ".json": json_rows, ".ndjson": json_lines, ".jsonl": json_lines, ".parquet": parquet_rows,
}  # fmt: skip


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, HeadwaterError | None]]:
    """Lines; of one that is too long its beginning, and what is wrong with it."""
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE or line.endswith(b"\n"):
            yield line, None
            continue
        size = len(line)
        while (more := file.readline(LONGEST_LINE)) and (size := size + len(more)) and not more.endswith(b"\n"):
            pass
        yield line[:KEPT] + b"\n", Oversized(f"a line of {size} bytes; at most {LONGEST_LINE}")


def _json_row(number: int, raw: bytes, error: HeadwaterError | None) -> Row:
    if error is None:
        try:
            return Row(number, msgspec.json.decode(raw), raw[:KEPT])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            error = Undecodable(f"not JSON: {wrong}")
    return Row(number, None, raw[:KEPT], error)
