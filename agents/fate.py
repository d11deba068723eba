"""What became of a call that raised: refused, untouched, or nobody knows."""

from typing import Literal

from headwater.lineage.errors import Limited, Terminal, retryable

Fate = Literal["refused", "untouched", "unknown"]
"""refused    the receiver says no, and will again: it did not happen
untouched  it did not happen, and may go through later
unknown    it may have happened"""

_NOT_SENT = frozenset(("ConnectError", "ConnectTimeout", "PoolTimeout", "NewConnectionError"))
"""Errors of HTTP clients that come before a request leaves."""
_LATER = frozenset((425, 429))
_MAYBE = frozenset((408, 409))
"""408: the server gave up on it. 409: it is in conflict with what may be our own earlier sending."""


def fate_of(error: BaseException) -> Fate:
    """Of an error that a tool's function raised. What is not known to be harmless is unknown.

    A function says it itself by raising `Terminal` (refused) or `Limited` (untouched) of `headwater.lineage.errors`; HTTP clients'
    errors are read: 4xx is refused, 425 and 429 are untouched, as is a connection that was not made.
    """
    if isinstance(error, Terminal):
        return "refused"
    if isinstance(error, (Limited, ConnectionRefusedError)) or type(error).__name__ in _NOT_SENT:
        return "untouched"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if not isinstance(status, int) or status in _MAYBE:
        return "unknown"
    if status in _LATER:
        return "untouched"
    return "refused" if 400 <= status < 500 else "unknown"


def passing(error: BaseException) -> bool:
    """Whether it is a trouble of the network or the receiver, that may pass; anything else is likely a defect of the tool."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(status, int) or fate_of(error) == "untouched" or retryable(error)
