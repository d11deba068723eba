"""Hops: how many decisions lie between an event and the world outside, and where that ends.

Agents wake each other by what they publish, without knowing of each other; so two of them can go round in a loop that nobody wrote.
An event that a decision publishes carries `via`, the agents it came through, oldest first, and the correlation id of the first of them.
A rule hands both on to its activations. An activation that came through as many agents as are allowed wakes none: it is a dead letter.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headwater.lineage.errors import TooManyHops

VIA = "via"
"""The CloudEvents extension attribute: agents' names, joined by commas."""
HOPS = 16
"""Decisions that may follow each other, where no setting says otherwise."""
KEPT = 100
"""Names kept of a `via`, the newest; no limit may be higher. What comes from outside may carry any number."""


class Hops(NamedTuple):
    """What an event says of the decisions it came from, and its trace context. Without `via` it came from outside."""

    via: tuple[str, ...] = ()
    correlation: str = ""
    trace: str = ""


NONE = Hops()


def hops_of(extensions: Mapping[str, str], correlation: str | None, trace: str | None = None) -> Hops:
    """The hops of an event, of its extension attributes, its correlation id and its `traceparent`."""
    told = extensions.get(VIA)
    if not told:
        return Hops(trace=trace) if trace else NONE
    return Hops(tuple(told.rsplit(",", KEPT)[-KEPT:]), correlation or "", trace or "")


def longest(hops: Iterable[Hops]) -> Hops:
    """Of events that together woke a rule, those of the one with most decisions behind it; of equals the first."""
    return max(hops, key=lambda each: len(each.via), default=NONE)


def told_of(via: Iterable[str], agent: str) -> str:
    """The attribute of an event that this agent publishes, woken by what came `via` others."""
    return ",".join([*via, agent.replace(",", ";")][-KEPT:])


def bounded(rule: str, key: str, via: tuple[str, ...], limit: int) -> TooManyHops | None:
    """The refusal of an activation that has come through as many agents as are allowed."""
    if len(via) < limit:
        return None
    return TooManyHops(
        f"{rule} for {key} was woken by the end of a chain of {len(via)} decisions, and HEADWATER_AGENTS__HOPS allows {limit}: "
        f"{' → '.join(via)}; if these agents wake each other in a loop, have one of their rules leave out what the others publish, "
        "else raise the limit and redrive this dead letter"
    )
