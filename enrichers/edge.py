"""The embedded engine: Qdrant's own, in this process, its files under one directory that belongs to this process alone."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from qdrant_edge import (
    BinaryQuantizationConfig,
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
    QueryBatchRequest,
    QueryRequest,
    RangeDateTime,
    RangeFloat,
    ScalarQuantizationConfig,
    ScalarType,
    ScrollRequest,
    SearchParams,
    SparseVector,
    UpdateOperation,
)
from qdrant_edge import Point as EdgePoint

from headwater.enrichers.document import head_id
from headwater.enrichers.engine import (
    EXACT_BELOW,
    Belonging,
    Count,
    Embedded,
    Found,
    Half,
    Point,
    Range,
    Row,
    Scope,
    State,
    Storage,
    Vector,
)
from headwater.enrichers.head import Head
from headwater.enrichers.lately import Lately
from headwater.enrichers.packed import BELONGS, belonging, pack_head, pack_point, unpack_head, unpack_point, unpack_state
from headwater.enrichers.point import (
    DENSE,
    KEYWORDS,
    NEVER,
    NUMBERS,
    SPARSE,
    kept_id,
    of_kept,
    of_progress,
    progress_id,
    to_kept,
    to_progress,
    unit,
)
from headwater.enrichers.purge import mark, purged
from headwater.enrichers.sparse import Sparse
from headwater.enrichers.turns import Turns
from headwater.lineage.errors import Misused, Unavailable

T = TypeVar("T")

ALWAYS_BY_WORDS = 1
"""Of how many points that pass a filter on, the engine follows the words to them. Below its default, 5,000, it compares the query with each
point, which takes seven times as long among 4,000."""
WRITTEN_AT_ONCE = 64
"""Points in one write: the engine holds the whole interpreter for as long as it takes, some 0.15 ms for each."""
HEADS_KEPT, BELONGINGS_KEPT = 50_000, 100_000
"""How many are remembered: some two thirds of a kilobyte for a head, half a one for what a point belongs to."""


class EdgeIndex:
    """An index in a directory, made on first use. Threads may share it; a second process is refused (Unavailable).

    What a method wrote survives a kill of the process; `close` writes out the rest, for a crash of the machine.
    Nothing is optimised meanwhile: the engine's optimiser holds the whole interpreter (19 s for 20,000 points), and no reader or writer
    may pause so long. So searches compare with every vector, unless `optimise` was called while nothing else ran.
    """

    def __init__(self, directory: Path, size: int, storage: Storage = Storage()) -> None:
        self.size = size
        self._directory = directory
        self._shard = _open(directory, size, storage)
        self._turns = Turns()
        self._heads: Lately[str, Head] = Lately(HEADS_KEPT)
        self._belongings: Lately[str, Belonging] = Lately(BELONGINGS_KEPT)

    def heads(self, documents: Sequence[str]) -> dict[str, Head]:
        ids = [head_id(document) for document in documents]
        begun = self._heads.begin()
        found = self._heads.find(ids)
        read = {str(record.id): unpack_head(record.payload) for record in self._retrieve([id for id in ids if id not in found])}
        self._heads.keep(read, begun)
        return {head.document: head for head in (*found.values(), *read.values())}

    def put(self, points: Sequence[Embedded]) -> None:
        # A condition that never holds: what is there already stays.
        begun = self._belongings.begin()
        self._upsert(points, _point, _is("rev", NEVER))
        # Every search finds what is newest: it need not read again whose they are.
        self._belongings.keep({one.point.id: Belonging(one.point.document, one.point.version, one.point.event) for one in points}, begun)

    def flip(self, heads: Sequence[Head]) -> None:
        by_revision: dict[int, list[Head]] = {}
        for head in heads:
            by_revision.setdefault(head.rev - 1, []).append(head)
        with self._heads.changing([head_id(head.document) for head in heads]):
            for revision, alike in by_revision.items():
                self._upsert(alike, _head, _is("rev", revision))

    def supersede(self, points: Mapping[int, Sequence[str]]) -> None:
        for until, ids in points.items():
            chosen = Filter(must=[HasIdCondition(set(ids))], must_not=[_not_later("until", until)])
            self._update(UpdateOperation.set_payload_by_filter(chosen, {"live": 0, "until": until}))

    def delete(self, points: Sequence[str]) -> None:
        with self._heads.changing(points), self._belongings.changing(points):
            self._update(UpdateOperation.delete_points(list(points)))

    def find(self, halves: Sequence[Half], scope: Scope) -> list[list[Found]]:
        asked, small = [half for half in halves if half.asks], self._small()
        found = iter(self._scored([_request(half, scope, small) for half in asked]))
        return [[Found(one.score, one) for one in next(found)] if half.asks else [] for half in halves]

    def belongings(self, ids: Sequence[str]) -> dict[str, Belonging]:
        known, begun = self._belongings.find(ids), self._belongings.begin()
        missing = [id for id in dict.fromkeys(ids) if id not in known]
        records = self._retrieve(missing, payload=PayloadSelector.Include(list(BELONGS)))
        read = {str(record.id): belonging(record.payload or {}) for record in records}
        self._belongings.keep(read, begun)
        return known | read

    def points(self, ids: Sequence[str]) -> dict[str, tuple[Point, Vector]]:
        found = self._retrieve(ids, vectors=[DENSE])
        return {str(record.id): (unpack_point(record.payload), unit(record.vector[DENSE])) for record in found}

    def count(self) -> Count:
        with _answering():
            documents = self._shard.count(CountRequest(True, _only(_is("kind", "head"), _is("deleted", 0))))
            chunks = self._shard.count(CountRequest(True, _only(_is("live", 1))))
            return Count(documents, chunks, self._shard.info().points_count)

    def documents(self, type: str) -> int:
        with _answering():
            return self._shard.count(CountRequest(True, _only(_is("kind", "head"), _is("type", type), _is("deleted", 0))))

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
        return [unpack_point(record.payload or {}) for record in found]

    def save_progress(self, rows: Sequence[Row]) -> None:
        self._upsert(rows, lambda row: EdgePoint(progress_id(row), {}, to_progress(row)))

    def load_progress(self) -> list[Row]:
        with _answering():
            found, _ = self._shard.scroll(ScrollRequest(limit=10_000, filter=_only(_is("kind", "progress")), with_payload=True))
        return of_progress(record.payload for record in found)

    def keep(self, name: str, value: Mapping[str, Any]) -> None:
        self._upsert([value], lambda value: EdgePoint(kept_id(name), {}, to_kept(name, value)))

    def kept(self, name: str) -> dict[str, Any] | None:
        found = self._retrieve([kept_id(name)])
        return of_kept(found[0].payload) if found else None

    def heads_from(self, cursor: str | None, limit: int) -> tuple[list[Head], str | None]:
        found, following = self._scroll("head", cursor, limit)
        return [unpack_head(record.payload) for record in found], following

    def states_from(self, cursor: str | None, limit: int) -> tuple[list[State], str | None]:
        found, following = self._scroll("chunk", cursor, limit)
        return [unpack_state(record.id, record.payload) for record in found], following

    def states(self, ids: Sequence[str]) -> dict[str, State]:
        return {str(record.id): unpack_state(record.id, record.payload) for record in self._retrieve(ids)}

    def purge(self) -> None:
        mark(self._directory)

    def optimise(self) -> None:
        """Merge what was written and build its graphs. Holds the whole interpreter meanwhile: about a second for 1,000 points."""
        with _answering():
            self._shard.optimize()

    def close(self) -> None:
        """Write everything out and unlock the directory."""
        self._shard.flush()
        self._shard.close()

    def _small(self) -> bool:
        count: int = self._shard.info().points_count
        return count < EXACT_BELOW

    def _scored(self, requests: list[QueryRequest]) -> list[list[Any]]:
        with self._turns.search(), _answering():
            found: list[list[Any]] = self._shard.query_batch(QueryBatchRequest(requests)) if requests else []
        return found

    def _retrieve(self, ids: Sequence[str], *, payload: Any = True, vectors: Any = False) -> list[Any]:
        if not ids:
            return []
        with _answering():
            records: list[Any] = self._shard.retrieve(list(ids), payload, vectors)
        return records

    def _scroll(self, kind: str, cursor: str | None, limit: int) -> tuple[list[Any], str | None]:
        with _answering():
            found, following = self._shard.scroll(ScrollRequest(cursor, limit, filter=_only(_is("kind", kind)), with_payload=True))
        return found, None if following is None else str(following)

    def _upsert(self, items: Sequence[T], point: Callable[[T], EdgePoint], *conditions: FieldCondition) -> None:
        """Points are made within the turn: making one lets go of the interpreter some 150 times, once for nearly every value, and each
        time another writer or a search would have taken it."""
        condition = _only(*conditions) if conditions else None
        for start in range(0, len(items), WRITTEN_AT_ONCE):
            with self._turns.write(), _answering():
                points = [point(item) for item in items[start : start + WRITTEN_AT_ONCE]]
                self._shard.update(UpdateOperation.upsert_points(points, condition=condition))

    def _update(self, operation: UpdateOperation) -> None:
        with self._turns.write(), _answering():
            self._shard.update(operation)


def _open(directory: Path, size: int, storage: Storage) -> EdgeShard:
    config = EdgeConfig(
        vectors={DENSE: EdgeVectorParams(size=size, distance=Distance.Cosine, on_disk=storage.on_disk or None)},
        sparse_vectors={SPARSE: EdgeSparseVectorParams(ALWAYS_BY_WORDS, modifier=Modifier.Idf, on_disk=storage.on_disk or None)},
        optimizers=EdgeOptimizersConfig(indexing_threshold=EXACT_BELOW * size * 4 // 1024),
        quantization_config=_quantization(storage.quantization),
        on_disk_payload=storage.on_disk or None,
    )
    with _answering():
        with _opening(directory):
            purged(directory, config)
        if directory.exists() and any(directory.iterdir()):
            shard = _reopen(directory, config)
        else:
            directory.mkdir(parents=True, exist_ok=True)
            shard = EdgeShard.create(str(directory), config)
        known = shard.info().payload_schema
        for names, schema in ((KEYWORDS, PayloadSchemaType.Keyword), (NUMBERS, PayloadSchemaType.Integer)):
            for name in names:
                if name not in known:
                    shard.update(UpdateOperation.create_field_index(name, schema))
        return shard


def _quantization(kind: str) -> Any:
    if kind == "scalar":
        return ScalarQuantizationConfig(ScalarType.Int8, quantile=0.99, always_ram=True)
    return BinaryQuantizationConfig(always_ram=True) if kind == "binary" else None


def _reopen(directory: Path, config: EdgeConfig) -> EdgeShard:
    with _opening(directory):
        return EdgeShard.load(str(directory), config)


@contextlib.contextmanager
def _opening(directory: Path) -> Iterator[None]:
    try:
        yield
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


def _request(half: Half, scope: Scope, small: bool) -> QueryRequest:
    if isinstance(half.by, Sparse):
        query = Query.Nearest(SparseVector(list(half.by.indices), list(half.by.values)), using=SPARSE)
        params = SearchParams(exact=True, idf=IdfParams(corpus=_filter(scope.population)) if small else None)
    else:
        query = Query.Nearest(half.by.tolist(), using=DENSE)
        params = SearchParams(exact=small, hnsw_ef=max(128, half.limit))
    return QueryRequest(half.limit, query=query, filter=_filter(scope), params=params, with_payload=False)


def _point(one: Embedded) -> EdgePoint:
    vectors = {DENSE: one.dense.tolist(), SPARSE: SparseVector(list(one.sparse.indices), list(one.sparse.values))}
    return EdgePoint(one.point.id, vectors, pack_point(one.point))


def _head(head: Head) -> EdgePoint:
    return EdgePoint(head_id(head.document), {}, pack_head(head))


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
