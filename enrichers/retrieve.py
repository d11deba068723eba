"""retrieve: the one way to read the index. Fresh, or told how stale; hybrid; the same content always gives the same answer."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from headwater.enrichers import sparse
from headwater.enrichers.condition import Where, scope_of
from headwater.enrichers.document import tie_of
from headwater.enrichers.embed import Embedder, VectorCache
from headwater.enrichers.engine import Belonging, Found, Half, Index, Point, Scope, Vector
from headwater.enrichers.fields import Fields
from headwater.enrichers.freshness import Progress
from headwater.enrichers.head import Entry, Head
from headwater.enrichers.hit import Answer, Hit, Piece, around, hit_of
from headwater.enrichers.query import Query
from headwater.enrichers.rank import MEANING, WORDS, Need, decayed, fuse, grouped, ranking, reordered, settled, widened
from headwater.enrichers.rerank import RERANKED, Reranker, scores_of
from headwater.lineage.duration import duration, format_time
from headwater.lineage.errors import Forgotten, Misused, NotFound
from headwater.lineage.event import Position

WIDTH = 64
"""How many hits of each half are fused, at least."""
SPARE = 16
"""Groups of equal score are taken whole, and the last one fetched may not be: so many hits more than the width hold enough as a rule."""
TRIES = 3
MOST_QUERIES = 100
MOST_VERSIONS = 1_000


class Candidates(NamedTuple):
    """What the halves of one search found, fused, best first, with the document and event time (µs) of each."""

    fused: list[tuple[str, float]]
    document: Mapping[str, str]
    time: Mapping[str, int]


class Retriever:
    """Searches an index. Threads may share it.

    reranker  has the last word on the best candidates, unless a search does without
    types     the document types of the application, for the check of filters
    """

    def __init__(
        self, index: Index, embedder: Embedder, progress: Progress, *, reranker: Reranker | None = None, types: Sequence[str] = ()
    ) -> None:
        self.index = index
        self.progress = progress
        self.reranker = reranker
        self._embedder = embedder
        self._queries = VectorCache(2_000)
        self._fields = Fields(index, types)

    def search(
        self,
        text: str,
        *,
        limit: int = 10,
        where: Where | None = None,
        after: Sequence[Position] = (),
        wait_s: float = 5.0,
        max_staleness: str | None = None,
        as_of: int | None = None,
        types: Sequence[str] | None = None,
        mode: str = "hybrid",
        recency: str | None = None,
        rerank: bool | None = None,
        group_by: str | None = None,
        per_document: int = 1,
        neighbours: int = 0,
        strict: bool = False,
        partial: bool = True,
    ) -> Answer:
        """The chunks that answer a text best, by meaning and by words. What is not said here, `Query` and `batch` say.

        Raises Misused, Forgotten, DeadLettered, Gone, Behind (see Progress.wait), Unavailable.
        """
        query = Query(text, limit, where, tuple(types or ()), mode, recency, rerank, group_by, per_document, neighbours)
        [answer] = self.batch(
            [query], after=after, wait_s=wait_s, max_staleness=max_staleness, as_of=as_of, strict=strict, partial=partial
        )  # fmt: skip
        return answer

    def batch(
        self,
        queries: Sequence[Query],
        *,
        after: Sequence[Position] = (),
        wait_s: float = 5.0,
        max_staleness: str | None = None,
        as_of: int | None = None,
        strict: bool = False,
        partial: bool = True,
    ) -> list[Answer]:
        """Several searches of an index that stands, for all of them, at least where it stood before the first; embedded at once.

        after    positions that the answers must include; waits up to `wait_s` seconds for them, and for `max_staleness` ("2s")
        as_of    event time in µs: from each document the latest version not later than that; None: the latest
        strict   refuse a filter that no document could match; else it finds nothing
        partial  search also beyond the history that is kept, and tell of how many documents the version is gone; else refuse

        Raises Misused, Forgotten, DeadLettered, Gone, Behind (see Progress.wait), Unavailable.
        """
        if not 1 <= len(queries) <= MOST_QUERIES:
            raise Misused(f"{len(queries)} searches in one batch; from 1 to {MOST_QUERIES} are allowed")
        if self.reranker is None and any(query.rerank for query in queries):
            raise Misused("rerank: this application has no reranker; leave it out")
        scopes = [scope_of(query.where, as_of, query.types) for query in queries]
        standing = self.progress.wait(after, wait_s, None if max_staleness is None else duration(max_staleness))
        if strict:
            for query, scope in zip(queries, scopes, strict=True):
                self._fields.check(query.where or {}, scope)
        vectors = self._vectors([query.text for query in queries])
        found = [self._hits(query, vectors[query.text], scope) for query, scope in zip(queries, scopes, strict=True)]
        too_new = 0 if as_of is None else self.index.forgotten(as_of)
        if as_of is not None and too_new and not partial:
            self._refuse_forgotten(as_of, scopes, too_new)
        broker, said = self.progress.broker, standing
        return [Answer(tuple(hits), said.as_of, broker, said.staleness_ms, too_new, said.retrying) for hits in found]

    def document(self, id: str, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A document, `type/id`, with the versions that are kept, newest first; `next` is the cursor of the rest, None at the end.

        limit   at most so many versions; None: all
        cursor  `next` of the page before

        Raises NotFound, Misused.
        """
        if limit is not None and not 1 <= limit <= MOST_VERSIONS:
            raise Misused(f"limit={limit} must lie between 1 and {MOST_VERSIONS}")
        head = self.index.heads([id]).get(id)
        if head is None:
            raise NotFound(f"no document {id!r}; ids have the form TYPE/ID, as search results show them")
        before = None if cursor is None else _order_of(cursor)
        newest_first = list(zip(head.entries, head.untils(), strict=True))[::-1]
        left = [(entry, until) for entry, until in newest_first if before is None or entry.order < before]
        shown = left[:limit]
        points = self.index.points([point for entry, _ in shown for point in entry.points(id)])
        chunks = [[points[point][0] for point in entry.points(id) if point in points] for entry, _ in shown]
        return {
            "id": id, "type": head.type, "version": head.version, "event": head.event, "time": format_time(head.time),
            "deleted": head.current.deleted,
            "versions": [_version(entry, until, found) for (entry, until), found in zip(shown, chunks, strict=True)],
            "next": _cursor(shown[-1][0]) if shown and len(shown) < len(left) else None,
        }  # fmt: skip

    def chunk(self, point_id: str) -> Point:
        """A chunk by the id that hits carry. Raises NotFound."""
        found = self.index.points([point_id]).get(point_id)
        if found is None:
            raise NotFound(f"no chunk {point_id}: it left the index's history, or never was there; lineage keeps what was retrieved")
        return found[0]

    def _refuse_forgotten(self, at: int, scopes: Sequence[Scope], too_new: int) -> None:
        """Raises Forgotten if a document of the types that were asked for has let go of its version of that time."""
        types = () if any(not scope.types for scope in scopes) else sorted({one for scope in scopes for one in scope.types})
        oldest = self.index.floor(types)
        if at < oldest:
            which = f"documents of type {', '.join(types)}" if types else f"{too_new:,} documents"
            why = (
                f"of {which} the version of {format_time(at)} is no longer kept; the oldest time that can be asked for is "
                f"{format_time(oldest)}; partial=true searches what is kept"
            )
            raise Forgotten(why, oldest=format_time(oldest), too_new=too_new)

    def _vectors(self, texts: Sequence[str]) -> dict[str, Vector]:
        """A vector for each text, the unknown ones embedded at once."""
        vectors = {text: vector for text in texts if (vector := self._queries.get(text)) is not None}
        if missing := list(dict.fromkeys(text for text in texts if text not in vectors)):
            made = dict(zip(missing, self._embedder.embed(missing), strict=True))
            self._queries.update(made)
            vectors |= made
        return vectors

    def _hits(self, query: Query, vector: Vector, scope: Scope) -> list[Hit]:
        """Search, and once more if writers replaced what was found before it could be read."""
        for attempt in range(TRIES):
            heads = Heads(self.index, scope.at)
            found = self._candidates(query, vector, scope, heads)
            points: dict[str, tuple[Point, Vector]] = {}
            best = self._chosen(query, found, scope, points)
            self._read(points, [id for id, _ in best])
            if attempt + 1 == TRIES or (all(id in points for id, _ in best) and not heads.overtaken):
                kept = [(points[id], score) for id, score in best if id in points]
                beside = self._beside([point for (point, _), _ in kept], query.neighbours)
                return [hit_of(found, score, vector, beside) for found, score in kept]
        raise AssertionError("unreachable")

    def _candidates(self, query: Query, vector: Vector, scope: Scope, heads: "Heads") -> Candidates:
        width = max(WIDTH, 4 * query.limit)
        meaning = [] if query.mode == "sparse" else [Half(vector, width + SPARE)]
        words = [] if query.mode == "dense" else [Half(sparse.of_query(query.text), width + SPARE)]
        halves = meaning + words
        found = self.index.find(halves, scope)
        ids = [[one.id for one in each] for each in found]
        heads.read([id for each in ids for id in each[:width]])
        need = Need(width, query.limit if query.grouped else 1)
        rankings = [ranking(each, half.limit, heads.counting, need) for half, each in zip(halves, found, strict=True)]
        weights = (MEANING, WORDS) if query.mode == "hybrid" else (1.0,)
        best_alone = self._takes_the_best(query)
        if not (best_alone and settled(rankings, weights, query.limit)):
            if best_alone and sum(one.wanting for one in rankings) == 1:
                need = need._replace(others={id for each, one in zip(ids, rankings, strict=True) if not one.wanting for id in each})
            rankings = [
                widened(one, half.limit, partial(self._more, half, scope), heads.counting, need)
                for half, one in zip(halves, rankings, strict=True)
            ]
        return Candidates(fuse([one.groups for one in rankings], weights=weights), heads.document, heads.time)

    def _takes_the_best(self, query: Query) -> bool:
        """Whether the answer is the best of the candidates as they are: then only those need be right."""
        return query.recency is None and not query.grouped and (self.reranker is None or query.rerank is False)

    def _more(self, half: Half, scope: Scope, limit: int) -> list[Found]:
        [found] = self.index.find([half._replace(limit=limit)], scope)
        return found

    def _chosen(self, query: Query, found: Candidates, scope: Scope, points: dict[str, tuple[Point, Vector]]) -> list[tuple[str, float]]:
        """The best, after the reranker, age and groups had their say. What had to be read for it is left in `points`."""
        order = found.fused
        if self.reranker is not None and query.rerank is not False:
            order = order[: max(RERANKED, 2 * query.limit)]
            self._read(points, [id for id, _ in order])
            texts = {id: points[id][0].text for id, _ in order if id in points}
            order = reordered(dict(zip(texts, scores_of(self.reranker, query.text, list(texts.values())), strict=True)))
        if query.recency is not None:
            now = self.progress.clock() if scope.at is None else scope.at
            order = decayed(order, lambda id: query.decay(now - found.time[id]))
        if query.grouped:
            return grouped(order, found.document, query.limit, query.per_document)
        return order[: query.limit]

    def _read(self, points: dict[str, tuple[Point, Vector]], ids: Sequence[str]) -> None:
        points |= self.index.points([id for id in ids if id not in points])

    def _beside(self, points: Sequence[Point], reach: int) -> dict[str, tuple[Piece, ...]]:
        """The neighbours of each of these, by its id; those that left the index meanwhile are left out."""
        if not reach:
            return {}
        wanted = {point.id: around(point, reach) for point in points}
        there = self.index.points(list(dict.fromkeys(id for ids in wanted.values() for id in ids)))
        pieces = {id: Piece(id, point.n, point.section, point.text) for id, (point, _) in there.items()}
        return {id: tuple(pieces[one] for one in ids if one in pieces) for id, ids in wanted.items()}


class Heads:
    """Tells hits that count from those of versions that do not, or not any more. Reads each document's head once.

    document, time  of each chunk that counts, by its id
    """

    def __init__(self, index: Index, at: int | None) -> None:
        self._index = index
        self._at = at
        self._belongings: dict[str, Belonging] = {}
        self._heads: dict[str, Head | None] = {}
        self._counting: set[str] = set()
        self._outdated: set[str] = set()
        self.document: dict[str, str] = {}
        self.time: dict[str, int] = {}

    @property
    def overtaken(self) -> bool:
        """Whether a document was found only in a version that was replaced meanwhile."""
        return bool(self._outdated - self._counting)

    def read(self, ids: Iterable[str]) -> None:
        """What these chunks belong to, and the heads of their documents."""
        if new := list(dict.fromkeys(id for id in ids if id not in self._belongings)):
            found = self._index.belongings(new)
            self._belongings |= found
            if unread := list(dict.fromkeys(one.document for one in found.values() if one.document not in self._heads)):
                self._heads |= dict.fromkeys(unread) | self._index.heads(unread)

    def counting(self, ids: Sequence[str]) -> dict[str, str]:
        """Those of them that count, with the document of each. One that is gone already was outdated."""
        self.read(ids)
        kept = {}
        for id in ids:
            if (whose := self._belongings.get(id)) is None:
                self._outdated.add(id)
                continue
            head = self._heads[whose.document]
            entry = head.at(self._at) if head else None
            if entry is None:
                continue
            if entry.key == (whose.version, whose.event):
                self._counting.add(whose.document)
                kept[id] = self.document[id] = whose.document
                self.time[id] = entry.time
            else:
                self._outdated.add(whose.document)
        return kept


def _version(entry: Entry, until: int | None, chunks: Sequence[Point]) -> dict[str, Any]:
    return {
        "version": entry.version, "event": entry.event, "time": format_time(entry.time),
        "until": None if until is None else format_time(until), "deleted": entry.deleted,
        "fields": chunks[0].fields if chunks else {},
        "chunks": [{"id": one.id, "n": one.n, "section": one.section, "text": one.text, "position": one.position} for one in chunks],
    }  # fmt: skip


def _cursor(entry: Entry) -> str:
    return f"{entry.version}-{tie_of(entry.event)}"


def _order_of(cursor: str) -> tuple[int, int]:
    version, _, tie = cursor.partition("-")
    if not (version.isdecimal() and tie.isdecimal() and len(cursor) < 40):
        raise Misused(f"cursor={cursor!r} is none; take it from `next` of the page before")
    return int(version), int(tie)
