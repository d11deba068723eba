"""The HTTP door of erasing. HeadwaterErrors propagate: the server makes problems of them."""

from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from headwater.flows.erasing import erase
from headwater.flows.runtime import Runtime


class Erase(BaseModel):
    """Whose texts go, who asks for it and why. Without `dry_run: false` nothing is done."""

    subject: str = Field(min_length=1, max_length=1000)
    by: str = Field(min_length=1, max_length=200)
    why: str = Field(max_length=2000)
    dry_run: bool = True


def routes(run: Callable[[], Runtime]) -> APIRouter:
    """`POST /v1/erase`."""
    router = APIRouter(tags=["lineage"])

    @router.post("/v1/erase", summary="Erase a subject's texts from index and lineage; by default only tell what would go")
    def erased(body: Erase) -> Response:
        here = run()
        index = here.index if here.indexes else None
        done = erase(
            here.store, index, here.vectors, body.subject, by=body.by, why=body.why, clock=here.clock, dry_run=body.dry_run
        )  # fmt: skip
        return Response(msgspec.json.encode(done), media_type="application/json")

    return router
