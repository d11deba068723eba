"""The retry ladder of `index`: where a position that failed in a way that may pass goes next. Pure; `steps` does the I/O.

Each rung is a topic, `headwater.retry.1` to `.n`, with a delay. An event climbs one rung with each failure and never goes down, so none
loops: after the last rung, or when it has failed for longer than `expires`, it is a dead letter.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from headwater.flows.attempt import DUE, FROM, LONGEST_ERROR, RUN, Attempt, FirstFailure, headers_of, originals
from headwater.flows.sink import Outgoing
from headwater.lineage.decode import Failure
from headwater.lineage.duration import duration
from headwater.lineage.errors import Expired, Retryable
from headwater.lineage.event import Position
from headwater.lineage.record import Record, run_of
from headwater.lineage.topic import RETRY, rung_of

JITTER = 0.2
"""A delay is longer by up to this share, so that what failed together does not come back together."""
NONE = "none"


def delays_of(text: str) -> tuple[int, ...]:
    """The delays of the rungs in µs of `"1s,10s,60s"`; `"none"` is a ladder without rungs. Raises Misused."""
    return () if text.strip() == NONE else tuple(duration(each) for each in text.split(","))


Tried = tuple[Failure, Attempt]


class Moving(NamedTuple):
    """A position that goes on on the ladder, and the message for its next rung."""

    attempt: Attempt
    message: Outgoing


@dataclass(frozen=True)
class Ladder:
    """The rungs' delays and the longest time a life may go on failing, in µs; `run` names this process among those that move positions."""

    delays: Sequence[int] = ()
    expires: int = duration("1h")
    run: str = ""
    chance: Callable[[], float] = field(default=random.random)

    def sort(self, failures: Sequence[Tried], now: int, largest: int) -> tuple[list[Tried], list[Moving]]:
        """What becomes of failures: dead letters, and what moves to a rung. `now` in µs, `largest` bytes of a message."""
        dead, moving = [], []
        for failure, attempt in failures:
            attempt = _noted(attempt, failure, now)
            rung = rung_of(attempt.place.topic) + 1
            if not isinstance(failure.error, Retryable) or rung > len(self.delays):
                dead.append((failure, attempt))
                continue
            if (expired := self._expired(failure, attempt, now)) is not None:
                dead.append((expired, attempt))
                continue
            message = self._message(failure, attempt, rung, now)
            if message.size > largest:
                dead.append((failure, attempt))
            else:
                moving.append(Moving(attempt, message))
        return dead, moving

    def _expired(self, failure: Failure, attempt: Attempt, now: int) -> Failure | None:
        first = attempt.first
        if first is None or now - first.at <= self.expires:
            return None
        why = f"it first failed {(now - first.at) / 1e6:.0f} s ago and is tried no more; the last time: {failure.error}"
        return Failure(failure.message, failure.position, Expired(why), failure.event)

    def _message(self, failure: Failure, attempt: Attempt, rung: int, now: int) -> Outgoing:
        due = now + round(self.delays[rung - 1] * (1 + JITTER * self.chance()))
        again = msgspec.structs.replace(attempt, number=attempt.number + 1)
        told = {FROM: str(attempt.place), RUN: self.run, DUE: str(due)}
        headers = [*originals(failure.message.headers), *headers_of(again), *((name, text.encode()) for name, text in told.items())]
        return Outgoing(f"{RETRY}{rung}", failure.message.key, failure.message.value, headers, 0)


def _noted(attempt: Attempt, failure: Failure, now: int) -> Attempt:
    """The attempt with when and how its life first failed."""
    if attempt.first is not None:
        return attempt
    return msgspec.structs.replace(attempt, first=FirstFailure(now, failure.error.cause, str(failure.error)[:LONGEST_ERROR]))


def outcome_of(flow: str, attempt: Attempt | None, position: Position, outcome: str, now: int, ref: str = "") -> Record:
    """The outcome record of a single position; one on the ladder names its life, its predecessor and who moved it."""
    place = attempt.place if attempt else position
    record = run_of("outcome", flow, place, place.offset + 1, 1, now, outcome, ref)
    if attempt is None or not attempt.moved_from:
        return record
    return msgspec.structs.replace(
        record, parents=(str(attempt.position), attempt.moved_from), data={"attempt": attempt.number, "moved_by": attempt.moved_by}
    )
