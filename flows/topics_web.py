"""The HTTP door to the topics: what they are, as a list and as an AsyncAPI document."""

from typing import Any, Literal

from fastapi import APIRouter

from headwater.flows.asyncapi import asyncapi
from headwater.flows.runtime import Runtime


def routes(run: Runtime) -> APIRouter:
    """`GET /v1/topics`, `GET /v1/topics?format=asyncapi` and the same at `/asyncapi.json`."""
    router = APIRouter(tags=["process"])

    @router.get("/v1/topics", summary="The application's topics")
    def topics(format: Literal["list", "asyncapi"] = "list") -> Any:
        return document() if format == "asyncapi" else _listed(run)

    @router.get("/asyncapi.json", summary="The application's topics as an AsyncAPI 3.1 document")
    def document() -> dict[str, Any]:
        kafka = run.settings.kafka
        return asyncapi(
            run.app, run.kafka.address, protocol=kafka.get("security.protocol", "plaintext"), registry=run.settings.registry_url,
            mechanism=kafka.get("sasl.mechanism", kafka.get("sasl.mechanisms", "")), partitions=run.counts,
        )  # fmt: skip

    return router


def _listed(run: Runtime) -> list[dict[str, Any]]:
    return [
        {
            "name": t.name, "model": t.model.__name__, "key": t.key, "partitions": run.counts[t.name], "lateness": t.lateness,
            "retention": t.retention, "compact": t.compact,
        }
        for t in run.app.topics.values()
    ]  # fmt: skip
