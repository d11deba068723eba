"""Attempt: one try of one event, as the headers of its message tell it. The count, and when it first failed, so survive every restart.

An event has a life on its own topic, and moves to the retry ladder (`headwater.retry.1`, `.2`, …) when it fails in a way that may pass.
A life that ends as a dead letter may be followed by another: a redrive puts the same event onto its topic again.
"""

from typing import Any

import msgspec

from headwater.lineage.errors import HeadwaterError, Invalid, Misused
from headwater.lineage.event import Message, Position

PREFIX = "headwater-"
CAUSE, ERROR, ID, FLOW = (f"{PREFIX}{word}" for word in ("cause", "error", "id", "flow"))
ORIGIN = f"{PREFIX}origin"
"""The token of the event's first life."""
POSITION = f"{PREFIX}position"
"""The token of this life: where on its topic the message lay that failed."""
ATTEMPT = f"{PREFIX}attempt"
"""Which try of the event this message is for, over all its lives; none: the first."""
FIRST_FAILURE = f"{PREFIX}first-failure"
"""When this life first failed and why: JSON with `at` (µs), `cause`, `error`."""
APPENDED = f"{PREFIX}appended"
"""The append time of this life's own message, in ms: what counts as event time where a message names none."""
FROM, RUN, DUE = (f"{PREFIX}{word}" for word in ("from", "run", "due"))
"""On the ladder: the position that was moved here, the process that did it, and when to try again (µs)."""
TRUNCATED = f"{PREFIX}truncated"
"""The header of a dead letter whose original was too large to keep whole: the bytes its value had."""
OURS = frozenset((CAUSE, ERROR, ID, FLOW, ORIGIN, POSITION, ATTEMPT, FIRST_FAILURE, APPENDED, FROM, RUN, DUE, TRUNCATED))

LONGEST_ERROR = 2000
"""Characters of an error that travel in a header."""


class FirstFailure(msgspec.Struct, frozen=True):
    """When a life first failed (µs since 1970), and of what."""

    at: int
    cause: str
    error: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try.

    place     where the message that was read lies: on the event's topic, or on the ladder
    position  where this life of the event lies on its topic;  origin  the token of its first life
    number    1 for the first try, over all lives;  appended  ms
    first     when this life first failed; None: it has not yet
    moved_from, moved_by   on the ladder: the position that was moved here, and the run of the process that did it
    """

    place: Position
    position: Position
    origin: str
    number: int
    appended: int
    first: FirstFailure | None = None
    moved_from: str = ""
    moved_by: str = ""
    due: int = 0


def attempt_of(place: Position, message: Message) -> Attempt:
    """The try that a message on an event's own topic is for. A header that says nothing sensible is as if it were not there."""
    told = _told(message)
    number = told.get(ATTEMPT, "")
    return Attempt(
        place=place,
        position=place,
        origin=_token(told.get(ORIGIN, "")) or str(place),
        number=int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 1,
        appended=message.timestamp,
    )


def retried(place: Position, message: Message) -> Attempt:
    """The try that a message on the ladder is for. Raises Invalid: it was not put there by us."""
    told = _told(message)
    try:
        position = Position.parse(told[POSITION])
        first = msgspec.json.decode(told[FIRST_FAILURE], type=FirstFailure)
        return Attempt(
            place=place, position=position, origin=told[ORIGIN], number=int(told[ATTEMPT]), appended=int(told[APPENDED]), first=first,
            moved_from=told[FROM], moved_by=told[RUN], due=int(told[DUE]),
        )  # fmt: skip
    except (KeyError, ValueError, HeadwaterError, msgspec.DecodeError) as error:
        raise Invalid(f"a message on {place.topic} does not say what it is a retry of ({type(error).__name__}: {error})") from None


def headers_of(attempt: Attempt) -> list[tuple[str, bytes]]:
    """What a dead letter and a message on the ladder tell alike of the tries before."""
    told = {ORIGIN: attempt.origin, POSITION: str(attempt.position), ATTEMPT: str(attempt.number), APPENDED: str(attempt.appended)}
    found = [(name, text.encode()) for name, text in told.items()]
    if attempt.first is not None:
        found.append((FIRST_FAILURE, msgspec.json.encode(attempt.first)))
    return found


def originals(headers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers that the event came with, without ours."""
    return [pair for pair in headers if pair[0] not in OURS]


def _told(message: Message) -> dict[str, str]:
    return {name: _text(value) for name, value in message.headers if name in OURS and value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")


def _token(text: str) -> str:
    try:
        return str(Position.parse(text))
    except Misused:
        return ""
