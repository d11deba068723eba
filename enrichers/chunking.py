"""chunk: a document's text → retrievable pieces. Markdown by its headings, plain text by length with some overlap."""

import hashlib
import re
from collections.abc import Iterable, Iterator

from headwater.enrichers.document import Chunk, Document, passage

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*\s*")
_FENCE = re.compile(r"\s*(```|~~~)")
_WORD_LENGTH = 12
"""A word longer than this counts as several: a model's budget is in tokens, and long words are many."""


def chunk(document: Document, *, budget: int = 200) -> list[Chunk]:
    """The chunks of a document, in order. Short text is one chunk, blank text none.

    `budget` is the most a chunk may hold, in words. A chunk stands under one heading; `section` is the path of headings to it.
    Only a paragraph longer than the budget is cut, and its pieces overlap by an eighth of the budget.
    """
    chunks: list[Chunk] = []
    for section, paragraphs in _sections(document.text):
        for text in _pack(paragraphs, budget):
            chunks.append(Chunk(len(chunks), text, hash_of(passage(section, text)), section))
    return chunks


def hash_of(text: str) -> str:
    """32 hex digits of SHA-256: what makes two texts the same text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """(section, paragraphs) for each heading with text under it."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading is None:
            lines.append(line)
            continue
        yield " › ".join(title for _, title in path), _paragraphs(lines)
        lines = []
        depth = len(heading[1])
        path = [(level, title) for level, title in path if level < depth] + [(depth, heading[2])]
    yield " › ".join(title for _, title in path), _paragraphs(lines)


def _paragraphs(lines: Iterable[str]) -> list[str]:
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    return [paragraph.strip() for paragraph in paragraphs if paragraph.strip()]


def _pack(paragraphs: Iterable[str], budget: int) -> Iterator[str]:
    """Neighbouring paragraphs together as long as they fit."""
    held: list[str] = []
    size = 0
    for paragraph in paragraphs:
        weight = sum(map(_weight, paragraph.split()))
        if held and size + weight > budget:
            yield "\n\n".join(held)
            held, size = [], 0
        if weight > budget:
            yield from _cut(paragraph, budget)
        else:
            held.append(paragraph)
            size += weight
    if held:
        yield "\n\n".join(held)


def _cut(paragraph: str, budget: int) -> Iterator[str]:
    words = [piece for word in paragraph.split() for piece in _pieces(word, budget)]
    start = 0
    while start < len(words):
        end, size = start, 0
        while end < len(words) and (end == start or size + _weight(words[end]) <= budget):
            size += _weight(words[end])
            end += 1
        yield " ".join(words[start:end])
        if end == len(words):
            return
        back, shared = end, 0
        while back > start + 1 and shared + _weight(words[back - 1]) <= budget // 8:
            back -= 1
            shared += _weight(words[back])
        start = back


def _pieces(word: str, budget: int) -> Iterator[str]:
    """A word no chunk could hold, in pieces that one can."""
    longest = _WORD_LENGTH * budget
    for start in range(0, len(word), longest):
        yield word[start : start + longest]


def _weight(word: str) -> int:
    return -(-len(word) // _WORD_LENGTH)
