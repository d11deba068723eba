"""The HTTP door of the index: its state, a rebuild, a check. Long answers are lines of JSON that tell how far it is."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import anyio
import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.types import Receive, Scope, Send

from headwater.flows.check import check
from headwater.flows.index_status import status_of
from headwater.flows.runtime import Runtime
from headwater.lineage.errors import HeadwaterError


class RebuildAsked(BaseModel):
    """`dry_run`: only say what would be done; `accept_refused`: leave out events that the application refuses."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False
    accept_refused: bool = False


class CheckAsked(BaseModel):
    """`repair`: mend what is found."""

    model_config = ConfigDict(extra="forbid")

    repair: bool = False


def routes(run: Callable[[], Runtime]) -> APIRouter:
    """`/v1/index…`."""
    router = APIRouter(tags=["index"])

    @router.get("/v1/index", summary="How much the index holds, of which making, and what changed since")
    def state() -> Response:
        return Response(msgspec.json.encode(status_of(run())), media_type="application/json")

    @router.post("/v1/index/rebuild", summary="Make the index anew beside the one that answers: lines of JSON, how far it is, then the end")
    def rebuild(body: RebuildAsked) -> Response:
        if body.dry_run:
            return Response(msgspec.json.encode({"plan": run().rebuild.plan()}), media_type="application/json")
        return _Streamed(run().rebuild.steps(body.accept_refused))

    @router.post("/v1/index/check", summary="Compare the index with the topics: lines of JSON, how far it is, then the findings")
    def checked(body: CheckAsked) -> Response:
        return _Streamed(check(run(), repair=body.repair))

    return router


class _Streamed(StreamingResponse):
    """Steps, told in lines. A caller who goes away ends them: what they hold, nobody else could have until the next start."""

    def __init__(self, steps: Generator[Any, None, Any]) -> None:
        super().__init__(_lines(steps), media_type="application/x-ndjson")
        self._steps = steps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # the step under way has ended: threads are not left behind
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._steps.close)


def _lines(steps: Generator[Any, None, Any]) -> Iterator[bytes]:
    while True:
        try:
            step = next(steps)
            yield msgspec.json.encode({"done": step.done, "of": step.of, "what": step.what}) + b"\n"
        except StopIteration as end:
            yield msgspec.json.encode({"end": end.value}) + b"\n"
            return
        except HeadwaterError as error:
            yield msgspec.json.encode({"error": str(error), "cause": error.cause}) + b"\n"
            return
