"""Sentences, clauses and words of English text, and whether a clause says what is, was, will be or is not."""

import functools
import re
from typing import Literal

State = Literal["now", "past", "ahead", "not"]

_STOP = frozenset(
    (
        "a", "an", "the", "at", "in", "on", "of", "to", "for", "and", "or", "is", "are", "be", "with", "by", "was", "were", "it", "its",
        "as", "that", "this", "has", "have", "had", "from",
    )
)  # fmt: skip
_SUFFIXES = ("ings", "ing", "ed", "es", "s", "e")
_SPLIT = re.compile(
    r"(?<=[.;:!?])\s+|,\s+|\s+[–—]\s+|\s+(?:and|but|(?<! a )while|yet|whereas|although|though|because|since|with|so)\s+(?=\S+\s+\S)"
    r"|\s+(?=(?:after|against|up from|down from|compared (?:with|to)) (?:just |only )?\d)",
    re.I,
)
_PAST = re.compile(
    r"\b(?:ago|earlier|yesterday(?:'s)?|previously|formerly|(?:hour|day|night|week|evening|morning) before|"
    r"last (?:night|week|month)(?:'s)?|at (?:dawn|first)|had been)\b|^(?:after|against|compared|up from|down from)\b",
    re.I,
)
_AHEAD = re.compile(r"\b(?:forecasts?|expected|expects?|predicted|tomorrow|should|will|may|might|could|not yet)\b", re.I)
_OVER = re.compile(
    r"\b(?:lifted|ended|ends|stopped|stops|passed|gone|ceased|cleared up|(?:has|have|had|sk(?:y|ies)|weather|field) cleared|reopened|"
    r"(?:moved|drifted) (?:off|on|away|out)|blown (?:over|out)|(?:is|are|was|were|now) over(?! the| an?\b)|no longer|"
    r"back (?:above|up|at|to)|died down|subsided|dissolved|melted|burned off|last (?:lightning|flash|thunder|strike|snow|rain))\b",
    re.I,
)
_NOT = re.compile(r"\b(?:no|not|none|never|neither|nor|nothing|nobody|without|hardly|isn't|aren't|wasn't|don't|doesn't)\b", re.I)


def sentences(text: str) -> list[str]:
    """The sentences and list items of a text."""
    found: list[str] = []
    for line in text.splitlines():
        item = re.sub(r"^\s*(?:\d+\.|[-*#]+)\s+", "", line.strip())
        found.extend(part for part in re.split(r"(?<=[.!?;:])\s+(?=[A-Z0-9])", item) if len(part) > 15)
    return found


def clauses(text: str) -> list[str]:
    """The parts of a sentence between its commas, colons and conjunctions."""
    return [part.strip(" .,;:!?") for part in _SPLIT.split(text) if part.strip(" .,;:!?")]


def state(clause: str) -> State:
    """Whether a clause says what is the case, was before, lies ahead, or is not (or no longer) the case."""
    if _PAST.search(clause):
        return "past"
    if _AHEAD.search(clause):
        return "ahead"
    return "not" if _OVER.search(clause) or _NOT.search(clause) else "now"


@functools.lru_cache(maxsize=4096)
def stems(text: str) -> tuple[str, ...]:
    """The words of a text that carry meaning, cut to their stems, in order."""
    return tuple(_stem(word) for word in re.findall(r"[a-z]+", text.lower().replace("'", "")) if word not in _STOP)


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word
