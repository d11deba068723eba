"""Durations and instants as people write them: `"250ms"`, `"10s"`, `"1h"`, `2013-02-08T11:02:00Z`; inside, integer microseconds."""

import functools
import re
from datetime import UTC, datetime, timedelta

from headwater.lineage.errors import Misused

MICROSECONDS = {"us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s|m|h|d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@functools.lru_cache(maxsize=1024)
def duration(text: str) -> int:
    """Microseconds of `"1h"`, `"1h 30m"`, `"250ms"`. Raises Misused on anything else."""
    if not isinstance(text, str):
        raise Misused(f'{text!r} is no duration; write a text, a number and one of us, ms, s, m, h, d, such as "10s" or "1h 30m"')
    rest = _FORM.sub("", text).strip()
    parts = _FORM.findall(text)
    if rest or not parts:
        raise Misused(f'{text!r} is no duration; write a number and one of us, ms, s, m, h, d, such as "10s" or "1h 30m"')
    return sum(round(float(number) * MICROSECONDS[unit]) for number, unit in parts)


def from_datetime(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime; a naive one is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds  # dividing by a timedelta costs twice as much


def to_datetime(us: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=us)


def parse_time(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 instant. Raises ValueError."""
    return from_datetime(datetime.fromisoformat(text))


def format_time(us: int) -> str:
    """The RFC 3339 form in UTC, with `Z`, fractions only where there are any."""
    return to_datetime(us).isoformat().replace("+00:00", "Z")
