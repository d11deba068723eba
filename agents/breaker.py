"""A circuit breaker: an agent that keeps failing is left alone for a while, then tried carefully. Frozen data and pure functions."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused

Standing: TypeAlias = Literal["closed", "open", "half_open"]
SLICES = 10
"""Counts of attempts are kept per tenth of the window: it moves in these steps."""


@dataclass(frozen=True)
class Breaker:
    """When an agent is no longer asked.

    failures   so many failed attempts in a row open the circuit
    share      or: so large a share of the attempts of the last `within` failed, of at least `at_least`; None: only those in a row count
    rest       how long it stays open; then `probes` attempts at a time are let through: one that fails opens it again
    closes     after so many successful probes it is closed
    otherwise  what an activation does that finds it open where no fallback is declared: `wait`, or go to `review`
    """

    failures: int = 5
    share: float | None = None
    within: str = "1m"
    at_least: int = 10
    rest: str = "30s"
    probes: int = 1
    closes: int = 1
    otherwise: Literal["wait", "review"] = "wait"

    def __post_init__(self) -> None:
        for name in ("failures", "at_least", "probes", "closes"):
            if getattr(self, name) < 1:
                raise Misused(f"Breaker: {name}={getattr(self, name)} must be at least 1")
        if self.share is not None and not 0 < self.share <= 1:
            raise Misused(f"Breaker: share={self.share} must lie above 0 and not above 1")
        if self.otherwise not in ("wait", "review"):
            raise Misused(f'Breaker: otherwise={self.otherwise!r} must be "wait" or "review"')
        for name in ("within", "rest"):
            if duration(getattr(self, name)) < SLICES:
                raise Misused(f"Breaker: {name}={getattr(self, name)!r} is too short")


class Slice(NamedTuple):
    """The attempts of one tenth of the window that ended: `number` counts tenths since 1970."""

    number: int
    ended: int
    failed: int


class Circuit(msgspec.Struct, frozen=True):
    """Where a circuit stands.

    era      grows with every change of standing: what was begun in an earlier era says nothing about this one
    streak   failures in a row; `recent` the window
    until    until when it is open (µs)
    out      probes on their way;  passed  probes that succeeded
    """

    standing: Standing = "closed"
    era: int = 0
    streak: int = 0
    recent: tuple[Slice, ...] = ()
    until: int = 0
    out: int = 0
    passed: int = 0


class Admission(NamedTuple):
    """Whether an attempt may begin: the circuit afterwards, and the era to tell its end with, or None and how long to wait (µs)."""

    circuit: Circuit
    era: int | None
    wait: int = 0


def admit(breaker: Breaker, circuit: Circuit, now: int) -> Admission:
    """Ask for an attempt at `now` (µs)."""
    if circuit.standing == "open" and now >= circuit.until:
        circuit = Circuit("half_open", circuit.era + 1)
    if circuit.standing == "closed":
        return Admission(circuit, circuit.era)
    if circuit.standing == "half_open" and circuit.out < breaker.probes:
        return Admission(msgspec.structs.replace(circuit, out=circuit.out + 1), circuit.era)
    return Admission(circuit, None, max(0, circuit.until - now))


def ended(breaker: Breaker, circuit: Circuit, era: int, now: int, *, failed: bool | None) -> Circuit:
    """The circuit after an attempt that was admitted in `era`; `failed=None`: it was cut short and says nothing."""
    if era != circuit.era:
        return circuit
    if circuit.standing == "half_open":
        return _probed(breaker, circuit, now, failed)
    if failed is None:
        return circuit
    streak = circuit.streak + 1 if failed else 0
    recent = _counted(breaker, circuit.recent, now, failed) if breaker.share is not None else ()
    if failed and (streak >= breaker.failures or _bad(breaker, recent)):
        return _opened(breaker, circuit, now)
    return msgspec.structs.replace(circuit, streak=streak, recent=recent)


def _probed(breaker: Breaker, circuit: Circuit, now: int, failed: bool | None) -> Circuit:
    if failed:
        return _opened(breaker, circuit, now)
    passed = circuit.passed + (failed is False)
    if passed >= breaker.closes:
        return Circuit("closed", circuit.era + 1)
    return msgspec.structs.replace(circuit, out=circuit.out - 1, passed=passed)


def _opened(breaker: Breaker, circuit: Circuit, now: int) -> Circuit:
    return Circuit("open", circuit.era + 1, until=now + duration(breaker.rest))


def _counted(breaker: Breaker, recent: tuple[Slice, ...], now: int, failed: bool) -> tuple[Slice, ...]:
    number = now // (duration(breaker.within) // SLICES)
    kept = tuple(each for each in recent if number - SLICES < each.number)
    if kept and kept[-1].number >= number:  # a clock that is set back counts into the newest slice
        last = kept[-1]
        return (*kept[:-1], Slice(last.number, last.ended + 1, last.failed + failed))
    return (*kept, Slice(number, 1, int(failed)))


def _bad(breaker: Breaker, recent: tuple[Slice, ...]) -> bool:
    many = sum(each.ended for each in recent)
    if breaker.share is None or many < breaker.at_least:
        return False
    return sum(each.failed for each in recent) >= breaker.share * many
