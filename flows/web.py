"""The HTTP door of what comes in: events, webhooks, and how the gateways fare."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request

from headwater.flows.desk import Desk
from headwater.flows.gateway import NDJSON, Accepted, ce_headers, idempotency_key, in_trace, media
from headwater.flows.webhook import Webhook, delivered, verify
from headwater.lineage.errors import Invalid, NotFound
from headwater.lineage.event import JSON
from headwater.lineage.select import PRIORITY


def routes(
    desk: Desk,
    webhooks: Mapping[str, tuple[Webhook, bytes | None]],
    status: Callable[[], Sequence[Mapping[str, Any]]],
    clock: Callable[[], int],
) -> APIRouter:
    """`POST /v1/events/{topic}`, `POST /v1/webhooks/{source}`, `GET /v1/gateways`. `webhooks`: name → declaration and secret."""
    router = APIRouter(tags=["events"])

    @router.post("/v1/events/{topic}", status_code=202, summary="Publish events; the answer's token is a freshness token")
    async def publish(topic: str, request: Request) -> dict[str, Any]:
        async with desk.visit(request) as visit:
            door = desk.gateway
            found = door.topic(topic)
            kind = request.headers.get("content-type", JSON)
            if media(kind) == NDJSON:
                body, whole = await visit.beginning()
                if not whole:
                    attributes = ce_headers(request.headers)
                    return await visit.stream(found, body, idempotency_key(request.headers), attributes.get(PRIORITY))
            else:
                body = await visit.body()
            events = door.events(found, body, kind, request.headers)
            if not events:
                raise Invalid(f"no event for {topic} in the request's body; send a JSON object, an array of them, or a line for each")
            return _answer(await visit.publish(found, events))

    @router.post("/v1/webhooks/{source}", status_code=202, summary="What another system calls us with, signed as its webhook declares")
    async def webhook(source: str, request: Request) -> dict[str, Any]:
        async with desk.visit(request) as visit:
            if source not in webhooks:
                raise NotFound(f"no webhook {source!r}; the application declares {', '.join(sorted(webhooks)) or 'none'}")
            hook, key = webhooks[source]
            body = await visit.body()
            verify(hook, key, request.headers, body, clock())
            events = delivered(hook, request.headers, body, clock(), desk.gateway.new_id)
            if not events:
                return {"events": []}
            return _answer(await visit.publish(hook.into, in_trace(events, request.headers), hook.origin, hook.priority))

    @router.get("/v1/gateways", summary="The application's gateways, and how each fares")
    def gateways() -> list[dict[str, Any]]:
        hooks = [{"gateway": hook.origin, "into": hook.into.name, "signed": key is not None} for hook, key in webhooks.values()]
        return [*hooks, *map(dict, status())]

    return router


def _answer(accepted: Sequence[Accepted]) -> dict[str, Any]:
    answers = [{"id": each.event.id, "token": str(each.position)} for each in accepted]
    return answers[0] if len(answers) == 1 else {"events": answers}
