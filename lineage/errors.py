"""What can go wrong, as a tree.

HeadwaterError
├── Terminal            trying again cannot help: the event goes to the dead-letter topic, the request is refused
│   ├── Undecodable     not JSON, not CloudEvents
│   ├── Invalid         JSON that breaks its model, or an event without id
│   ├── Oversized       larger than the topic allows
│   ├── Conflict        an event id that is taken, by other data (HTTP 409)
│   ├── BadSignature    a request that is not signed as declared (HTTP 401)
│   ├── Forbidden       a policy says no
│   ├── EnricherFailed  an enricher of the application raised
│   ├── RuleFailed      a trigger rule's expression could not be evaluated for the event
│   ├── IndexFailed     the document function, the embedder or the index refused the document
│   ├── AgentFailed     the agent raised, timed out, or answered something that is no decision
│   ├── EffectFailed    an effect was refused by its receiver
│   ├── TooManyHops     agents have woken each other more often than is allowed
│   ├── DeadLettered    a reader waits for a position that ended as a dead letter (HTTP 409)
│   ├── Expired         it failed for so long that it is tried no more
│   ├── Closed          a dead letter that was redriven or dropped already (HTTP 409)
│   ├── Gone            a token or an id of another broker's life (HTTP 410)
│   ├── Forgotten       a time before the history that the index keeps (HTTP 410)
│   ├── NotFound        no such id, topic, document (HTTP 404)
│   └── Misused         the application file, a setting or a command line is wrong
└── Retryable           the same call may go through later
    ├── Limited         more than one address may send (HTTP 429)
    ├── Behind          the index has not come as far as the reader demands (HTTP 412)
    ├── Unavailable     a broker, an index, a model or a process does not answer (HTTP 503)
    ├── EnricherUnavailable  an enricher has no answer for this event now: `index` tries the event again later
    └── DocumentUnavailable  the same of the document function or the embedder
"""

from typing import Any, ClassVar


class HeadwaterError(Exception):
    """The root. `cause` is the word in dead letters and records, `status` the HTTP status of a problem answer."""

    cause: ClassVar[str] = "failed"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details: dict[str, Any] = details


def problem(error: HeadwaterError) -> dict[str, Any]:
    """The error as an RFC 9457 problem, its details included as far as JSON can tell them."""
    plain = {
        name: value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)
        for name, value in error.details.items()
    }
    stated = {"type": f"urn:headwater:{error.cause}", "title": error.cause.replace("_", " "), "status": error.status, "detail": str(error)}
    return {**stated, **plain}


class Terminal(HeadwaterError):
    """Trying again cannot help."""


class Retryable(HeadwaterError):
    """The same call may go through later."""


class Undecodable(Terminal):
    cause, status = "undecodable", 400


class Invalid(Terminal):
    cause, status = "invalid", 422


class Oversized(Terminal):
    cause, status = "oversized", 413


class Conflict(Terminal):
    cause, status = "conflict", 409


class BadSignature(Terminal):
    cause, status = "bad_signature", 401


class Forbidden(Terminal):
    cause, status = "forbidden", 403


class EnricherFailed(Terminal):
    cause = "enricher_failed"


class RuleFailed(Terminal):
    cause = "rule_failed"


class IndexFailed(Terminal):
    cause = "index_failed"


class AgentFailed(Terminal):
    cause = "agent_failed"


class EffectFailed(Terminal):
    cause = "effect_failed"


class TooManyHops(Terminal):
    cause = "too_many_hops"


class DeadLettered(Terminal):
    cause, status = "dead_lettered", 409


class Expired(Terminal):
    cause = "expired"


class Closed(Terminal):
    cause, status = "closed", 409


class Gone(Terminal):
    cause, status = "gone", 410


class Forgotten(Terminal):
    cause, status = "forgotten", 410


class NotFound(Terminal):
    cause, status = "not_found", 404


class Misused(Terminal):
    cause, status = "misused", 400


class Limited(Retryable):
    cause, status = "limited", 429


class Behind(Retryable):
    cause, status = "behind", 412


class Unavailable(Retryable):
    cause, status = "unavailable", 503


class EnricherUnavailable(Retryable):
    cause = "enricher_failed"


class DocumentUnavailable(Retryable):
    cause = "index_failed"


def causes() -> list[str]:
    """The words of this tree, as dead letters and problems tell them."""
    kinds, found = [HeadwaterError], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found.add(kind.cause)
    return sorted(found)


_HTTP_CLIENTS = frozenset(("httpx", "httpx2", "requests"))


def retryable(error: BaseException) -> bool:
    """Whether the same call may go through later: our Retryable, connection and time-out errors, transport errors of HTTP clients."""
    if isinstance(error, (Retryable, ConnectionError, TimeoutError)):
        return True
    return any(
        kind.__name__ in ("TransportError", "ConnectionError", "Timeout") and kind.__module__.partition(".")[0] in _HTTP_CLIENTS
        for kind in type(error).__mro__
    )
