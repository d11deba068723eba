"""Hits and answers: what a search gives back."""

from collections.abc import Mapping

import msgspec
import numpy as np

from headwater.enrichers.document import Field, point_id
from headwater.enrichers.engine import Point, Vector


class Piece(msgspec.Struct, frozen=True):
    """A chunk beside one that was found, of the same version."""

    id: str
    n: int
    section: str
    text: str


class Hit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chunk that was found. `score` is what it is ordered by; `dense` the cosine to the query; `time` event time in µs.

    neighbours  the chunks before and after it, if they were asked for
    """

    id: str
    document: str
    type: str
    version: int
    n: int
    section: str
    text: str
    score: float
    dense: float
    fields: dict[str, Field]
    time: int
    event: str
    position: str
    neighbours: tuple[Piece, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """Hits, best first, and how fresh they are.

    as_of         `topic/partition` → the offset up to which the index had settled everything before the search
    staleness_ms  how long before the search the index was surely complete; infinite (JSON null): not known
    retrying      `topic/partition@offset` of events below `as_of` that failed for now and are not in the answer; the first hundred
    too_new       of a search into the past: documents whose version of that time is no longer kept
    """

    results: tuple[Hit, ...]
    as_of: dict[str, int]
    broker: str
    staleness_ms: float
    too_new: int = 0
    retrying: tuple[str, ...] = ()


def around(point: Point, reach: int) -> list[str]:
    """The ids of the chunks up to `reach` before and after one, of the same version; the last ones may not exist."""
    numbers = (n for n in range(point.n - reach, point.n + reach + 1) if n >= 0 and n != point.n)
    return [point_id(point.document, point.version, point.event, n) for n in numbers]


def hit_of(found: tuple[Point, Vector], score: float, query: Vector, beside: Mapping[str, tuple[Piece, ...]]) -> Hit:
    """A found point as a hit; `beside` holds the neighbours by the hit's id."""
    point, vector = found
    return Hit(
        id=point.id, document=point.document, type=point.type, version=point.version, n=point.n, section=point.section, text=point.text,
        score=round(score, 6), dense=round(float(np.dot(vector, query)), 6), fields=point.fields, time=point.time, event=point.event,
        position=point.position, neighbours=beside.get(point.id, ()),
    )  # fmt: skip
