"""`POST /v1/prune`: the policy of retention, applied when it is asked for."""

from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from headwater.flows.ageing import prune
from headwater.flows.settings import Settings
from headwater.lineage.store import Store


class Prune(BaseModel):
    """Who asks. Without `dry_run: false` nothing is done."""

    by: str = Field(default="http", min_length=1, max_length=200)
    dry_run: bool = True


def routes(store: Callable[[], Store], settings: Settings, clock: Callable[[], int]) -> APIRouter:
    """The one route."""
    router = APIRouter(tags=["lineage"])

    @router.post("/v1/prune", summary="Remove what is older than the settings keep; by default only tell what that is")
    def pruned(body: Prune) -> Response:
        told = prune(store(), settings, clock(), by=body.by, why="asked for", dry_run=body.dry_run)
        return Response(msgspec.json.encode(told), media_type="application/json")

    return router
