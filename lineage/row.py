"""row: a record as it lands: all but its data decoded. What a record's data says is read once, where its contents are taken out."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from headwater.lineage.record import Record

EMPTY = msgspec.Raw(b"{}")


Long: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Short: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""What the database's columns hold."""


class Row(msgspec.Struct, kw_only=True, gc=False):
    """A `Record` whose `data` is the JSON of an object. `gc=False`: it refers to nothing that could refer to it."""

    id: str
    kind: str
    flow: str
    step: str
    logged: Long
    ref: str = ""
    parents: tuple[str, ...] = ()
    broker: str = ""
    topic: str = ""
    partition: Short = -1
    first: Long = -1
    next: Long = -1
    count: Long = 0
    outcome: str = ""
    at: Long | None = None
    data: msgspec.Raw = EMPTY


_decoder = msgspec.json.Decoder(list[Row])
_encode = msgspec.json.Encoder(enc_hook=str).encode
_FIELDS = tuple(name for name in Row.__struct_fields__ if name != "data")


def decode_rows(body: bytes) -> list[Row]:
    """The records of one message of the lineage topic. Raises msgspec.DecodeError."""
    # Bytes are checked to be UTF-8 only where a text is made of them, and `data` is none yet.
    rows = _decoder.decode(body if body.isascii() else body.decode())
    for number, row in enumerate(rows):
        if not bytes(row.data).startswith(b"{"):
            raise msgspec.ValidationError(f"Expected `object` - at `$[{number}].data`")
    return rows


def row_of(record: Record | Row) -> Row:
    """A record as it lands."""
    if isinstance(record, Row):
        return record
    data = msgspec.Raw(_encode(record.data)) if record.data else EMPTY
    return Row(data=data, **{name: getattr(record, name) for name in _FIELDS})


def rows_of(records: Sequence[Record | Row]) -> list[Row]:
    """Records as they land."""
    return [row_of(record) for record in records]


def record_of(row: Row) -> Record:
    """The record with its data decoded. Raises msgspec.DecodeError."""
    return Record(data=msgspec.json.decode(row.data, type=dict[str, object]), **{name: getattr(row, name) for name in _FIELDS})
