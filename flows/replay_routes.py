"""The HTTP door of cases: what a decision was made of, to be decided again elsewhere."""

from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Response

from headwater.agents.case import case_of, decided_since
from headwater.flows.dead_routes import moment
from headwater.lineage.verify import Source


def routes(store: Callable[[], Source], clock: Callable[[], int]) -> APIRouter:
    """`/v1/decisions/{id}/case` and `/v1/cases`."""
    router = APIRouter(tags=["decisions"])

    @router.get("/v1/decisions/{id}/case", summary="What a decision was made of: what woke its agent, what it saw, its answer")
    def one(id: str) -> Response:
        return Response(msgspec.json.encode(case_of(store(), id), enc_hook=str), media_type="application/json")

    @router.get("/v1/cases", summary="Ids of decisions, in event-time order, of an agent and since an event time")
    def many(agent: str | None = None, since: str | None = None) -> Response:
        ids = decided_since(store(), agent=agent, since=moment(since, clock()))
        return Response(msgspec.json.encode({"decisions": ids}), media_type="application/json")

    return router
