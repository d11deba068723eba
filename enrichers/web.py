"""The retrieval API: search, several searches at once, and documents with their versions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import pydantic
from fastapi import APIRouter, Query, Response

import headwater.enrichers.query as query
from headwater.enrichers.hit import Answer
from headwater.enrichers.pairs import Conditions as Conditions
from headwater.enrichers.pairs import conditions as conditions
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.threads import Threads
from headwater.lineage.duration import duration, parse_time
from headwater.lineage.errors import IndexFailed, Misused
from headwater.lineage.event import Position


class Asked(pydantic.BaseModel):
    """What one search looks for. `recency` is a half-life such as "6h"; a range in `where` is `{"gte": 30}`."""

    model_config = pydantic.ConfigDict(extra="forbid")

    text: str
    limit: int = 10
    where: Conditions = {}
    types: list[str] = []
    mode: str = "hybrid"
    recency: str | None = None
    rerank: bool | None = None
    group_by: str | None = None
    per_document: int = 1
    neighbours: int = 0

    @property
    def query(self) -> query.Query:
        """As the one read path takes it. Raises Misused."""
        return query.Query(**{name: getattr(self, name) for name in Asked.model_fields})


class Demands(pydantic.BaseModel):
    """How fresh an answer must be. `as_of` is RFC 3339, `max_staleness` and `wait` durations such as "2s", `after` freshness tokens."""

    model_config = pydantic.ConfigDict(extra="forbid")

    after: list[str] = []
    wait: str = "5s"
    max_staleness: str | None = None
    as_of: str | None = None
    partial: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """As the one read path takes them. Raises Misused."""
        return {
            "after": [Position.parse(token) for token in self.after], "wait_s": duration(self.wait) / 1e6,
            "max_staleness": self.max_staleness, "as_of": None if self.as_of is None else instant(self.as_of),
            "strict": True, "partial": self.partial,
        }  # fmt: skip

    @property
    def waits(self) -> bool:
        """Whether the answer may have to be waited for."""
        return bool(self.after) or self.max_staleness is not None


class Search(Asked, Demands):
    """One search: what it looks for, and how fresh the answer must be."""


class Batch(Demands):
    """Several searches of one state of the index, and how fresh it must be for all of them."""

    searches: list[Asked]


class Reading:
    """Threads for those who read: searches that may have to wait for the index take none from those that are answered at once, and
    nobody else who waits, such as publishers for their broker, takes any from either."""

    def __init__(self, at_once: Threads | None = None, waiting: Threads | None = None) -> None:
        self._at_once, self._waiting = at_once or Threads(), waiting or Threads(64, 256)

    async def run(self, work: Callable[[], Any], *, waits: bool = False) -> Response:
        """What the work gives, as JSON. Raises Unavailable if too many wait already, and what the work raises."""
        return await (self._waiting if waits else self._at_once).run(lambda: _json(work()))


def routes(retriever: Callable[[], Retriever], reading: Reading | None = None) -> APIRouter:
    """`GET|POST /v1/search`, `POST /v1/search/batch`, `GET /v1/documents/{id}`. HeadwaterErrors pass through; the server turns them
    into problems."""
    router, reading = APIRouter(tags=["retrieval"]), reading or Reading()

    @router.post("/v1/search", summary="Search")
    async def post_search(body: Search) -> Response:
        return await reading.run(lambda: answer(retriever(), body), waits=body.waits)

    @router.post("/v1/search/batch", summary="Several searches of one state of the index")
    async def post_batch(body: Batch) -> Response:
        return await reading.run(lambda: answers(retriever(), body), waits=body.waits)

    @router.get("/v1/search", summary="Search")
    async def get_search(
        q: str = "",
        text: str = "",
        limit: int = 10,
        where: Annotated[list[str], Query(description="FIELD=VALUE, of one field any; FIELD>=NUMBER, FIELD<TIME")] = [],  # noqa: B006
        type: Annotated[list[str], Query()] = [],  # noqa: B006
        after: Annotated[list[str], Query(description="freshness token")] = [],  # noqa: B006
        wait: str = "5s",
        max_staleness: str | None = None,
        as_of: str | None = None,
        partial: bool = False,
        mode: str = "hybrid",
        recency: str | None = None,
        rerank: bool | None = None,
        group_by: str | None = None,
        per_document: int = 1,
        neighbours: int = 0,
    ) -> Response:
        search = Search(
            text=q or text, limit=limit, where=conditions(where), types=type, after=after, wait=wait, max_staleness=max_staleness,
            as_of=as_of, partial=partial, mode=mode, recency=recency, rerank=rerank, group_by=group_by, per_document=per_document,
            neighbours=neighbours,
        )  # fmt: skip
        return await reading.run(lambda: answer(retriever(), search), waits=search.waits)

    @router.get("/v1/documents/{id:path}", summary="A document with its versions, newest first")
    async def get_document(
        id: str, limit: int | None = None, cursor: Annotated[str | None, Query(description="`next` of the page before")] = None
    ) -> Response:
        return await reading.run(lambda: retriever().document(id, limit=limit, cursor=cursor))

    return router


def answer(retriever: Retriever, search: Search) -> Answer:
    """Carry out a search as it comes from outside. Raises Misused and what Retriever.batch raises."""
    [found] = _batch(retriever, [search.query], search.options)
    return found


def answers(retriever: Retriever, batch: Batch) -> dict[str, Any]:
    """Carry out several: `answers` in the order asked, each with its results, and once what holds for all. Raises as `answer` does."""
    found = _batch(retriever, [asked.query for asked in batch.searches], batch.options)
    first = found[0]
    return {
        "answers": [{"results": each.results} for each in found], "as_of": first.as_of, "broker": first.broker,
        "staleness_ms": first.staleness_ms, "too_new": first.too_new, "retrying": first.retrying,
    }  # fmt: skip


def _batch(retriever: Retriever, queries: Sequence[query.Query], options: Mapping[str, Any]) -> list[Answer]:
    try:
        return retriever.batch(queries, **options)
    except IndexFailed as error:  # of a document it would be a dead letter; here the text is the caller's
        raise Misused(f"this text cannot be searched for: {error}") from error


def instant(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 instant. Raises Misused."""
    try:
        return parse_time(text)
    except ValueError:
        raise Misused(f"as_of={text!r} is no instant; write it as in 2013-02-08T11:02:00Z") from None


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
