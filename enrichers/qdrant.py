"""A Qdrant server or cluster as the index. The client's local mode (`:memory:`) serves tests, at some thousandth of the speed."""

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import httpx
import msgspec
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

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
    state_of,
    to_kept,
    to_progress,
    unit,
)
from headwater.enrichers.sparse import Sparse
from headwater.lineage.errors import HeadwaterError, Misused, Unavailable

PUT_AT_ONCE = 256
BELONGS = ["document", "version", "event"]
BELONGINGS_KEPT = 20_000
"""What the last searches found need not be asked for again."""
SERVER = "v1.20"
"""The server the client belongs to. All guarantees here rest on conditional upserts; an old server passes over the condition."""


class QdrantIndex:
    """An index in one collection, made on first use with its payload indexes. A server that overwrites whatever the condition is refused.

    client      a connected client; `connect` makes one from a URL
    collection  one per application
    size        of the dense vectors; a collection with another size is refused (Misused)
    """

    def __init__(self, client: QdrantClient, collection: str, size: int, storage: Storage = Storage()) -> None:
        self.size = size
        self._storage = storage
        self._client = client
        self._name = collection
        self._belongings: Lately[str, Belonging] = Lately(BELONGINGS_KEPT)
        with answering():
            self._prepare()
            self._prove()

    def heads(self, documents: Sequence[str]) -> dict[str, Head]:
        if not documents:
            return {}
        with answering():
            found = self._client.retrieve(self._name, [head_id(document) for document in documents], with_payload=True)
        heads = [Head.of(record.payload or {}) for record in found]
        return {head.document: head for head in heads}

    def put(self, points: Sequence[Embedded]) -> None:
        # A condition that never holds: what is there already stays.
        for start in range(0, len(points), PUT_AT_ONCE):
            self._upsert([_point(one) for one in points[start : start + PUT_AT_ONCE]], _only(_is("rev", NEVER)))

    def flip(self, heads: Sequence[Head]) -> None:
        by_revision: dict[int, list[models.PointStruct]] = {}
        for head in heads:
            point = models.PointStruct(id=head_id(head.document), vector={}, payload=head.payload())
            by_revision.setdefault(head.rev - 1, []).append(point)
        operations = [
            models.UpsertOperation(upsert=models.PointsList(points=points, update_filter=_only(_is("rev", revision))))
            for revision, points in by_revision.items()
        ]
        with answering():
            self._client.batch_update_points(self._name, operations, wait=True)

    def supersede(self, points: Mapping[int, Sequence[str]]) -> None:
        operations = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload={"live": 0, "until": until},
                    filter=models.Filter(must=[models.HasIdCondition(has_id=list(ids))], must_not=[_not_later("until", until)]),
                )
            )
            for until, ids in points.items()
        ]
        with answering():
            self._client.batch_update_points(self._name, operations, wait=True)

    def delete(self, points: Sequence[str]) -> None:
        with self._belongings.changing(points), answering():
            self._client.delete(self._name, points_selector=list(points), wait=True)

    def find(self, halves: Sequence[Half], scope: Scope) -> list[list[Found]]:
        asked = [half for half in halves if half.asks]
        small, begun = bool(asked) and self._small(), self._belongings.begin()
        with answering():
            requests = [_request(half, scope, small) for half in asked]
            found = self._client.query_batch_points(self._name, requests) if requests else []
        self._belongings.keep({str(one.id): _belonging(one.payload) for each in found for one in each.points}, begun)
        answers = iter([[Found(one.score, one) for one in each.points] for each in found])
        return [next(answers) if half.asks else [] for half in halves]

    def belongings(self, ids: Sequence[str]) -> dict[str, Belonging]:
        known = self._belongings.find(ids)
        if not (missing := [id for id in dict.fromkeys(ids) if id not in known]):
            return known
        with answering():
            read = self._client.retrieve(self._name, missing, with_payload=BELONGS)
        return known | {str(one.id): _belonging(one.payload) for one in read}

    def points(self, ids: Sequence[str]) -> dict[str, tuple[Point, Vector]]:
        if not ids:
            return {}
        with answering():
            found = self._client.retrieve(self._name, list(ids), with_payload=True, with_vectors=[DENSE])
        return {str(one.id): (Point.of(one.payload or {}), unit(_dense(one.vector))) for one in found}

    def count(self) -> Count:
        return Count(self._count(_is("kind", "head"), _is("deleted", 0)), self._count(_is("live", 1)), self._count())

    def documents(self, type: str) -> int:
        return self._count(_is("kind", "head"), _is("type", type), _is("deleted", 0))

    def forgotten(self, at: int) -> int:
        return self._count(models.FieldCondition(key="floor", range=models.Range(gt=at)))

    def floor(self, types: Sequence[str] = ()) -> int:
        heads = _only(_is("kind", "head"), *_of_types(types))
        highest = models.OrderBy(key="floor", direction=models.Direction.DESC)
        with answering():
            found, _ = self._client.scroll(self._name, scroll_filter=heads, limit=1, order_by=highest, with_payload=True)
        return max((int((record.payload or {}).get("floor", 0)) for record in found), default=0)

    def sample(self, scope: Scope, limit: int, field: str | None = None) -> list[Point]:
        there = [] if field is None else [models.FieldCondition(key=Range(field).key, is_empty=False)]
        chosen = _filter(scope, _is("kind", "chunk"), *there)
        with answering():
            found, _ = self._client.scroll(self._name, scroll_filter=chosen, limit=limit, with_payload=True)
        return [Point.of(record.payload or {}) for record in found]

    def save_progress(self, rows: Sequence[Row]) -> None:
        self._upsert([models.PointStruct(id=progress_id(row), vector={}, payload=to_progress(row)) for row in rows], None)

    def load_progress(self) -> list[Row]:
        with answering():
            found, _ = self._client.scroll(self._name, scroll_filter=_only(_is("kind", "progress")), limit=10_000, with_payload=True)
        return of_progress(record.payload for record in found)

    def keep(self, name: str, value: Mapping[str, Any]) -> None:
        self._upsert([models.PointStruct(id=kept_id(name), vector={}, payload=to_kept(name, value))], None)

    def kept(self, name: str) -> dict[str, Any] | None:
        with answering():
            found = self._client.retrieve(self._name, [kept_id(name)], with_payload=True)
        return of_kept(found[0].payload or {}) if found else None

    def heads_from(self, cursor: str | None, limit: int) -> tuple[list[Head], str | None]:
        found, following = self._scroll("head", cursor, limit)
        return [Head.of(record.payload or {}) for record in found], following

    def states_from(self, cursor: str | None, limit: int) -> tuple[list[State], str | None]:
        found, following = self._scroll("chunk", cursor, limit)
        return [state_of(record.id, record.payload or {}) for record in found], following

    def states(self, ids: Sequence[str]) -> dict[str, State]:
        if not ids:
            return {}
        with answering():
            found = self._client.retrieve(self._name, list(ids), with_payload=True)
        return {str(record.id): state_of(record.id, record.payload or {}) for record in found}

    def purge(self) -> None:
        """The server's optimiser and its log see to that."""

    def close(self) -> None:
        self._client.close()

    def _scroll(self, kind: str, cursor: str | None, limit: int) -> tuple[list[models.Record], str | None]:
        with answering():
            found, following = self._client.scroll(
                self._name, scroll_filter=_only(_is("kind", kind)), limit=limit, offset=cursor, with_payload=True
            )
        return found, None if following is None else str(following)

    def _prepare(self) -> None:
        if self._client.collection_exists(self._name):
            vectors = self._client.get_collection(self._name).config.params.vectors
            size = vectors[DENSE].size if isinstance(vectors, dict) and DENSE in vectors else None
            if size != self.size:
                raise Misused(f"collection {self._name} holds vectors of size {size}, not {self.size}; use another collection")
            return
        self._client.create_collection(
            self._name,
            vectors_config={
                DENSE: models.VectorParams(size=self.size, distance=models.Distance.COSINE, on_disk=self._storage.on_disk or None)
            },
            sparse_vectors_config={
                SPARSE: models.SparseVectorParams(
                    modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=True) if self._storage.on_disk else None
                )
            },
            on_disk_payload=self._storage.on_disk or None,
            quantization_config=_quantization(self._storage.quantization),
        )
        for names, schema in ((KEYWORDS, models.PayloadSchemaType.KEYWORD), (NUMBERS, models.PayloadSchemaType.INTEGER)):
            for name in names:
                self._client.create_payload_index(self._name, name, schema, wait=True)

    def _prove(self) -> None:
        """A condition that never holds must leave a point as it is. Raises Misused if it does not. Every proof has its own point."""
        probe = str(uuid.uuid4())
        try:
            for said, condition in (("first", None), ("second", _only(_is("rev", NEVER)))):
                self._upsert([models.PointStruct(id=probe, vector={}, payload={"kind": "probe", "said": said})], condition)
            found = self._client.retrieve(self._name, [probe], with_payload=True)
        finally:
            self._client.delete(self._name, points_selector=[probe], wait=True)
        if not found or (found[0].payload or {}).get("said") != "first":
            raise Misused(f"this Qdrant server overwrites points whatever the condition: headwater needs Qdrant {SERVER} or newer")

    def _small(self) -> bool:
        return self._count() < EXACT_BELOW

    def _count(self, *conditions: Any) -> int:
        with answering():
            return self._client.count(self._name, count_filter=_only(*conditions) if conditions else None, exact=bool(conditions)).count

    def _upsert(self, points: list[models.PointStruct], condition: models.Filter | None) -> None:
        if not points:
            return
        with answering():
            self._client.upsert(self._name, points, wait=True, update_filter=condition)


def client(url: str, api_key: str | None = None, *, grpc_port: int = 0) -> QdrantClient:
    """A client of a server; by gRPC where its port is given."""
    return QdrantClient(url=url, api_key=api_key, timeout=30, prefer_grpc=bool(grpc_port), grpc_port=grpc_port or 6334)


def connect(url: str, collection: str, *, size: int, api_key: str | None = None, grpc_port: int = 0) -> QdrantIndex:
    """The index on a server. Raises Unavailable if it does not answer."""
    return QdrantIndex(client(url, api_key, grpc_port=grpc_port), collection, size)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """The client's errors as ours: Misused what the server refuses, Unavailable what may go through later."""
    try:
        yield
    except (ResponseHandlingException, httpx.HTTPError) as error:
        raise Unavailable(f"Qdrant does not answer: {error}; check HEADWATER_QDRANT__URL and the server", retry_after=5) from error
    except UnexpectedResponse as error:
        if error.status_code is not None and error.status_code < 500 and error.status_code != 429:
            raise Misused(f"Qdrant refused a request: {error}") from error
        raise Unavailable(f"Qdrant failed: {error}", retry_after=5) from error
    except ApiException as error:
        raise Unavailable(f"Qdrant failed: {error}", retry_after=5) from error
    except grpc.RpcError as error:
        raise _of_grpc(error) from error


def _of_grpc(error: grpc.RpcError) -> HeadwaterError:
    code, told = error.code(), error.details()  # every error of a call is a call as well
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.UNIMPLEMENTED):  # fmt: skip
        return Misused(f"Qdrant refused a request: {code.name}: {told}")
    return Unavailable(f"Qdrant does not answer by gRPC: {code.name}: {told}; check HEADWATER_QDRANT__GRPC_PORT", retry_after=5)


def _quantization(kind: str) -> models.ScalarQuantization | models.BinaryQuantization | None:
    if kind == "scalar":
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        return models.ScalarQuantization(scalar=scalar)
    return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)) if kind == "binary" else None


def _request(half: Half, scope: Scope, small: bool) -> models.QueryRequest:
    query: Any
    if isinstance(half.by, Sparse):
        query = models.SparseVector(indices=list(half.by.indices), values=list(half.by.values))
        corpus = models.IdfCorpusParams(corpus=_filter(scope.population)) if small else None
        using, params = SPARSE, models.SearchParams(exact=True, idf=corpus)
    else:
        query = half.by.tolist()
        using, params = DENSE, models.SearchParams(exact=small, hnsw_ef=max(128, half.limit))
    return models.QueryRequest(
        query=query, using=using, filter=_filter(scope), limit=half.limit, params=params, with_payload=BELONGS
    )  # fmt: skip


def _belonging(payload: Mapping[str, Any] | None) -> Belonging:
    return msgspec.convert(payload, Belonging)


def _point(one: Embedded) -> models.PointStruct:
    terms = models.SparseVector(indices=list(one.sparse.indices), values=list(one.sparse.values))
    return models.PointStruct(id=one.point.id, vector={DENSE: one.dense.tolist(), SPARSE: terms}, payload=one.point.payload())


def _dense(vectors: Any) -> list[float]:
    values: list[float] = vectors[DENSE]
    return values


def _is(name: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=name, match=models.MatchValue(value=value))


def _not_later(name: str, time: int) -> models.FieldCondition:
    return models.FieldCondition(key=name, range=models.Range(lte=time))


def _only(*conditions: Any) -> models.Filter:
    return models.Filter(must=list(conditions))


def _of_types(types: Sequence[str]) -> list[Any]:
    return [models.FieldCondition(key="type", match=models.MatchAny(any=list(types)))] if types else []


def _between(one: Range) -> models.FieldCondition:
    kind: Any = models.DatetimeRange if one.of_times else models.Range
    return models.FieldCondition(key=one.key, range=kind(gte=one.gte, gt=one.gt, lte=one.lte, lt=one.lt))


def _filter(scope: Scope, *more: Any) -> models.Filter:
    tags = (models.FieldCondition(key="tags", match=models.MatchAny(any=list(group))) for group in scope.tags)
    must: list[Any] = [*more, *tags, *_of_types(scope.types), *(_between(one) for one in scope.ranges)]
    if scope.at is None:
        return models.Filter(must=[_is("live", 1), *must])
    return models.Filter(must=[*must, _not_later("time", scope.at)], must_not=[_not_later("until", scope.at)])
