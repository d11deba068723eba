"""picture: the path of a decision as a drawing: events, rule, evidence, choice, effects, from left to right. SVG, without script."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec

from headwater.lineage.event import Position
from headwater.lineage.seen import ChunkSeen, DecisionSeen, EffectSeen

WIDE, HIGH = 216, 46
"""A box."""
ACROSS, DOWN = 60, 14
"""Between two columns, between two boxes of one."""
MOST = 5
"""Boxes in a column; what is beyond is counted."""
LETTERS = 23
"""That fit into a box, also of a wide letter in bold."""

Tone = Literal["plain", "used", "choice", "warn"]


class Box(NamedTuple):
    """One thing in the picture: two lines of text, how it stands out, and the whole for who points at it."""

    head: str
    foot: str = ""
    tone: Tone = "plain"
    whole: str = ""


class Column(NamedTuple):
    """What stands under one another. `title` says what it is."""

    title: str
    boxes: list[Box]


class Drawn(msgspec.Struct, frozen=True):
    """A box at its place, in pixels; texts cut to fit."""

    x: float
    y: float
    head: str
    foot: str
    tone: Tone
    whole: str


class Line(msgspec.Struct, frozen=True):
    """A curve from box to box, as the `d` of a path."""

    d: str
    tone: Tone


class Picture(msgspec.Struct, frozen=True):
    """All that a template needs to draw. `said` tells it to who does not see it."""

    wide: float
    high: float
    titles: tuple[Drawn, ...]
    boxes: tuple[Drawn, ...]
    lines: tuple[Line, ...]
    said: str


def picture_of(decision: DecisionSeen) -> Picture:
    """The picture of one decision."""
    columns = [column for column in _columns(decision) if column.boxes]
    rows = max(len(column.boxes) for column in columns)
    high = 24 + rows * (HIGH + DOWN)
    placed = [list(_placed(number, column, high)) for number, column in enumerate(columns)]
    titles = [Drawn(number * (WIDE + ACROSS), 12, column.title, "", "plain", "") for number, column in enumerate(columns)]
    lines = [line for left, right in pairwise(placed) for line in _lines(left, right)]
    said = "; ".join(f"{column.title}: {', '.join(box.head for box in column.boxes)}" for column in columns)
    wide = len(columns) * (WIDE + ACROSS) - ACROSS
    return Picture(wide, high, tuple(titles), tuple(box for column in placed for box in column), tuple(lines), said)


def _columns(decision: DecisionSeen) -> Iterator[Column]:
    activation = decision.activation
    if activation is not None:
        events = [Box(event.key or event.id or event.short, event.short, whole=event.text or event.id) for event in activation.events]
        yield Column("events", _few(events, "events more"))
        level = f"{activation.count} of {activation.total}" if activation.total else f"level {activation.value:g}"
        yield Column("rule", [Box(f"{activation.rule}/{activation.key}", f"{activation.phase}, {level}")])
    chunks = {chunk.id: chunk for retrieval in decision.retrievals for chunk in retrieval.results}
    ranked = sorted(chunks.values(), key=lambda chunk: (not _turns(chunk, decision), not chunk.used, -chunk.score))
    seen = [_chunk(chunk, decision) for chunk in ranked]
    tools = [Box(str(called["tool"]), "called", whole=str(called.get("answer", ""))) for called in decision.tools]
    yield Column("seen", _few([*tools, *seen], "chunks more"))
    by = f"{decision.who}, {decision.confidence:.2f}"
    yield Column("choice", [Box(decision.summary or "nothing to do", by, "choice", decision.rationale)])
    answers = [(str(review.get("verdict") or "no answer yet"), review) for review in decision.reviews]
    yield Column("people", [Box(answer, f"asked: {review.get('reason', '')}", "warn") for answer, review in answers])
    yield Column("done", _few([_done(effect) for effect in decision.effects], "effects more"))


def _chunk(chunk: ChunkSeen, decision: DecisionSeen) -> Box:
    """One that the agent named stands out; one without which it would have chosen otherwise even more."""
    name = chunk.document if len(chunk.document) <= LETTERS else f"…{chunk.document[1 - LETTERS :]}"
    if chunk.without is not None and _turns(chunk, decision):
        return Box(name, f"else: {chunk.without.name}", "warn", chunk.text)
    return Box(name, f"score {chunk.score:.2f}", "used" if chunk.used else "plain", chunk.text)


def _turns(chunk: ChunkSeen, decision: DecisionSeen) -> bool:
    """Whether the choice would have been another without it."""
    return chunk.without is not None and chunk.without.name != decision.summary


def _done(effect: EffectSeen) -> Box:
    return Box(effect.target, f"{effect.state} {_place(effect.position)}", "plain" if effect.state == "done" else "warn")


def _few(boxes: Sequence[Box], more: str) -> list[Box]:
    if len(boxes) <= MOST:
        return list(boxes)
    return [*boxes[: MOST - 1], Box(f"{len(boxes) - MOST + 1} {more}")]


def _placed(number: int, column: Column, high: float) -> Iterator[Drawn]:
    """The boxes of a column, in its middle."""
    tall = len(column.boxes) * (HIGH + DOWN) - DOWN
    top = 24 + (high - 24 - DOWN - tall) / 2
    for row, box in enumerate(column.boxes):
        y = top + row * (HIGH + DOWN)
        yield Drawn(number * (WIDE + ACROSS), y, _fit(box.head), _fit(box.foot), box.tone, box.whole or box.head)


def _lines(left: Iterable[Drawn], right: Sequence[Drawn]) -> Iterator[Line]:
    for a in left:
        for b in right:
            x, y, to_x, to_y = a.x + WIDE, a.y + HIGH / 2, b.x, b.y + HIGH / 2
            middle = (x + to_x) / 2
            strong = a.tone in ("used", "warn") and b.tone == "choice"
            yield Line(f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}", "used" if strong else "plain")


def _fit(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LETTERS else line[: LETTERS - 1] + "…"


def _place(token: str) -> str:
    return Position.parse(token).short if token.count("/") == 3 else token
