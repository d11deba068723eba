"""The retrieval API: search, and documents with their versions."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import pydantic
from fastapi import APIRouter, Query, Response

from headwater.enrichers.document import Field
from headwater.enrichers.retrieve import Answer, Retriever
from headwater.lineage.duration import duration, parse_time
from headwater.lineage.errors import Misused
from headwater.lineage.event import Position


class Search(pydantic.BaseModel):
    """What a search asks for. `as_of` is RFC 3339, `max_staleness` and `wait` durations such as "2s", `after` freshness tokens."""

    model_config = pydantic.ConfigDict(extra="forbid")

    text: str
    limit: int = 10
    where: dict[str, Field | list[Field]] = {}
    types: list[str] = []
    after: list[str] = []
    wait: str = "5s"
    max_staleness: str | None = None
    as_of: str | None = None


def routes(retriever: Callable[[], Retriever]) -> APIRouter:
    """`GET|POST /v1/search` and `GET /v1/documents/{id}`. HeadwaterErrors pass through; the server turns them into problems."""
    router = APIRouter(tags=["retrieval"])

    @router.post("/v1/search", summary="Search")
    def post_search(body: Search) -> Response:
        return _json(answer(retriever(), body))

    @router.get("/v1/search", summary="Search")
    def get_search(
        q: str = "",
        text: str = "",
        limit: int = 10,
        where: Annotated[list[str], Query(description="FIELD=VALUE, of one field any")] = [],  # noqa: B006
        type: Annotated[list[str], Query()] = [],  # noqa: B006
        after: Annotated[list[str], Query(description="freshness token")] = [],  # noqa: B006
        wait: str = "5s",
        max_staleness: str | None = None,
        as_of: str | None = None,
    ) -> Response:
        search = Search(text=q or text, limit=limit, where=conditions(where), types=type, after=after, wait=wait)
        search.max_staleness, search.as_of = max_staleness, as_of
        return _json(answer(retriever(), search))

    @router.get("/v1/documents/{id:path}", summary="A document with its versions")
    def get_document(id: str) -> Response:
        return _json(retriever().document(id))

    return router


def answer(retriever: Retriever, search: Search) -> Answer:
    """Carry out a search as it comes from outside. Raises Misused and what Retriever.search raises."""
    return retriever.search(
        search.text,
        limit=search.limit,
        where=search.where,
        after=[Position.parse(token) for token in search.after],
        wait_s=duration(search.wait) / 1e6,
        max_staleness=search.max_staleness,
        as_of=None if search.as_of is None else instant(search.as_of),
        types=search.types or None,
    )


def instant(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 instant. Raises Misused."""
    try:
        return parse_time(text)
    except ValueError:
        raise Misused(f"as_of={text!r} is no instant; write it as in 2013-02-08T11:02:00Z") from None


def conditions(pairs: Sequence[str]) -> dict[str, Field | list[Field]]:
    """`FIELD=VALUE` conditions. A value that reads as a number, true, false or null matches both as such and as text. Raises Misused."""
    found: dict[str, Field | list[Field]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Misused(f"where={pair!r} is no condition; write FIELD=VALUE")
        known = found.get(name, [])
        found[name] = [*(known if isinstance(known, list) else [known]), value, *_typed(value)]
    return found


def _typed(text: str) -> list[Field]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return []
    return [value] if value is None or isinstance(value, (bool, int, float)) else []


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
