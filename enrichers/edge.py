"""The embedded engine: Qdrant's own, in this process, its files under one directory that belongs to this process alone."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from qdrant_edge import (
    CountRequest,
    Direction,
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HasIdCondition,
    IdfParams,
    MatchAny,
    MatchValue,
    Modifier,
    OrderBy,
    PayloadSchemaType,
    PayloadSelector,
    Query,
    QueryRequest,
    RangeDateTime,
    RangeFloat,
    ScrollRequest,
    SearchParams,
    SparseVector,
    UpdateOperation,
)
from qdrant_edge import Point as EdgePoint

from headwater.enrichers.document import head_id
from headwater.enrichers.engine import EXACT_BELOW, Count, Embedded, Found, Point, Range, Row, Scope, Vector
from headwater.enrichers.head import Head
from headwater.enrichers.point import DENSE, KEYWORDS, NEVER, NUMBERS, SPARSE, of_progress, progress_id, to_progress, unit
from headwater.enrichers.sparse import Sparse
from headwater.lineage.errors import Misused, Unavailable

OPTIMISE_EVERY = 10_000
"""Written points between two runs of the optimiser. Below `EXACT_BELOW` points it has nothing to do."""


class EdgeIndex:
    """An index in a directory, made on first use. Threads may share it; a second process is refused (Unavailable).

    What a method wrote survives a kill of the process; `close` writes out the rest, for a crash of the machine.
    """

    def __init__(self, directory: Path, size: int) -> None:
        self.size = size
        self._directory = directory
        self._shard = _open(directory, size)
        self._written = 0
        self._optimiser: threading.Thread | None = None
        self._lock = threading.Lock()

    def heads(self, documents: Sequence[str]) -> dict[str, Head]:
        found = self._retrieve([head_id(document) for document in documents], vector=False)
        heads = [Head.of(record.payload) for record in found]
        return {head.document: head for head in heads}

    def put(self, points: Sequence[Embedded]) -> None:
        # A condition that never holds: what is there already stays.
        self._update(UpdateOperation.upsert_points([_point(one) for one in points], condition=_only(_is("rev", NEVER))))
        self._count_written(len(points))

    def flip(self, heads: Sequence[Head]) -> None:
        by_revision: dict[int, list[EdgePoint]] = {}
        for head in heads:
            by_revision.setdefault(head.rev - 1, []).append(EdgePoint(head_id(head.document), {}, head.payload()))
        for revision, points in by_revision.items():
            self._update(UpdateOperation.upsert_points(points, condition=_only(_is("rev", revision))))

    def supersede(self, points: Mapping[int, Sequence[str]]) -> None:
        for until, ids in points.items():
            chosen = Filter(must=[HasIdCondition(set(ids))], must_not=[_not_later("until", until)])
            self._update(UpdateOperation.set_payload_by_filter(chosen, {"live": 0, "until": until}))

    def delete(self, points: Sequence[str]) -> None:
        self._update(UpdateOperation.delete_points(list(points)))

    def nearest(self, vector: Vector, scope: Scope, limit: int) -> list[Found]:
        params = SearchParams(exact=self._small(), hnsw_ef=max(128, limit))
        return self._query(Query.Nearest(vector.tolist(), using=DENSE), scope, limit, params)

    def matching(self, terms: Sparse, scope: Scope, limit: int) -> list[Found]:
        if not terms.indices:
            return []
        params = SearchParams(exact=True, idf=IdfParams(corpus=_filter(scope.population)) if self._small() else None)
        vector = SparseVector(list(terms.indices), list(terms.values))
        return self._query(Query.Nearest(vector, using=SPARSE), scope, limit, params)

    def points(self, ids: Sequence[str]) -> dict[str, tuple[Point, Vector]]:
        found = self._retrieve(ids, vector=True)
        return {str(record.id): (Point.of(record.payload), unit(record.vector[DENSE])) for record in found}

    def count(self) -> Count:
        with _answering():
            documents = self._shard.count(CountRequest(True, _only(_is("kind", "head"), _is("deleted", 0))))
            chunks = self._shard.count(CountRequest(True, _only(_is("live", 1))))
            return Count(documents, chunks, self._shard.info().points_count)

    def forgotten(self, at: int) -> int:
        with _answering():
            return self._shard.count(CountRequest(True, _only(FieldCondition("floor", range=RangeFloat(gt=at)))))

    def floor(self, types: Sequence[str] = ()) -> int:
        heads = [_is("kind", "head"), *_of_types(types)]
        highest = OrderBy("floor", direction=Direction.Desc)
        with _answering():
            found, _ = self._shard.scroll(ScrollRequest(limit=1, filter=_only(*heads), with_payload=True, order_by=highest))
        return max((int((record.payload or {}).get("floor", 0)) for record in found), default=0)

    def sample(self, scope: Scope, limit: int, field: str | None = None) -> list[Point]:
        there = [] if field is None else [FieldCondition(Range(field).key, is_empty=False)]
        chosen = _filter(scope, _is("kind", "chunk"), *there)
        with _answering():
            found, _ = self._shard.scroll(ScrollRequest(limit=limit, filter=chosen, with_payload=True))
        return [Point.of(record.payload or {}) for record in found]

    def save_progress(self, rows: Sequence[Row]) -> None:
        self._update(UpdateOperation.upsert_points([EdgePoint(progress_id(row), {}, to_progress(row)) for row in rows]))

    def load_progress(self) -> list[Row]:
        with _answering():
            found, _ = self._shard.scroll(ScrollRequest(limit=10_000, filter=_only(_is("kind", "progress")), with_payload=True))
        return of_progress(record.payload for record in found)

    def close(self) -> None:
        """Write everything out and unlock the directory. Waits for the optimiser."""
        if self._optimiser is not None:
            self._optimiser.join()
        self._shard.flush()
        self._shard.close()

    def _small(self) -> bool:
        count: int = self._shard.info().points_count
        return count < EXACT_BELOW

    def _query(self, query: Any, scope: Scope, limit: int, params: SearchParams) -> list[Found]:
        request = QueryRequest(
            limit, query=query, filter=_filter(scope), params=params, with_payload=PayloadSelector.Include(["document", "version", "event"])
        )
        with _answering():
            found = self._shard.query(request)
        payloads = [(one, one.payload or {}) for one in found]
        return [Found(str(one.id), one.score, payload["document"], payload["version"], payload["event"]) for one, payload in payloads]

    def _retrieve(self, ids: Sequence[str], *, vector: bool) -> list[Any]:
        if not ids:
            return []
        with _answering():
            records: list[Any] = self._shard.retrieve(list(ids), True, [DENSE] if vector else False)
        return records

    def _update(self, operation: UpdateOperation) -> None:
        with _answering():
            self._shard.update(operation)

    def _count_written(self, count: int) -> None:
        """Now and then let the optimiser run beside us: updates and searches go on while it builds."""
        with self._lock:
            self._written += count
            idle = self._optimiser is None or not self._optimiser.is_alive()
            if self._written < OPTIMISE_EVERY or not idle or self._small():
                return
            self._written = 0
            self._optimiser = threading.Thread(target=self._shard.optimize, name="headwater-optimise", daemon=True)
            self._optimiser.start()


def _open(directory: Path, size: int) -> EdgeShard:
    config = EdgeConfig(
        vectors={DENSE: EdgeVectorParams(size=size, distance=Distance.Cosine)},
        sparse_vectors={SPARSE: EdgeSparseVectorParams(modifier=Modifier.Idf)},
        optimizers=EdgeOptimizersConfig(indexing_threshold=EXACT_BELOW * size * 4 // 1024),
    )
    with _answering():
        if directory.exists() and any(directory.iterdir()):
            return _reopen(directory, config)
        directory.mkdir(parents=True, exist_ok=True)
        shard = EdgeShard.create(str(directory), config)
        for names, schema in ((KEYWORDS, PayloadSchemaType.Keyword), (NUMBERS, PayloadSchemaType.Integer)):
            for name in names:
                shard.update(UpdateOperation.create_field_index(name, schema))
        return shard


def _reopen(directory: Path, config: EdgeConfig) -> EdgeShard:
    try:
        return EdgeShard.load(str(directory), config)
    except Exception as error:
        if "WouldBlock" in str(error):
            raise Unavailable(f"the index in {directory} belongs to another process; ask that one, or stop it") from None
        raise Misused(f"the index in {directory} cannot be opened: {error}; move it away and let `index` build it anew") from error


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """The engine raises bare Exceptions; ours say what to do."""
    try:
        yield
    except (Unavailable, Misused, msgspec.ValidationError):
        raise
    except Exception as error:
        raise Unavailable(f"the embedded index failed: {error}; start again, it keeps what it acknowledged") from error


def _point(one: Embedded) -> EdgePoint:
    vectors = {DENSE: one.dense.tolist(), SPARSE: SparseVector(list(one.sparse.indices), list(one.sparse.values))}
    return EdgePoint(one.point.id, vectors, one.point.payload())


def _is(name: str, value: str | int) -> FieldCondition:
    return FieldCondition(name, match=MatchValue(value))


def _not_later(name: str, time: int) -> FieldCondition:
    return FieldCondition(name, range=RangeFloat(lte=time))


def _only(*conditions: Any) -> Filter:
    return Filter(must=list(conditions))


def _of_types(types: Sequence[str]) -> list[Any]:
    return [FieldCondition("type", match=MatchAny(list(types)))] if types else []


def _between(one: Range) -> FieldCondition:
    kind: Any = RangeDateTime if one.of_times else RangeFloat
    return FieldCondition(one.key, range=kind(gte=one.gte, gt=one.gt, lte=one.lte, lt=one.lt))


def _filter(scope: Scope, *more: Any) -> Filter:
    must: list[Any] = [*more, *(FieldCondition("tags", match=MatchAny(list(group))) for group in scope.tags), *_of_types(scope.types)]
    must += [_between(one) for one in scope.ranges]
    if scope.at is None:
        return Filter(must=[_is("live", 1), *must])
    return Filter(must=[*must, _not_later("time", scope.at)], must_not=[_not_later("until", scope.at)])
