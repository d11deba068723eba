"""A verdict: what a person answered to a review, as an event; and a review that waits for one."""

from typing import Any, Literal

import msgspec

from headwater.agents.journal import Entry
from headwater.lineage.errors import Invalid
from headwater.lineage.event import Event
from headwater.lineage.record import Record, fact
from headwater.lineage.topic import REVIEWS
from headwater.lineage.traceparent import following

JUDGED = "headwater.review.judged"
LONGEST_REASON = 2000


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one review.

    agent, partition   whose decision it is, and of which partition of activations
    by, reason         who says so, and why
    choice             JSON value to put in the place of the decision's choice, None: as it is
    at                 wall clock, µs since 1970;  position  the token of its event, empty where nobody answered in time
    """

    review: str
    decision: str
    agent: str
    partition: int
    verdict: Literal["approved", "declined", "expired"]
    by: str
    reason: str = ""
    choice: Any = None
    at: int = 0
    position: str = ""

    @property
    def place(self) -> str:
        """What it is held under while it is on its way."""
        return self.position or f"expired/{self.review}"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A review without a verdict: plain data for snapshots.

    position   the token of its activation's position
    place      where the journal has its decision;  entries  what else was known of its course
    expires    wall clock, µs since 1970
    """

    review: str
    decision: str
    activation: str
    key: str
    position: str
    place: int
    expires: int
    entries: tuple[Entry, ...] = ()


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a verdict's event."""

    review: str
    decision: str
    agent: str
    partition: int
    verdict: Literal["approved", "declined"]
    by: str
    reason: str = ""
    choice: Any = None


def verdict_event(verdict: Verdict, id: str) -> Event:
    """The event that carries a verdict: caused by its review."""
    said = _Said(
        review=verdict.review, decision=verdict.decision, agent=verdict.agent, partition=verdict.partition,
        verdict="approved" if verdict.verdict == "approved" else "declined", by=verdict.by, reason=verdict.reason, choice=verdict.choice,
    )  # fmt: skip
    return Event(
        id=id, source="headwater/reviews", type=JUDGED, time=verdict.at, subject=verdict.review, data=msgspec.json.encode(said),
        causationid=verdict.review, correlationid=verdict.decision, actor=f"person/{verdict.by}",
    )  # fmt: skip


def verdict_of(event: Event, position: str) -> Verdict:
    """The verdict that an event carries. Raises Invalid."""
    try:
        said = msgspec.json.decode(event.data, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"event {event.id} on {REVIEWS} carries no verdict: {error}") from None
    return Verdict(**msgspec.structs.asdict(said), at=event.time, position=position)


def verdict_record(verdict: Verdict, now: int, *, refused: str = "", counted: int = 0, traceparent: str = "") -> Record:
    """The record of a verdict. `refused`: why it does not count; `counted`: since when it does (wall clock, µs), if that is known;
    `traceparent`: of its review, if that is known."""
    data: dict[str, Any] = {
        "review": verdict.review, "decision": verdict.decision, "agent": verdict.agent, "verdict": verdict.verdict, "by": verdict.by,
        "reason": verdict.reason, "accepted": not refused,
    }  # fmt: skip
    if verdict.choice is not None:
        data["choice"] = verdict.choice
    if refused:
        data["refused"] = refused
    if counted:
        data["counted"] = counted
    if traceparent:
        data["traceparent"] = following(traceparent, "", verdict.review).header
    ordinal = verdict.place if refused else f"accepted/{verdict.place}"
    return fact(
        "verdict", f"decide/{verdict.agent}", "verdict", verdict.review, logged=now, parents=(verdict.review, verdict.decision),
        ordinal=ordinal, data=data,
    )  # fmt: skip
