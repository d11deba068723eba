"""One message of the lineage topic: a list of records, or where there are many, an object of their columns.

In columns, what many records have in common travels once, and documents travel open (see `opening`): so a message is half as long, and
lands without being taken apart. Both are JSON; the first byte tells which of them a message is.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from headwater.lineage.columns import Columns, Common, columns_of
from headwater.lineage.opening import Count, closed, open_said
from headwater.lineage.record import Record, encode_rows
from headwater.lineage.row import Long, decode_rows

FEW = 16
"""Fewer records travel as a list."""


_encode = msgspec.json.Encoder(enc_hook=str).encode
_decoder = msgspec.json.Decoder(list[Record])


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    """See `Columns`."""

    common: list[Common]
    of: list[Count]
    id: list[str]
    ref: list[str]
    parents: list[str]
    counts: list[Count]
    first: list[Long]
    next: list[Long]
    count: list[Long]
    logged: list[Long]
    at: list[Long | None]
    data: list[Raw]
    texts: list[Raw]
    names: list[str]


_wire = msgspec.json.Decoder(_Wire).decode


def encode_batch(records: Sequence[Record]) -> bytes:
    """One message of the lineage topic."""
    return (_in_columns(records) if len(records) >= FEW else None) or encode_rows(records)


def decode_batch(body: bytes) -> list[Record]:
    """The records of one message of the lineage topic; the hash of a chunk does not travel in columns. Raises msgspec.DecodeError."""
    return _records(decode_columns(body)) if body[:1] == b"{" else _decoder.decode(body)


def decode_columns(body: bytes) -> Columns:
    """The same as they land. Raises msgspec.DecodeError, UnicodeDecodeError."""
    if body[:1] != b"{":
        return columns_of(decode_rows(body))
    # Bytes are checked to be UTF-8 only where a text is made of them, and of `data` and `texts` none is yet.
    wire = _wire(body if body.isascii() else body.decode())
    return _checked(wire)


def _checked(wire: _Wire) -> Columns:
    of, size = np.array(wire.of, np.int64), len(wire.id)
    columns = (wire.of, wire.ref, wire.counts, wire.first, wire.next, wire.count, wire.logged, wire.at, wire.data)
    if any(len(each) != size for each in columns) or sum(wire.counts) != len(wire.parents):
        raise msgspec.ValidationError(f"Expected columns of {size} records each")
    if size and int(of.max()) >= len(wire.common):
        raise msgspec.ValidationError(f"Expected places below {len(wire.common)} - at `$.of`")
    beside = np.array([(one.form.texts, one.form.names) if one.form else (0, 0) for one in wire.common] or [(0, 0)], np.int64)
    if (len(wire.texts), len(wire.names)) != tuple(beside[of].sum(axis=0).tolist()):
        raise msgspec.ValidationError("Expected as many texts and names as `$.common` tells of")
    data = list(map(bytes, wire.data))
    if {each[0] for each in data} - {ord("{")}:
        raise msgspec.ValidationError("Expected `object` - at `$.data`")
    first, following, count = (np.array(each, np.int64) for each in (wire.first, wire.next, wire.count))
    return Columns(
        wire.common, of, wire.id, wire.ref, wire.parents, wire.counts, first, following, count, wire.logged, wire.at, data,
        wire.texts, wire.names,
    )  # fmt: skip


def _in_columns(records: Sequence[Record]) -> bytes | None:
    """None if a document is of a form that is not known here."""
    common: dict[tuple[Any, ...], int] = {}
    of, data, texts, names = list[int](), list[Any](), list[Any](), list[str]()
    parents, counts = list[str](), list[int]()
    for record in records:
        told, form = record.data, None
        if record.kind == "document":
            opened = open_said(told, texts, names)
            if opened is None:
                return None
            form, told = opened
        one = (record.kind, record.flow, record.step, record.broker, record.topic, record.partition, record.outcome, form)
        of.append(common.setdefault(one, len(common)))
        data.append(told)
        parents += record.parents
        counts.append(len(record.parents))
    return _encode({
        "common": list(common), "of": of, "id": [record.id for record in records], "ref": [record.ref for record in records],
        "parents": parents, "counts": counts, "first": [record.first for record in records], "next": [record.next for record in records],
        "count": [record.count for record in records], "logged": [record.logged for record in records],
        "at": [record.at for record in records], "data": data, "texts": texts, "names": names,
    })  # fmt: skip


def _records(columns: Columns) -> list[Record]:
    parents, texts = iter(columns.parents), iter(columns.texts)
    found = []
    for place, number in enumerate(columns.of.tolist()):
        *common, form = columns.common[number]
        kind, flow, step, broker, topic, partition, outcome = common
        data = msgspec.json.decode(columns.data[place], type=dict[str, Any])
        if form is not None:
            try:
                data = closed(form, data, [msgspec.json.decode(text) for text in islice(texts, form.texts)])
            except (TypeError, ValueError):
                raise msgspec.ValidationError(f"Expected {form.chunks} chunks - at `$.data[{place}]`") from None
        found.append(Record(
            id=columns.id[place], kind=kind, flow=flow, step=step, logged=columns.logged[place], ref=columns.ref[place],
            parents=tuple(islice(parents, columns.counts[place])), broker=broker, topic=topic, partition=partition,
            first=int(columns.first[place]), next=int(columns.next[place]), count=int(columns.count[place]), outcome=outcome,
            at=columns.at[place], data=data,
        ))  # fmt: skip
    return found
