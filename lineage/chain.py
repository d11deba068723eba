"""Tamper evidence: records are hash-chained in landing order, a batch at a time.

    leaf  = SHA-256 of a record's columns as they landed, its place in the order (seq) included
    root  = SHA-256 of a batch's leaves in order
    head  = SHA-256 of (batch, first seq, next seq, root, the former head)

Whoever keeps a head outside the database can prove later that nothing up to it was changed, dropped, inserted or reordered.
The leaf is defined twice, for SQL (fast, on millions of rows) and for Python (for whoever checks without DuckDB); a test holds them equal.
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

LEAF = "unhex(sha256(concat(" + ", ".join(f"strlen({field})::VARCHAR, ':', {field}" for field in _FIELDS) + ")))"
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


def leaf(seq: int, record: Record, data: str) -> bytes:
    """The leaf of a record that landed as number `seq` with the JSON text `data`."""
    parents = b"".join(_framed(parent) for parent in record.parents)
    fields: Sequence[object] = (
        seq, record.id, record.kind, record.flow, record.step, record.ref, parents,
        record.broker, record.topic, record.partition, record.first, record.next, record.count, record.outcome,
        "" if record.at is None else record.at, record.logged, data,
    )  # fmt: skip
    return hashlib.sha256(b"".join(_framed(field) for field in fields)).digest()


def root(leaves: Iterable[bytes]) -> str:
    """The root of a batch's leaves, given in order."""
    return hashlib.sha256("".join(leaf.hex() for leaf in leaves).encode()).hexdigest()


def head(batch: int, first_seq: int, next_seq: int, root: str, previous: str) -> str:
    """The head after a batch."""
    return hashlib.sha256(f"{batch}\n{first_seq}\n{next_seq}\n{root}\n{previous}".encode()).hexdigest()


def link(before: Head, next_seq: int, root: str) -> Link:
    """The link that follows a head."""
    batch = before.batch + 1
    return Link(batch, before.seq, next_seq, root, before.head, head(batch, before.seq, next_seq, root, before.head))


def broken(links: Iterable[Link], kept: Head | None = None) -> str:
    """What is wrong with a chain of links given in order, in a sentence; empty if nothing is. `kept` is a head kept elsewhere."""
    last = Head(0, 0, GENESIS)
    seen = kept is None or kept == last
    for entry in links:
        if entry.batch != last.batch + 1 or entry.first_seq != last.seq:
            return (
                f"the chain goes from batch {last.batch} (records below {last.seq}) to batch {entry.batch} "
                f"(records from {entry.first_seq}): batches were dropped, inserted or reordered"
            )
        if entry.previous != last.head or entry.head != head(*entry[:4], last.head):
            return f"the head of batch {entry.batch} does not follow from the one before: the chain was rewritten there"
        last = Head(entry.batch, entry.next_seq, entry.head)
        seen = seen or last == kept
    if not seen and kept is not None:
        return f"the kept head {kept.head[:12]}… (batch {kept.batch}, {kept.seq} records) is not in the chain: it was cut or rewritten"
    return ""


def _framed(value: object) -> bytes:
    text = value if isinstance(value, bytes) else str(value).encode()
    return str(len(text)).encode() + b":" + text
