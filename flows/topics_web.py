"""The HTTP door to the topics: what they are, as a list and as an AsyncAPI document."""

from typing import Any, Literal

from fastapi import APIRouter

from headwater.flows.asyncapi import describe_topics
from headwater.flows.runtime import Runtime


def routes(run: Runtime) -> APIRouter:
    """`GET /v1/topics`, `GET /v1/topics?format=asyncapi` and the same at `/asyncapi.json`."""
    router = APIRouter(tags=["process"])

    @router.get("/v1/topics", summary="The application's topics")
    def topics(format: Literal["list", "asyncapi"] = "list") -> Any:
        return document() if format == "asyncapi" else _listed(run)

    @router.get("/asyncapi.json", summary="The application's topics as an AsyncAPI 3.1 document")
    def document() -> dict[str, Any]:
        return describe_topics(run.app, run.settings, run.kafka.address, run.counts)

    return router


def _listed(run: Runtime) -> list[dict[str, Any]]:
    return [
        {
            "name": t.name, "model": t.model.__name__, "key": t.key, "partitions": run.counts[t.name], "lateness": t.lateness,
            "retention": t.retention, "compact": t.compact,
        }
        for t in run.app.topics.values()
    ]  # fmt: skip
