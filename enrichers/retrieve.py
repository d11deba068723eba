"""retrieve: the one way to read the index. Fresh, or told how stale; hybrid; the same content always gives the same answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from headwater.enrichers import sparse
from headwater.enrichers.document import Field
from headwater.enrichers.embed import Embedder, VectorCache
from headwater.enrichers.engine import Found, Index, Point, Scope, Vector, scope_of
from headwater.enrichers.freshness import Progress
from headwater.enrichers.head import Head
from headwater.lineage.duration import duration, format_time
from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.event import Position

RANK_CONSTANT = 60
WIDTH = 64
"""How many hits of each half are fused, at least."""
WIDEST = 4_096
"""A group of equal scores that does not fit tells nothing apart and is left out."""
LARGEST_LIMIT = 1_000
TRIES = 3


class Hit(msgspec.Struct, frozen=True):
    """A chunk that was found. `score` is the fused one; `dense` the cosine to the query; `time` event time in µs."""

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


class Answer(msgspec.Struct, frozen=True):
    """Hits, best first, and how fresh they are.

    as_of         `topic/partition` → the offset up to which the index had settled everything before the search
    staleness_ms  how long before the search the index was surely complete; infinite (JSON null): not known
    too_new       of a search into the past: documents whose version of that time is no longer kept
    """

    results: tuple[Hit, ...]
    as_of: dict[str, int]
    broker: str
    staleness_ms: float
    too_new: int = 0


class Retriever:
    """Searches an index. Threads may share it."""

    def __init__(self, index: Index, embedder: Embedder, progress: Progress) -> None:
        self.index = index
        self.progress = progress
        self._embedder = embedder
        self._queries = VectorCache(2_000)

    def search(
        self,
        text: str,
        *,
        limit: int = 10,
        where: Mapping[str, Field | Sequence[Field]] | None = None,
        after: Sequence[Position] = (),
        wait_s: float = 5.0,
        max_staleness: str | None = None,
        as_of: int | None = None,
        types: Sequence[str] | None = None,
    ) -> Answer:
        """The chunks that answer a text best, by meaning and by words.

        where   field → value, or a list of values of which one must match
        after   positions that the answer must include; waits up to `wait_s` seconds for them, and for `max_staleness` ("2s")
        as_of   event time in µs: from each document the latest version not later than that; None: the latest
        types   document types to look among; None: all

        Raises Misused, DeadLettered, Gone, Behind (see Progress.wait), Unavailable.
        """
        if not text.strip():
            raise Misused("the text to search for is empty")
        if not 1 <= limit <= LARGEST_LIMIT:
            raise Misused(f"limit={limit} must lie between 1 and {LARGEST_LIMIT}")
        self.progress.wait(after, wait_s, None if max_staleness is None else duration(max_staleness))
        settled, staleness = self.progress.as_of(), self.progress.staleness_ms()
        vector, terms = self._vector(text), sparse.of_query(text)
        scope = scope_of(where, as_of, types)
        hits = self._hits(vector, terms, scope, limit)
        too_new = 0 if as_of is None else self.index.forgotten(as_of)
        return Answer(tuple(hits), settled, self.progress.broker, staleness, too_new)

    def document(self, id: str) -> dict[str, Any]:
        """A document, `type/id`, with the versions that are kept, newest first. Raises NotFound."""
        head = self.index.heads([id]).get(id)
        if head is None:
            raise NotFound(f"no document {id!r}; ids have the form TYPE/ID, as search results show them")
        points = self.index.points([point for entry in head.entries for point in entry.points(id)])
        versions = []
        for entry, until in zip(head.entries, head.untils(), strict=True):
            chunks = [points[point][0] for point in entry.points(id) if point in points]
            versions.append(
                {
                    "version": entry.version, "event": entry.event, "time": format_time(entry.time),
                    "until": None if until is None else format_time(until), "deleted": entry.deleted,
                    "fields": chunks[0].fields if chunks else {},
                    "chunks": [
                        {"id": one.id, "n": one.n, "section": one.section, "text": one.text, "position": one.position} for one in chunks
                    ],
                }
            )  # fmt: skip
        return {
            "id": id, "type": head.type, "version": head.version, "event": head.event, "time": format_time(head.time),
            "deleted": head.current.deleted, "versions": versions[::-1],
        }  # fmt: skip

    def chunk(self, point_id: str) -> Point:
        """A chunk by the id that hits carry. Raises NotFound."""
        found = self.index.points([point_id]).get(point_id)
        if found is None:
            raise NotFound(f"no chunk {point_id}: it left the index's history, or never was there; lineage keeps what was retrieved")
        return found[0]

    def _vector(self, text: str) -> Vector:
        vector = self._queries.get(text)
        if vector is None:
            vector = self._embedder.embed([text])[0]
            self._queries.update({text: vector})
        return vector

    def _hits(self, vector: Vector, terms: sparse.Sparse, scope: Scope, limit: int) -> list[Hit]:
        """Search, and once more if writers replaced what was found before it could be read."""
        for attempt in range(TRIES):
            heads = Heads(self.index, scope.at)
            width = max(WIDTH, 4 * limit)
            halves = (
                _ranked(lambda count: self.index.nearest(vector, scope, count), heads, width),
                _ranked(lambda count: self.index.matching(terms, scope, count), heads, width),
            )
            best = fuse(halves, limit)
            points = self.index.points([id for id, _ in best])
            if attempt + 1 == TRIES or (len(points) == len(best) and not heads.overtaken):
                return [_hit(points[id], score, vector) for id, score in best if id in points]
        raise AssertionError("unreachable")


class Heads:
    """Tells hits that count from those of versions that do not, or not any more. Reads each document's head once."""

    def __init__(self, index: Index, at: int | None) -> None:
        self._index = index
        self._at = at
        self._heads: dict[str, Head | None] = {}
        self._counting: set[str] = set()
        self._outdated: set[str] = set()

    @property
    def overtaken(self) -> bool:
        """Whether a document was found only in a version that was replaced meanwhile."""
        return bool(self._outdated - self._counting)

    def counting(self, found: Sequence[Found]) -> list[Found]:
        unread = list(dict.fromkeys(one.document for one in found if one.document not in self._heads))
        if unread:
            self._heads |= dict.fromkeys(unread) | self._index.heads(unread)
        kept = []
        for one in found:
            head = self._heads[one.document]
            entry = head.at(self._at) if head else None
            if entry is None:
                continue
            if entry.key == (one.version, one.event):
                self._counting.add(one.document)
                kept.append(one)
            else:
                self._outdated.add(one.document)
        return kept


Groups = list[list[str]]


def _ranked(fetch: Callable[[int], list[Found]], heads: Heads, width: int) -> Groups:
    """One half of a search: ids in groups of equal score, best first, at least `width` of them if there are.

    A group is whole or absent, never cut where the engine happened to stop: so the answer rests on content alone.
    """
    limit = width + 1
    while True:
        found = fetch(limit)
        groups = _groups(heads.counting(found))
        if len(found) >= limit:
            # More points may share the last score: its group is not known to be whole.
            lowest = _rounded(found[-1].score)
            groups = [(score, ids) for score, ids in groups if score > lowest]
            if sum(len(ids) for _, ids in groups) < width and limit < WIDEST:
                limit = min(4 * limit, WIDEST)
                continue
        return _cut([ids for _, ids in groups], width)


def _groups(found: Sequence[Found]) -> list[tuple[float, list[str]]]:
    scores: dict[float, list[str]] = {}
    for one in found:
        scores.setdefault(_rounded(one.score), []).append(one.id)
    return sorted(scores.items(), reverse=True)


def _rounded(score: float) -> float:
    """Engines add up in an order of their own; what differs by less than this is equal."""
    return round(score, 5)


def _cut(groups: Groups, width: int) -> Groups:
    kept: Groups = []
    count = 0
    for ids in groups:
        if count >= width:
            break
        kept.append(ids)
        count += len(ids)
    return kept


def fuse(halves: Sequence[Groups], limit: int) -> list[tuple[str, float]]:
    """Reciprocal rank fusion: (id, score), best first, equal scores by id. Equal scores in a half share a rank."""
    scores: dict[str, float] = {}
    for groups in halves:
        rank = 1
        for ids in groups:
            for id in ids:
                scores[id] = scores.get(id, 0.0) + 1 / (RANK_CONSTANT + rank)
            rank += len(ids)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]


def _hit(found: tuple[Point, Vector], score: float, query: Vector) -> Hit:
    point, vector = found
    return Hit(
        id=point.id, document=point.document, type=point.type, version=point.version, n=point.n, section=point.section, text=point.text,
        score=round(score, 6), dense=round(float(np.dot(vector, query)), 6), fields=point.fields, time=point.time, event=point.event,
        position=point.position,
    )  # fmt: skip
