"""Quantities in English text: "7 of the 25", "a fifth or more", "between one and three miles", "nearly an hour and a half".

An embedding hardly tells 3 miles from a quarter of a mile. So the local model compares what numbers say: whether a
situation's quantity lies in the range that a statement speaks of. Every quantity is a range of one unit, and about something.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from headwater.agents.clause import clauses, state, stems

SHARE, MINUTES, SINCE, MILES, SPEED, DEGREES, MONEY = "share", "minutes", "minutes since", "miles", "miles per hour", "degrees", "money"
_ABOUT = 1.5
"""A bare number in a statement means: about that, within this factor."""
_NEARLY = 0.85
"""“Nearly x” is from this part of x to below x."""

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBERS = {word: n for n, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, 2)} | {"dozen": 12}
_PARTS = ("half", "third", "quarter", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_PART = {word: n for n, word in enumerate(_PARTS, 2)} | {"halve": 2, "twelfth": 12, "fifteenth": 15, "twentieth": 20}
_SYMBOLS = {"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⅛": " 1/8", "⅜": " 3/8", "⅝": " 5/8", "⅞": " 7/8"}
_SPEED = r"(?:mph|kmh|miles? (?:per|an) hour|km/h|knots?)\b"
_UNITS = {
    rf"{_SPEED}": (SPEED, 1.0),
    r"miles?\b": (MILES, 1.0), r"(?:km|kilomet(?:re|er)s?)\b": (MILES, 0.621), r"(?:m|met(?:re|er)s?)\b": (MILES, 0.000621),
    r"(?:feet|foot|ft)\b": (MILES, 0.000189),
    r"min(?:ute)?s?\b": (MINUTES, 1.0), r"hours?\b": (MINUTES, 60.0), r"days?\b": (MINUTES, 1440.0), r"seconds?\b": (MINUTES, 1 / 60),
    r"percent\b|per cent\b|%": (SHARE, 0.01), r"°[FC]|degrees?\b": (DEGREES, 1.0), r"dollars?\b|euros?\b|[$€]": (MONEY, 1.0),
}  # fmt: skip
_UNIT = "|".join(f"(?:{unit})" for unit in _UNITS)
_LENGTH = r"(?:miles?|hours?|minutes?|kilomet(?:re|er)s?)\b"
_N = r"(?<![\w./])\d+(?:\.\d+)?"

_BELOW = r"(?P<below>(?:fewer|less|shorter|lower) than|(?:just |well )?(?:under|below)|short of)"
_ABOVE = r"(?P<above>(?:more|longer|greater|higher) than|(?:just |well )?(?:above|over|past)|pass(?:es|ed)?|exceed(?:s|ed)?|beyond)"
_LEAST = r"(?P<least>at least|(?:no|not) (?:less|fewer) than|ris(?:es|en) to|from)"
_MOST = r"(?P<most>at most|up to|(?:no|not) (?:more|longer) than|falls? to)"
_CLOSE = r"(?P<close>nearly|almost|not quite|close to)"
_BEFORE = rf"(?:\b(?:{_LEAST}|{_MOST}|{_BELOW}|{_ABOVE}|{_CLOSE}) (?:a |an )?)?"
_BEHIND = (
    r"(?:,? (?:(?P<more>or (?:more|longer|above)|at least)|(?P<less>or (?:less|fewer|below)|at most)|"
    r"(?P<since>ago|back|earlier|before|after|since)))?(?!\w)"
)
_BETWEEN = re.compile(rf"\bbetween (?P<low>{_N})–(?P<amount>{_N}) ?(?P<unit>{_UNIT})", re.I)
_MEASURE = re.compile(rf"{_BEFORE}(?P<amount>{_N})[ -]?(?P<unit>{_UNIT}){_BEHIND}", re.I)
_RATIO = re.compile(
    rf"{_BEFORE}(?P<amount>{_N})(?: [a-z]+){{0,3}}? (?:out of|of|among|in)(?: the| its| their| all| those)? "
    rf"(?P<of>{_N})(?! ?(?:{_UNIT}))\b",
    re.I,
)
_PERIOD = re.compile(r"\b(?:within|in|for|every|each|per|of|first|next|last|coming|another)(?: about| only)? $", re.I)
"""Before an amount of time it makes a period, and no amount."""
_OF = re.compile(r"\b(?:delays?|average|waits?) of $", re.I)
_FORMER = re.compile(r"\b(?:from|after|against|with) $", re.I)
_LATEST = re.compile(r"\b(?:now|by now|at present|currently|meanwhile|coming|next|latest)\b|^but\b", re.I)
_OTHERS = re.compile(
    r"\b(?:still|remain\w*|others?|the rest|as (?:planned|scheduled)|on time|"
    r"(?:are|is|were|was) (?:going|flying|operating|running|leaving))\b",
    re.I,
)
"""Such a share is of those that go, not of those that the rules count."""
_NONE = re.compile(r"\b(?:no|none|nothing|nobody|not one|not a single|zero)\b(?! (?:more|less|fewer|longer|later)\b)", re.I)
_VAGUE = (
    (re.compile(r"\bfew (?!that\b|who\b|of\b|which\b|minutes\b|hours\b|miles\b)", re.I), SHARE, -math.inf, 0.15),
    (re.compile(r"\bmany\b", re.I), SHARE, 0.2, math.inf),
    (re.compile(r"(?<!at )\bmost\b", re.I), SHARE, 0.5, math.inf),
    (re.compile(r"\b(?:on time|punctual\w*|to schedule)\b", re.I), MINUTES, 0, 15),
)
"""Words that tell a quantity without a number."""


_LIMITS = frozenset(("below", "above", "least", "most", "more", "less"))
_LIGHT = frozenset(stems("now average when about exactly only again more less other by still under above below between"))
"""Words that do not say what a quantity is about."""


class Range(NamedTuple):
    """Values of one unit from `low` to `high`; an end is open if it is not itself meant."""

    unit: str
    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def both(self, other: "Range") -> "Range":
        """The values that lie in both; may be empty."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        low_open = any(one.low_open and one.low == low for one in (self, other))
        return Range(self.unit, low, high, low_open, any(one.high_open and one.high == high for one in (self, other)))

    @property
    def empty(self) -> bool:
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))


class Quantity(NamedTuple):
    """A range, and the words that say of what: its clause without quantities, empty if it has none. `latest`: said to be the newest."""

    range: Range
    about: str
    latest: bool = False


def verdict(case: Range, rule: Range) -> int:
    """1: every value of the case lies in the rule's range; -1: none does; 0: some do."""
    common = case.both(rule)
    return -1 if common.empty else int(common == case)


def quantities(text: str, *, stated: bool) -> tuple[Range, ...]:
    """The ranges that a text speaks of; see `read`."""
    return tuple(quantity.range for quantity in read(text, stated=stated))


@functools.lru_cache(maxsize=4096)
def read(text: str, *, stated: bool) -> tuple[Quantity, ...]:
    """The quantities of a text. `stated`: of a rule, where a bare number means about that; else of what is the case now:
    quantities said to be past, ahead, or of the others are left out."""
    found: list[Quantity] = []
    for sentence in re.split(r"(?<=[.;!?])\s+", plain(text)):
        former = False
        for clause in clauses(sentence):
            ranges, rest = _ranges(clause, stated)
            kept = ranges if stated else [] if former else _current(ranges, rest)
            found.extend(Quantity(range, rest if _content(rest) else "", bool(_LATEST.search(clause))) for range in kept)
            former = not ranges and state(clause) == "past"  # "The day before, half of them failed."
    return tuple(found)


def bare(clause: str) -> str:
    """A clause without its quantities."""
    return _ranges(plain(clause), True)[1]


def _content(text: str) -> bool:
    return bool(set(stems(text)) - _LIGHT)


def _current(ranges: list[Range], clause: str) -> list[Range]:
    """Those that are the case now, of all that the clause speaks of."""
    if state(clause) in ("past", "ahead"):
        return []
    since = [range for range in ranges if range.unit == SINCE]
    return since or [range for range in ranges if range.unit != SHARE or not _OTHERS.search(clause)]


def _ranges(clause: str, stated: bool) -> tuple[list[Range], str]:
    """The ranges of a clause, and what is left of it without them."""
    found: list[Range] = []

    def take(hit: re.Match[str]) -> str:
        found.extend(_compared(hit, stated))
        return " "

    text = _BETWEEN.sub(take, clause)
    text = _RATIO.sub(take, text)
    text = _MEASURE.sub(take, text)
    found.extend(Range(unit, low, high) for words, unit, low, high in _VAGUE if words.search(text))
    if not stated and not found and _NONE.search(text):
        found.append(Range(SHARE, 0.0, 0.0))
        text = _NONE.sub(" ", text)
    return found, " ".join(text.split())


def _compared(hit: re.Match[str], stated: bool) -> list[Range]:
    """The range that a number with its unit and the words around it speak of; none if they make no amount of what is the case."""
    said = {name: words.lower() for name, words in hit.groupdict().items() if words}
    unit, value = _value(said)
    before = hit.string[: hit.start()]
    if "since" in said and unit == MINUTES:
        unit = SINCE
    if "low" in said:
        one = float(said["low"]) * value / float(said["amount"])
        return [Range(unit, min(one, value), max(one, value))]
    if unit == MINUTES and not _LIMITS & said.keys() and _PERIOD.search(before) and not _OF.search(before):
        return []
    if not stated:
        if _FORMER.search(before) or said.get("least") == "from":
            return []
        if said.get("most", said.get("least", "")).startswith(("fall", "ris")):
            return [Range(unit, value, value)]
    return [_range(unit, value, said, stated)]


def _range(unit: str, value: float, said: Mapping[str, str], stated: bool) -> Range:
    if "below" in said:
        return Range(unit, -math.inf, value, high_open=True)
    if "most" in said or "less" in said:
        return Range(unit, -math.inf, value)
    if "close" in said:
        return Range(unit, _NEARLY * value, value, high_open=True)
    if "above" in said:
        return Range(unit, value, math.inf, low_open=True)
    if "more" in said or "least" in said or (stated and unit in (SHARE, SINCE)):
        return Range(unit, value, math.inf)  # a rule's share, and its time since something, are levels that are reached
    return Range(unit, value / _ABOUT, value * _ABOUT) if stated else Range(unit, value, value)


def _value(said: Mapping[str, str]) -> tuple[str, float]:
    if "of" in said:
        return SHARE, float(said["amount"]) / max(1.0, float(said["of"]))
    unit, factor = next(meaning for pattern, meaning in _UNITS.items() if re.fullmatch(pattern, said["unit"], re.I))
    return unit, float(said["amount"]) * factor


_WORD = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_DENOMINATOR = "|".join(sorted(_PART, key=len, reverse=True))
_COMPOUND = re.compile(rf"\b({'|'.join(_TENS)})[- ]({'|'.join(_ONES[1:10])})\b", re.I)
_HUNDREDS = re.compile(r"\b(a|one|\d) hundred(?: and (\d+))?\b", re.I)
_MIXED = re.compile(rf"\b(\d+) (?:and )?(?:(\d+)/(\d+)|(a|\d+)[ -]({_DENOMINATOR})s?\b)(?: of)?(?= ?(?:{_UNIT}))", re.I)
_TAIL = re.compile(rf"\b(an?|\d+) ({_LENGTH}) and (an?|\d+) ({_DENOMINATOR})s?\b", re.I)
_SUM = re.compile(r"\b(an?|\d+) hours? (?:and )?(\d+) min(?:ute)?s?\b", re.I)
_FRACTION = re.compile(
    rf"(?:\b(an?|\d+)[ -])?\b({_DENOMINATOR})s?\b(?P<length>(?:[ -]?of)?[ -]?(?:an? |the )?(?={_LENGTH}))?"
    r"(?!-| (?:past|time|flight|runway|terminal|extension|day|hour|storm|night)\b)", re.I
)  # fmt: skip
_SLASH = re.compile(r"(?<![\d./])(\d+)/(\d+)(?![\d/])")
_DID = r"(?:are|were|is|was|have|has|had|cancelled|canceled)\b"
"""What follows a number that is a part of another one: "of the 40 flights, 3 are …"."""
_REVERSED = re.compile(
    rf"(?<!\d )\bof (?:the |its |all )?({_N}) ([^.;,]{{0,60}}?)(?:[,;]| only| just| some)(?: only| just| some)? ({_N}) (?={_DID})", re.I
)
_FOLLOWED = re.compile(
    rf"({_N}) ((?!{_UNIT})[a-z]+s\b[^.;,\d]{{0,40}})[,;](?: of which| only| just)? ({_N})(?: of (?:them|these|which))? (?={_DID})", re.I
)
_EVERY = re.compile(rf"\bevery ({_DENOMINATOR}|other|second) ", re.I)
_ALL = re.compile(
    r"\b(?:all of (?:them|the|its)|all(?= (?:the )?\d)|every(?= (?:single )?\w+ (?:due|is|was|has))|"
    r"all(?= \w+s (?:are|were|have|due)))\b",
    re.I,
)


@functools.lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """The text with number words, fractions and mixed amounts in digits: "an hour and a half" is "1.5 hour", "a fifth" "20%"."""
    for symbol, digits in _SYMBOLS.items():
        text = text.replace(symbol, digits)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = _COMPOUND.sub(lambda hit: str(_NUMBERS[hit[1].lower()] + _NUMBERS[hit[2].lower()]), text)
    text = re.sub(rf"\b(?:a )?({_WORD})\b", lambda hit: str(_NUMBERS[hit[1].lower()]), text, flags=re.I)
    text = _HUNDREDS.sub(lambda hit: str(100 * int(_count(hit[1])) + int(hit[2] or 0)), text)
    text = _MIXED.sub(lambda hit: _digits(int(hit[1]) + _part(hit[2] or hit[4], hit[3] or hit[5])), text)
    text = _TAIL.sub(lambda hit: f"{_digits(_count(hit[1]) + _part(hit[3], hit[4]))} {hit[2]}", text)
    text = _SUM.sub(lambda hit: f"{_digits(60 * _count(hit[1]) + int(hit[2]))} minutes", text)
    text = _EVERY.sub(lambda hit: f"{_digits(100 * _part('1', hit[1]))}% ", text)
    text = _FRACTION.sub(_fraction, text)
    text = _SLASH.sub(lambda hit: _digits(int(hit[1]) / max(1, int(hit[2]))), text)
    text = _ALL.sub("100% of", text)
    text = re.sub(rf"\ban? (?={_LENGTH})", "1 ", text, flags=re.I)
    text = re.sub(rf"\b(between {_N})(?: ?(?:{_UNIT}))? and ({_N})", r"\1–\2", text, flags=re.I)
    return _FOLLOWED.sub(r"\3 of \1 \2 ", _REVERSED.sub(r"\3 of \1 \2 ", text))


def _fraction(hit: re.Match[str]) -> str:
    value = _part(hit[1] or "1", hit[2])
    if hit["length"] is not None:
        return f"{_digits(value)} "
    return f"{_digits(100 * value)}%" if hit[1] or hit[2].lower() in ("half", "quarter", "third") else hit[0]


def _count(word: str) -> float:
    return 1.0 if word.lower() in ("a", "an") else float(word)


def _part(numerator: str, denominator: str) -> float:
    name = denominator.lower()
    return _count(numerator) / max(1, int(name) if name.isdigit() else _PART.get(name, 2))


def _digits(value: float) -> str:
    return f"{value:.6g}"
