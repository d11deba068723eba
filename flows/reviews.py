"""Verdicts of people, put onto the topic of reviews: each review takes one."""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

from headwater.agents.accept import OF_A_CALL, unfit
from headwater.agents.verdict import LONGEST_REASON, Verdict, verdict_event
from headwater.flows.runtime import Runtime
from headwater.flows.sink import outgoing
from headwater.lineage.errors import Closed, Gone, Invalid
from headwater.lineage.event import Position
from headwater.lineage.reviews import Review, refused_since, review
from headwater.lineage.topic import REVIEWS

LONGEST_NAME = 200
KEPT = 10_000
"""Verdicts given here that may not have landed yet."""


def _fresh() -> str:
    return str(uuid.uuid4())


class Reviews:
    """The desk at which reviews are answered. Thread-safe."""

    def __init__(self, run: Runtime, new_id: Callable[[], str] = _fresh) -> None:
        self._run, self._new_id = run, new_id
        self._given: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._lock = threading.Lock()

    def given(self, review: str) -> str:
        """The verdict that was given here, whether it has landed or not; empty: none, or one that was refused."""
        with self._lock:
            return self._standing(review)

    def _standing(self, review: str) -> str:
        verdict, at = self._given.get(review, ("", 0))
        return "" if verdict and refused_since(self._run.store, review, at) else verdict

    def judge(
        self, id: str, verdict: Literal["approved", "declined"], *, by: str, reason: str = "", choice: Any = None
    ) -> dict[str, Any]:
        """Give a verdict; its event is what `decide` acts on. Raises NotFound, Closed, Gone, Invalid, Unavailable."""
        name = " ".join(by.split())
        if not name or len(name) > LONGEST_NAME or len(reason) > LONGEST_REASON:
            raise Invalid(f"a verdict says who gives it (1 to {LONGEST_NAME} characters), and why in at most {LONGEST_REASON}")
        if choice is not None and verdict != "approved":
            raise Invalid("only an approved review takes another choice")
        found = review(self._run.store, id)
        choice = None if choice == found.choice else choice
        self._fits(found, choice)
        partition, now = self._partition(found), self._run.clock()
        event = verdict_event(
            Verdict(
                review=found.id, decision=found.decision, agent=found.agent, partition=partition, verdict=verdict, by=name,
                reason=reason.strip(), choice=choice, at=now,
            ),
            self._new_id(),
        )  # fmt: skip
        self._take(found, verdict, now)
        try:
            (position,) = self._run.writer.write([outgoing(REVIEWS, event, found.id)])
        except BaseException:
            self._leave(found)
            raise
        return {"review": found.id, "verdict": verdict, "id": event.id, "token": str(position)}

    def _fits(self, found: Review, choice: Any) -> None:
        """`decide` looks at it too; but whoever says it is here now. Of effects too large for the record only `decide` knows."""
        if choice is None:
            return
        if found.reason == "unknown":
            raise Invalid(f"the review {found.id}: {OF_A_CALL}")
        published = [(str(each["topic"]), each.get("data")) for each in found.effects if each.get("effect") == "publish"]
        why = unfit(choice, found.choice, published, self._run.app.topics) if found.effects else ""
        if why:
            raise Invalid(f"the review {found.id}: {why}")

    def _partition(self, found: Review) -> int:
        if not found.position:
            raise Gone(f"the review {found.id} was asked before verdicts could be given; decide on it outside")
        where = Position.parse(found.position)
        if where.broker != self._run.broker:
            raise Gone(f"the review {found.id} was asked with the broker {where.broker}, whose life is over; nothing of it is done")
        return where.partition

    def _take(self, found: Review, verdict: str, now: int) -> None:
        with self._lock:
            ended = found.state if found.state != "waiting" else self._standing(found.id)
            if ended:
                raise Closed(f"the review {found.id} was {ended}{f' by {found.by}' if found.by else ''} already; each is judged once")
            self._given[found.id] = (verdict, now)
            while len(self._given) > KEPT:
                self._given.popitem(last=False)

    def _leave(self, found: Review) -> None:
        with self._lock:
            self._given.pop(found.id, None)
