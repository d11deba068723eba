"""Trace context: which trace an event belongs to, as it travels in its `traceparent` (W3C Trace Context, level 1).

Ids of spans are hashes of what the spans are about, so that a replay after a crash tells the same span again and not another one.
"""

import functools
import hashlib
import re
from typing import NamedTuple

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?:-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceContext(NamedTuple):
    """One span of one trace: 32 and 16 hex digits, and whether the trace is told of."""

    trace: str
    span: str
    sampled: bool = True

    @property
    def header(self) -> str:
        """As a `traceparent`."""
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


@functools.lru_cache(maxsize=4096)
def context_of(traceparent: str | None) -> TraceContext | None:
    """The context of a header; None where there is none or it is malformed, which W3C has one treat alike."""
    found = _FORM.fullmatch(traceparent) if traceparent else None
    if found is None or found["trace"] == _NO_TRACE or found["span"] == _NO_SPAN:
        return None
    return TraceContext(found["trace"], found["span"], bool(int(found["flags"], 16) & 1))


def trace_of(about: str) -> str:
    """The id of the trace that begins with this thing."""
    return hashlib.blake2b(about.encode(), digest_size=16, person=b"trace").hexdigest()


def span_of(about: str) -> str:
    """The id of the span that is about this thing."""
    return hashlib.blake2b(about.encode(), digest_size=8, person=b"span").hexdigest()


@functools.lru_cache(maxsize=4096)
def following(traceparent: str | None, begins: str, about: str) -> TraceContext:
    """The context of a span about one thing: in the trace of its cause, else in the one that `begins` names. Always told of."""
    cause = context_of(traceparent)
    return TraceContext(trace_of(begins) if cause is None else cause.trace, span_of(about))


def chosen(trace: str, ratio: float) -> bool:
    """Whether a trace is among those told of: the same answer for the same trace wherever it is asked."""
    return int(trace[16:], 16) < ratio * 2**64
