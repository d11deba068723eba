"""The way of an event through regions, in two headers, and whether it may cross once more. Pure.

`headwater-route` is the position at which the event was first produced: the same in every region, and so what tells two events apart
everywhere. `headwater-hops` are the positions it was carried on from, oldest first, separated by commas; the last names the message
at the other end of the link it came over.
"""

from collections.abc import Iterable
from typing import Any

from headwater.lineage.errors import Forbidden, Invalid, Misused
from headwater.lineage.event import Position

ROUTE, HOPS = "headwater-route", "headwater-hops"


def hops_of(headers: Iterable[tuple[str, Any]] | None) -> list[Position]:
    """The positions a message was carried on from; none: it was produced where it lies. Of two headers the last counts. Raises Invalid."""
    found = None
    for name, value in headers or ():
        if name == HOPS:
            found = value
    if found is None:
        return []
    try:
        text = found if isinstance(found, str) else found.decode()
        return [Position.parse(token) for token in text.split(",")]
    except (Misused, UnicodeDecodeError):
        raise Invalid(f"the header {HOPS} names no positions, so nobody can tell where this event has been") from None


def carried(
    headers: list[tuple[str, Any]] | None, where: Position, target: str, *, relay: bool = False, most: int = 8
) -> list[tuple[str, Any]] | None:
    """The headers with which a message that lies at `where` crosses to the broker `target`; None: it stays, for it has been there.

    All headers but these two are kept as they are. Without `relay`, what came over a bridge stays too. Raises Forbidden for one that
    has passed `most` brokers, and Invalid.
    """
    here = str(where).encode()
    passed = hops_of(headers)
    if not passed:
        return [*(headers or ()), (ROUTE, here), (HOPS, here)]
    if not relay or any(hop.broker == target for hop in passed):
        return None
    if len(passed) >= most:
        raise Forbidden(f"the event has passed {len(passed)} brokers, {most} are allowed; it began at {passed[0]}")
    kept = [header for header in headers or () if header[0] not in (ROUTE, HOPS)]
    hops = b",".join(str(hop).encode() for hop in passed)
    return [*kept, (ROUTE, str(passed[0]).encode()), (HOPS, hops + b"," + here)]
