"""Chunkers: how a document's text is cut into retrievable pieces. Small frozen values; an application may bring its own."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from headwater.lineage.errors import Misused

Measure: TypeAlias = Callable[[str], int]
"""How many tokens a word is."""

Piece: TypeAlias = tuple[str, str]
"""(section, text): a piece of a text, and the heading it stands under; "" for none."""

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*\s*")
_FENCE = re.compile(r"\s*(```|~~~)")
_WORD = re.compile(r"\S+")
_WORD_LENGTH = 12
"""A word longer than this counts as several: a model's budget is in tokens, and long words are many."""


def words(word: str) -> int:
    """The measure where no model counts tokens: a word is one, a long one several."""
    return -(-len(word) // _WORD_LENGTH)


@runtime_checkable
class Chunker(Protocol):
    """Cuts a text. The same text must always be cut alike; a change of the chunker means that the index is to be rebuilt."""

    def pieces(self, text: str, tokens: Measure) -> Iterable[Piece]:
        """The pieces in order; blank ones are left out by whoever asks. `tokens` counts as the model does, if that can be known."""
        ...


@dataclass(frozen=True)
class Markdown:
    """By headings, neighbouring paragraphs together as long as they fit. The chunker of documents that name none.

    budget   the most a piece may hold, in words
    overlap  how many words the pieces of one overlong paragraph share; None: an eighth of the budget
    """

    budget: int = 200
    overlap: int | None = None

    def __post_init__(self) -> None:
        _checked(self, self.budget, self.overlap or 0)

    def pieces(self, text: str, tokens: Measure) -> Iterator[Piece]:
        overlap = self.budget // 8 if self.overlap is None else self.overlap
        for section, paragraphs in _sections(text):
            for piece in _pack(paragraphs, self.budget, overlap):
                yield section, piece


@dataclass(frozen=True)
class Tokens:
    """By length alone, as the text runs.

    budget   the most a piece may hold, in tokens of the model where the embedder counts them, else in words
    overlap  how many of them neighbouring pieces share
    """

    budget: int = 200
    overlap: int = 25

    def __post_init__(self) -> None:
        _checked(self, self.budget, self.overlap)

    def pieces(self, text: str, tokens: Measure) -> Iterator[Piece]:
        spans = [span for word in _WORD.finditer(text) for span in _halved(text, word.start(), word.end(), self.budget, tokens)]
        weights = [tokens(text[start:end]) for start, end in spans]
        for first, following in _windows(weights, self.budget, self.overlap):
            yield "", text[spans[first][0] : spans[following - 1][1]]


@dataclass(frozen=True)
class Records:
    """A piece per line: rows of a table, log lines, JSON lines. One longer than the model reads is embedded by its beginning.

    header  the first line says what the columns are, and stands over every row
    """

    header: bool = False

    def pieces(self, text: str, tokens: Measure) -> Iterator[Piece]:
        lines = iter([line.strip() for line in text.splitlines() if line.strip()])
        section = next(lines, "") if self.header else ""
        for line in lines:
            yield section, line


def _checked(chunker: object, budget: int, overlap: int) -> None:
    if budget < 1 or not 0 <= overlap < budget:
        raise Misused(f"{chunker}: the budget must be at least 1, and the overlap smaller than it")


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """(section, paragraphs) for each heading with text under it. One with nothing under it, no heading either, is itself the text."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading is None:
            lines.append(line)
            continue
        depth = len(heading[1])
        yield _section(path, _paragraphs(lines), leaf=not path or depth <= path[-1][0])
        lines = []
        path = [(level, title) for level, title in path if level < depth] + [(depth, heading[2])]
    yield _section(path, _paragraphs(lines), leaf=True)


def _section(path: list[tuple[int, str]], paragraphs: list[str], *, leaf: bool) -> tuple[str, list[str]]:
    titles = [title for _, title in path]
    if leaf and titles and not paragraphs:
        paragraphs = [titles.pop()]
    return " › ".join(titles), paragraphs


def _paragraphs(lines: Iterable[str]) -> list[str]:
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    return [paragraph.strip() for paragraph in paragraphs if paragraph.strip()]


def _pack(paragraphs: Iterable[str], budget: int, overlap: int) -> Iterator[str]:
    """Neighbouring paragraphs together as long as they fit; only one longer than the budget is cut."""
    held: list[str] = []
    size = 0
    for paragraph in paragraphs:
        weight = sum(map(words, paragraph.split()))
        if held and size + weight > budget:
            yield "\n\n".join(held)
            held, size = [], 0
        if weight > budget:
            yield from _cut(paragraph, budget, overlap)
        else:
            held.append(paragraph)
            size += weight
    if held:
        yield "\n\n".join(held)


def _cut(paragraph: str, budget: int, overlap: int) -> Iterator[str]:
    longest = _WORD_LENGTH * budget  # a word no chunk could hold is cut where one can
    pieces = [word[start : start + longest] for word in paragraph.split() for start in range(0, len(word), longest)]
    for first, following in _windows([words(word) for word in pieces], budget, overlap):
        yield " ".join(pieces[first:following])


def _windows(weights: list[int], budget: int, overlap: int) -> Iterator[tuple[int, int]]:
    """[first, following) of neighbours that fit, each beginning so far back that about `overlap` is shared; each goes further."""
    start = 0
    while start < len(weights):
        end, size = start, 0
        while end < len(weights) and (end == start or size + weights[end] <= budget):
            size += weights[end]
            end += 1
        yield start, end
        if end == len(weights):
            return
        back, shared = end, 0
        while back > start + 1 and shared + weights[back - 1] <= overlap:
            back -= 1
            shared += weights[back]
        start = back


def _halved(text: str, start: int, end: int, budget: int, tokens: Measure) -> Iterator[tuple[int, int]]:
    """A word's place, or those of its parts if no piece could hold it."""
    if end - start < 2 or tokens(text[start:end]) <= budget:
        yield start, end
        return
    middle = (start + end) // 2
    yield from _halved(text, start, middle, budget, tokens)
    yield from _halved(text, middle, end, budget, tokens)
