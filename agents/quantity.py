"""Quantities in English text: "7 of the 25", "a fifth or more", "between one and three miles", "under half an hour".

An embedding hardly tells 3 miles from a quarter of a mile. So the local model compares what numbers say: whether a
situation's quantity lies in the range that a statement speaks of. Every quantity is a range of one unit.
"""

import functools
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

SHARE, MINUTES, MILES, DEGREES, MONEY = "share", "minutes", "miles", "degrees", "money"
_ABOUT = 1.5
"""A bare number in a statement means: about that, within this factor."""

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS = {word: float(n) for n, word in enumerate(_WORDS)}
_NUMBERS |= {"fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_NUMBERS |= {"a": 1, "an": 1, "half a": 0.5, "half an": 0.5, "a quarter of a": 0.25, "a quarter of an": 0.25}
_NUMBERS |= {"three quarters of a": 0.75, "three quarters of an": 0.75}
_PARTS = {"all": 1.0, "half": 1 / 2, "a third": 1 / 3, "a quarter": 1 / 4, "a fifth": 1 / 5, "a tenth": 1 / 10, "a twentieth": 1 / 20}
_UNITS = {
    r"miles?\b(?! (?:per|an) hour)": (MILES, 1.0), r"(?:km|kilomet(?:re|er)s?)\b(?! (?:per|an) hour)": (MILES, 0.621),
    "minutes?": (MINUTES, 1.0), "hours?": (MINUTES, 60.0), "days?": (MINUTES, 1440.0), "seconds?": (MINUTES, 1 / 60),
    "percent|per cent|%": (SHARE, 0.01), "°[FC]|degrees?": (DEGREES, 1.0), "dollars?|euros?": (MONEY, 1.0),
}  # fmt: skip
_NUMBER = r"\d+(?:\.\d+)?|" + "|".join(sorted(map(re.escape, _NUMBERS), key=len, reverse=True))
_UNIT = "|".join(f"(?:{unit})" for unit in _UNITS)
_PART = "|".join(sorted(map(re.escape, _PARTS), key=len, reverse=True))

_BELOW = r"(?P<below>fewer than|less than|under|below)"
_ABOVE = r"(?P<above>more than|above|over|pass(?:es)?|exceeds?|beyond)"
_LEAST = r"(?P<least>at least|from)"
_MOST = r"(?P<most>at most|up to|no more than)"
_BEFORE = rf"(?:\b(?:{_BELOW}|{_ABOVE}|{_LEAST}|{_MOST}) )?"
_BEHIND = r"(?: (?:(?P<more>or more|or longer|at least)|(?P<less>or less|or fewer|at most))\b)?"
_BETWEEN = re.compile(rf"\bbetween (?P<low>{_NUMBER}) and (?P<amount>{_NUMBER}) ?(?P<unit>{_UNIT})", re.I)
_RATIO = re.compile(r"\b(\d+) (?:out )?of (?:the )?(\d+)\b")
_MEASURE = re.compile(rf"{_BEFORE}(?<![\w.])(?P<amount>{_NUMBER}) ?(?P<unit>{_UNIT}){_BEHIND}", re.I)
_SHARE = re.compile(rf"{_BEFORE}\b(?P<amount>{_PART})(?= of| or more| or less|,|;|\.|$){_BEHIND}", re.I)
_PERIOD = re.compile(r"\b(?:within|of|in|for|every|per) $", re.I)
"""Before "an hour" it makes a period, and no amount."""
_NONE = re.compile(r"\b(?:no|none)\b", re.I)


class Range(NamedTuple):
    """Values of one unit from `low` to `high`; an end is open if it is not itself meant."""

    unit: str
    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def meets(self, other: "Range") -> bool:
        """Whether some value lies in both."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low < high:
            return True
        edges = (self.low_open and self.low == low) or (other.low_open and other.low == low)
        edges = edges or (self.high_open and self.high == high) or (other.high_open and other.high == high)
        return low == high and not edges


def agreement(situation: Iterable[Range], statement: Iterable[Range]) -> int:
    """1: in every unit that both speak of, what is the case meets what is stated; -1: in one it does not; 0: they share none."""
    told, found = list(statement), list(situation)
    verdicts = []
    for unit in {here.unit for here in found} & {there.unit for there in told}:
        mine, theirs = [here for here in found if here.unit == unit], [there for there in told if there.unit == unit]
        verdicts.append(any(all(here.meets(there) for here in mine) for there in theirs))
    if not verdicts:
        return 0
    return 1 if all(verdicts) else -1


_VAGUE = (
    (re.compile(r"\b(?:a )?few\b|\bhardly any\b|\bsingle\b", re.I), Range(SHARE, -math.inf, 0.15)),
    (re.compile(r"\bmany\b", re.I), Range(SHARE, 0.2, math.inf)),
    (re.compile(r"(?<!at )\bmost\b", re.I), Range(SHARE, 0.5, math.inf)),
    (re.compile(r"\b(?:nearly|almost) (?:all|every)\b", re.I), Range(SHARE, 0.8, math.inf)),
)
"""Words that tell a share without a number."""


@functools.lru_cache(maxsize=4096)
def quantities(text: str, *, stated: bool) -> tuple[Range, ...]:
    """The ranges that a text speaks of. `stated`: of a rule, where a bare number means about that; else of what is the case."""
    found: list[Range] = []

    def take(*ranges: Range) -> str:
        found.extend(ranges)
        return " , "

    text = _BETWEEN.sub(lambda hit: take(_between(hit)), text)
    text = _RATIO.sub(lambda hit: take(_point(SHARE, int(hit[1]) / max(1, int(hit[2])))), text)
    text = _MEASURE.sub(lambda hit: take(*_compared(hit, *_measure(hit), stated)), text)
    text = _SHARE.sub(lambda hit: take(*_compared(hit, SHARE, _PARTS[hit["amount"].lower()], stated)), text)
    found.extend(vague for words, vague in _VAGUE if words.search(text))
    if not stated and _NONE.search(text):
        found.append(_point(SHARE, 0.0))
    return tuple(found)


def _compared(hit: re.Match[str], unit: str, value: float, stated: bool) -> list[Range]:
    if hit["below"]:
        return [Range(unit, -math.inf, value, high_open=True)]
    if hit["most"] or hit["less"]:
        return [Range(unit, -math.inf, value)]
    if hit["above"]:
        return [Range(unit, value, math.inf, low_open=True)]
    if hit["least"] or hit["more"]:
        return [Range(unit, value, math.inf)]
    if hit["amount"].lower() in ("a", "an") and _PERIOD.search(hit.string, 0, hit.start()):
        return []
    if not stated:
        return [_point(unit, value)]
    if unit == SHARE:
        return [Range(unit, value, math.inf)]  # a rule's share is a level that is reached
    return [Range(unit, value / _ABOUT, value * _ABOUT)]


def _measure(hit: re.Match[str]) -> tuple[str, float]:
    unit, factor = _unit(hit["unit"])
    return unit, _number(hit["amount"]) * factor


def _between(hit: re.Match[str]) -> Range:
    unit, factor = _unit(hit["unit"])
    return Range(unit, _number(hit["low"]) * factor, _number(hit["amount"]) * factor)


def _unit(text: str) -> tuple[str, float]:
    return next(meaning for pattern, meaning in _UNITS.items() if re.match(pattern, text, re.I))


def _number(text: str) -> float:
    known = _NUMBERS.get(text.lower())
    return float(text) if known is None else known


def _point(unit: str, value: float) -> Range:
    return Range(unit, value, value)
