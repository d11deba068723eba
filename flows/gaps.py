"""Gaps: offsets that a reader of the embedded broker was not given, and whether something lies there after all.

That broker gives a batch its offsets before it stores it. While one is being stored, a later one, of another producer, may be there to
read already: then a reader is given the later one, goes on behind it, and never sees the first. (Of 6,500 batches of four producers to one
partition, six were missed so.) A gap is therefore believed only when it is there again a while later, before a message and before an end
alike. Ends of transactions leave gaps as well, so what follows one is handed on that much later.
"""

from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Message as KafkaMessage

SETTLE_S = 0.1
"""How long after it was first seen a gap is looked at again: storing a batch takes a fraction of a millisecond, on a busy machine some."""


class Doubt(NamedTuple):
    """A gap that was seen once. until: the offset that had been read to then;  due: when it may be looked at again (monotonic)."""

    until: int
    due: float


def doubtful(messages: Sequence[KafkaMessage], reached: int, sure: int) -> int | None:
    """Where the first message lies that follows a gap, if that was seen for the first time; None: nothing is missing.

    messages   of one partition, in offset order;  reached: the offset where they should begin
    sure       gaps before this offset were looked at twice
    """
    if messages[-1].offset() - reached + 1 == len(messages):
        return None
    for index, message in enumerate(messages):
        offset = message.offset()
        if offset > reached and offset >= sure:
            return index
        reached = offset + 1
    return None
