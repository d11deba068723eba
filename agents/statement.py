"""Statements: what speaks for an option, under which conditions. "At one mile or less, hold" says when to hold."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from headwater.agents.clause import clauses, sentences, stems
from headwater.agents.quantity import Quantity, bare, plain, read

_NEGATIONS = frozenset(("not", "never", "no", "dont", "without"))
_CONDITION = re.compile(r"^[\s,:;]*(?:too |also |only |again |at once )?(?:when|if|while|because|as soon as|as long as)\b", re.I)
_OURS = re.compile(r"\b(?:when|while|if|once) (?:we|you|they)$", re.I)
_OR = re.compile(r",? or (?=when\b|if\b|while\b|because\b|as soon\b)|:\s+(?=when\b|if\b|while\b)", re.I)
OTHERWISE = re.compile(r"^otherwise\b[\s,:]*", re.I)
"""A description that begins so is of the option for when no other has a reason."""


class Passage(NamedTuple):
    """A chunk of evidence: its id, its text, and what it is about (the title of its document), if known."""

    id: str
    text: str
    title: str = ""


@dataclass(frozen=True)
class Way:
    """One condition under which a statement speaks: its clauses, and its quantities; all of these must hold."""

    texts: tuple[str, ...]
    quantities: tuple[Quantity, ...]


@dataclass(frozen=True)
class Spoken:
    """A statement, and the option it speaks for; `source` is the chunk it stands in, empty for the option's description."""

    text: str
    option: str
    source: str = ""
    ways: tuple[Way, ...] = ()


def described(options: Mapping[str, str]) -> list[Spoken]:
    """The statements of the descriptions: each clause of them, and the option's own name."""
    found = [Spoken(option, option, ways=(_way(option),)) for option in options]
    for option, description in options.items():
        parts = re.split(r"[:;,.]\s+|\.$", OTHERWISE.sub("", description))
        found.extend(Spoken(part.strip(), option, ways=(_way(part),)) for part in parts if len(part.strip()) > 2)
    return found


def stated(passage: Passage, options: Mapping[str, str]) -> list[Spoken]:
    """The statements of a chunk: its sentences that name one option, do not negate it, and name no other."""
    found = []
    for line in passage.text.splitlines():
        before = ""
        for sentence in sentences(line):
            named = [(option, place) for option in options if (place := _named(sentence, option)) is not None]
            if len(named) == 1:
                option, place = named[0]
                found.append(Spoken(sentence, option, passage.id, _ways(sentence, place, before, passage.title)))
            before = "" if named else sentence
    return found


def _ways(sentence: str, place: tuple[int, int], previous: str, title: str) -> tuple[Way, ...]:
    """The conditions: what stands before the option's name; after it, only what a word such as "when" begins.

    Advice without a condition in its sentence has that of the sentence before it, else its document's title.
    What is to be done "when we" do what the option says is none.
    """
    before, after = sentence[: place[0]].strip(" ,:;"), sentence[place[1] :].strip(" .")
    if _OURS.search(before):
        return ()
    condition = before if stems(before) else ""
    if _CONDITION.match(after):
        condition = f"{condition}, {after}" if condition else after
    condition = condition or previous
    if not condition:
        return (_way(after if stems(after) else "", title, reads=False),)
    return tuple(_way(part, title) for part in _OR.split(condition) if stems(part) or read(part, stated=True))


def _way(text: str, title: str = "", *, reads: bool = True) -> Way:
    """`reads`: whether numbers in the text are conditions; those of advice ("every fifteen minutes") are none."""
    texts = [bare(part) for part in clauses(plain(text))]
    if len(texts) > 1:
        texts.append(bare(text))
    if title and not reads:
        texts.append(title)
    found = read(text, stated=True) if reads else ()
    told = tuple(Quantity(one.range, one.about or title) for one in found)
    return Way(tuple(dict.fromkeys(part for part in texts if stems(part))), told)


def _named(sentence: str, option: str) -> tuple[int, int] | None:
    """Where a sentence names an option, its words in a row and not within three words after a negation; else None."""
    words = [hit for hit in re.finditer(r"[A-Za-z']+", sentence) if stems(hit[0])]
    have, wanted = [stems(hit[0])[0] for hit in words], list(stems(option))
    for first in range(len(have) - len(wanted) + 1 if wanted else 0):
        if have[first : first + len(wanted)] == wanted and not _NEGATIONS & set(have[max(0, first - 3) : first]):
            return words[first].start(), words[first + len(wanted) - 1].end()
    return None
