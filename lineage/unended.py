"""unended: what is to be told of positions that have no end, and of brokers' lives that are over. Pure; `store` lands it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from headwater.lineage.event import Position
from headwater.lineage.landing import Lane
from headwater.lineage.ranges import Ranges
from headwater.lineage.record import Record, fact, run_of

AUDIT = "audit"


def lives_over(offsets: Mapping[tuple[str, int], int], broker: str, now: int) -> Iterator[Record]:
    """The lives that are over now that this broker's has begun. Said once of each, unless it was read again since.

    `offsets`: (broker, partition of the lineage topic) → the offset up to which it was landed.
    """
    read: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (of, partition), following in sorted(offsets.items()):
        if of != broker:
            read[of][str(partition)] = following
    for ended, told in read.items():
        yield fact("life", AUDIT, "life", ended, logged=now, ordinal=str(told), data={"read": told, "next": broker})


def unended(known: Mapping[Lane, Ranges], now: int) -> Iterator[Record]:
    """What is to be told of positions that have no end, and of those that were passed by and whose report died with the broker.

    Reports of neighbouring positions travel apart: a kill may let the later one land and lose the earlier.
    """
    for lane in sorted({lane[1:] for lane in known}):
        flow, broker, topic, partition = lane
        consumed, absent, ended = (Ranges(known.get((kind, *lane), ())) for kind in ("consumed", "absent", "outcome"))
        told = [*consumed, *absent, *ended]
        if not told:
            continue
        passed_by = Ranges([*consumed, *absent]).missing(min(first for first, _ in told), max(following for _, following in told))
        for begin, end in passed_by:
            consumed.add(begin, end)
            yield run_of("consumed", flow, Position(broker, topic, partition, begin), end, end - begin, now)
        for first, following in absent:
            ended.add(first, following)
        for first, following in consumed:
            for begin, end in ended.missing(first, following):
                where = Position(broker, topic, partition, begin)
                yield run_of("outcome", flow, where, end, end - begin, now, "lost_with_broker")


def received(flow: str) -> bool:
    """Whether a flow reads the broker of another region."""
    return flow.startswith("bridge/") and flow.endswith("/receive")
