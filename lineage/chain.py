"""Tamper evidence: records are hash-chained in landing order, a batch at a time.

    leaf  = SHA-256 of a record's columns as they landed, its place in the order (seq) included
    root  = SHA-256 of a batch's leaves in order
    head  = SHA-256 of (batch, first seq, next seq, root, the former head)

Whoever keeps a head outside the database can prove later that nothing up to it was changed, dropped, inserted or reordered.
The leaf is defined twice, for SQL (for whoever verifies millions of rows) and for Python (for whoever checks without DuckDB); `leaves`
makes those of a batch that lands. A test holds the three equal.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from headwater.lineage.record import Record

GENESIS = "0" * 64

# Each field as length:text, so that no text can pass for two fields; a missing time is the empty text.
_FIELDS = (
    "seq::VARCHAR", "id", "kind", "flow", "step", "ref",
    "array_to_string([strlen(p)::VARCHAR || ':' || p FOR p IN parents], '')",
    "broker", "topic", '"partition"::VARCHAR', '"first"::VARCHAR', '"next"::VARCHAR', '"count"::VARCHAR', "outcome",
    "coalesce(epoch_us(\"time\")::VARCHAR, '')", "epoch_us(logged)::VARCHAR", "data::VARCHAR",
)  # fmt: skip

# A record that holds no contents, as none did once, has no such field.
_HELD = "strlen(held::VARCHAR)::VARCHAR || ':' || held::VARCHAR"

LEAF = "unhex(sha256(concat(" + ", ".join(f"strlen({field})::VARCHAR, ':', {field}" for field in _FIELDS) + f", {_HELD})))"
"""The SQL expression of a leaf over the columns of `records`."""

ROOT = "sha256(coalesce(string_agg(lower(hex(leaf)), '' ORDER BY seq), ''))"
"""The SQL aggregate of a batch's root."""


class Head(NamedTuple):
    """The state of the chain after a batch: what is to be kept outside the database."""

    batch: int
    seq: int
    head: str


class Link(NamedTuple):
    """One batch in the chain, as the table `chain` holds it: records [first_seq, next_seq)."""

    batch: int
    first_seq: int
    next_seq: int
    root: str
    previous: str
    head: str


def leaf(seq: int, record: Record, data: str, held: str | None = None) -> bytes:
    """The leaf of a record that landed as number `seq` with the JSON text `data`, holding the contents that `held` refers to."""
    parents = b"".join(_framed(parent) for parent in record.parents)
    fields: Sequence[object] = (
        seq, record.id, record.kind, record.flow, record.step, record.ref, parents,
        record.broker, record.topic, record.partition, record.first, record.next, record.count, record.outcome,
        "" if record.at is None else record.at, record.logged, data, *(() if held is None else (held,)),
    )  # fmt: skip
    return hashlib.sha256(b"".join(_framed(field) for field in fields)).digest()


def root(leaves: Iterable[bytes]) -> str:
    """The root of a batch's leaves, given in order."""
    return hashlib.sha256(b"".join(leaves).hex().encode()).hexdigest()


def head(batch: int, first_seq: int, next_seq: int, root: str, previous: str) -> str:
    """The head after a batch."""
    return hashlib.sha256(f"{batch}\n{first_seq}\n{next_seq}\n{root}\n{previous}".encode()).hexdigest()


def link(before: Head, next_seq: int, root: str) -> Link:
    """The link that follows a head."""
    batch = before.batch + 1
    return Link(batch, before.seq, next_seq, root, before.head, head(batch, before.seq, next_seq, root, before.head))


def broken(links: Iterable[Link], kept: Iterable[Head] = ()) -> str:
    """What is wrong with a chain of links given in order, in a sentence; empty if nothing is. `kept` are heads kept elsewhere."""
    last = Head(0, 0, GENESIS)
    missing = {head.batch: head for head in sorted(kept, reverse=True)}
    for entry in links:
        if entry.batch != last.batch + 1 or entry.first_seq != last.seq:
            return (
                f"the chain goes from batch {last.batch} (records below {last.seq}) to batch {entry.batch} "
                f"(records from {entry.first_seq}): batches were dropped, inserted or reordered"
            )
        if entry.previous != last.head or entry.head != head(*entry[:4], last.head):
            return f"the head of batch {entry.batch} does not follow from the one before: the chain was rewritten there"
        last = Head(entry.batch, entry.next_seq, entry.head)
        if missing.pop(last.batch, last) != last:
            where = f"batch {last.batch} (records {entry.first_seq} to {last.seq - 1})"
            return f"{where} is not what the head kept of it says: it was rewritten"
    lost = [head for head in missing.values() if head.batch]
    if lost:
        first = min(lost)
        return (
            f"the kept head {first.head[:12]}… (batch {first.batch}, {first.seq} records) is not in the chain, "
            f"which ends with batch {last.batch}: its end was cut"
        )
    return ""


def _framed(value: object) -> bytes:
    text = value if isinstance(value, bytes) else str(value).encode()
    return str(len(text)).encode() + b":" + text
