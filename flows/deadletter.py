"""Dead letters: what could not go on, whole, with its cause, so that it can be looked at and sent again."""

import uuid
from collections.abc import Sequence

from headwater.flows.attempt import CAUSE, ERROR, FLOW, ID, LONGEST_ERROR, ORIGIN, OURS, Attempt, attempt_of, headers_of, originals
from headwater.flows.attempt import TRUNCATED as TRUNCATED
from headwater.flows.sink import Outgoing
from headwater.lineage.decode import Failure
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.event import Position
from headwater.lineage.record import Record, fact
from headwater.lineage.topic import DEAD

NAMESPACE = uuid.UUID("0d9e7f52-6c1b-5f8e-9a44-1b6f0c2f8e10")
GATEWAY = "gateway"
"""The flow of dead letters that gateways write."""


def dead_letter_id(position: Position, flow: str = "") -> str:
    """UUIDv5 of the position: the same failure seen twice is one dead letter.

    `flow` for one that this flow buries by itself, while another may bury the same position for a reason of its own.
    """
    return str(uuid.uuid5(NAMESPACE, f"{flow}:{position}" if flow else str(position)))


def bury(
    flow: str, failures: Sequence[Failure], now: int, attempts: Sequence[Attempt] | None = None, *, apart: bool = False
) -> tuple[list[Outgoing], list[Record]]:
    """The messages for the dead-letter topic, original bytes, key and headers kept, and their records.

    attempts  of the failures, where more is known than their messages tell;  apart  other flows bury these positions by themselves
    """
    tries = attempts or [attempt_of(failure.position, failure.message) for failure in failures]
    ids = [dead_letter_id(failure.position, flow if apart else "") for failure in failures]
    messages = [_message(flow, failure, attempt, id) for failure, attempt, id in zip(failures, tries, ids, strict=True)]
    records = [
        fact(
            "dead_letter", flow, "bury", id,
            logged=now, parents=(str(f.position),), where=f.position, at=f.event.time if f.event else None,
            data={
                "cause": f.error.cause, "error": str(f.error), "event": f.event.id if f.event else None, "flow": flow,
                "attempt": attempt.number, "origin": attempt.origin, "first_failure": attempt.first.at if attempt.first else now,
            },
        )
        for f, attempt, id in zip(failures, tries, ids, strict=True)
    ]  # fmt: skip
    return messages, records


def bury_foreign(id: str, origin: str, value: bytes, error: HeadwaterError, now: int) -> tuple[Outgoing, Record]:
    """The dead letter of what no topic ever held, such as a row of a file, and its record.

    id      names it for good: the same failure told twice is one dead letter;  origin  where it lies, such as `inbox/a.csv:17`
    """
    told = {CAUSE: error.cause, ERROR: str(error)[:2000], ORIGIN: origin, ID: id, FLOW: GATEWAY}
    message = Outgoing(DEAD, None, value, [(name, text.encode()) for name, text in told.items()])
    data = {"cause": error.cause, "error": str(error), "event": None, "flow": GATEWAY, "origin": origin}
    return message, fact("dead_letter", GATEWAY, "bury", id, logged=now, parents=(origin,), data=data)


def fitted(message: Outgoing, largest: int) -> Outgoing:
    """A dead letter of at most `largest` bytes: the value's beginning, as much as there is room for, and the header `headwater-truncated`.

    If the key and the original's headers alone leave no room, they go too; ours, which say where the original lies, always stay.
    """
    if message.size <= largest:
        return message
    told = (TRUNCATED, str(len(message.value or b"")).encode())
    bare = message._replace(value=b"", headers=[*message.headers, told])
    if bare.size > largest:
        ours = {name: value for name, value in message.headers if name in OURS}  # the last counts, and the last are ours
        bare = bare._replace(key=(message.key or b"")[:1000] or None, headers=[*ours.items(), told])
    return bare._replace(value=(message.value or b"")[: max(0, largest - bare.size)])


def _message(flow: str, failure: Failure, attempt: Attempt, id: str) -> Outgoing:
    told = {CAUSE: failure.error.cause, ERROR: str(failure.error)[:LONGEST_ERROR], ID: id, FLOW: flow}
    headers = [*originals(failure.message.headers), *((name, text.encode()) for name, text in told.items()), *headers_of(attempt)]
    return Outgoing(DEAD, failure.message.key, failure.message.value, headers)
