"""The HTTP door of dead letters: list, show, redrive, drop. HeadwaterErrors propagate: the server makes problems of them."""

import base64
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from headwater.flows.attempt import OURS
from headwater.flows.dead import AT_MOST, DeadLetters
from headwater.lineage.dead import Which, letter, letters
from headwater.lineage.duration import duration, parse_time
from headwater.lineage.errors import Misused
from headwater.lineage.event import Message
from headwater.lineage.store import Store
from headwater.lineage.why import why

SHOWN_BYTES = 100_000
"""Of an original value this much is shown."""


class Filters(BaseModel):
    """Which dead letters: ids or their beginnings, or filters, or both. `since`: a duration back from now, or RFC 3339."""

    ids: list[str] = Field(default=[], max_length=AT_MOST)
    cause: str | None = None
    topic: str | None = None
    flow: str | None = None
    event: str | None = None
    since: str | None = None
    by: str = Field(default="http", max_length=200)
    dry_run: bool = False


class Drop(Filters):
    """The same, and why."""

    reason: str = Field(max_length=2000)


def routes(dead: Callable[[], DeadLetters], store: Callable[[], Store], clock: Callable[[], int]) -> APIRouter:
    """`/v1/dead…`. `clock` gives µs since 1970."""
    router = APIRouter(tags=["dead letters"])

    @router.get("/v1/dead", summary="Dead letters, newest first")
    def listed(
        limit: Annotated[int, Query(ge=1, le=AT_MOST)] = 50, cursor: str | None = None, cause: str | None = None, topic: str | None = None,
        flow: str | None = None, state: str | None = None, event: str | None = None, since: str | None = None,
        id: Annotated[list[str] | None, Query()] = None,
    ) -> Response:  # fmt: skip
        which = Which(ids=tuple(id or ()), cause=cause, topic=topic, flow=flow, state=state, event=event, since=moment(since, clock()))
        found, following = letters(store(), which, limit=limit, before=cursor)
        return _json({"dead_letters": found, "cursor": following})

    @router.get("/v1/dead/{id}", summary="One dead letter: headers, original bytes, and the history of its event")
    def shown(id: str) -> Response:
        found = letter(store(), id)
        message = dead().message(found)
        told = {"dead_letter": found, "message": original(message) if message else None}
        return _json({**told, "lives": why(store(), found.id).lives})

    @router.post("/v1/dead/redrive", summary="Send dead letters again, each once; dry_run: say what would happen")
    def redrive(body: Filters) -> Response:
        return _json(dead().redrive(_which(body, clock()), by=body.by, dry_run=body.dry_run))

    @router.post("/v1/dead/drop", summary="Give dead letters up, for a reason that is recorded")
    def drop(body: Drop) -> Response:
        return _json(dead().drop(_which(body, clock()), by=body.by, reason=body.reason, dry_run=body.dry_run))

    return router


def moment(since: str | None, now: int) -> int | None:
    """µs since 1970 of `"2h"` (ago) or an RFC 3339 instant. Raises Misused."""
    if since is None:
        return None
    try:
        return parse_time(since)
    except ValueError:
        pass
    try:
        return now - duration(since)
    except Misused:
        raise Misused(f'since {since!r} is neither a duration such as "2h" nor a time such as 2013-02-08T12:00:00Z') from None


def original(message: Message) -> dict[str, Any]:
    """A dead letter's message for eyes: texts where the bytes are texts, else base64; what is long is cut and says so."""
    value = message.value
    shown = None if value is None else _text(value[:SHOWN_BYTES])
    headers = [{"name": name, **(_text(raw) if raw is not None else {"text": None})} for name, raw in message.headers]
    return {
        "key": None if message.key is None else _text(message.key[:SHOWN_BYTES]),
        "value": shown, "bytes": None if value is None else len(value), "cut": value is not None and len(value) > SHOWN_BYTES,
        "headers": [header for header in headers if header["name"] not in OURS],
        "told": [header for header in headers if header["name"] in OURS],
    }  # fmt: skip


def _text(raw: bytes) -> dict[str, str]:
    try:
        return {"text": bytes(raw).decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _which(body: Filters, now: int) -> Which:
    """Closed ones are passed over, unless they are named: then it is said that they are closed."""
    state = None if body.ids else "waiting"
    filters = {"cause": body.cause, "topic": body.topic, "flow": body.flow, "event": body.event}
    return Which(ids=tuple(body.ids), **filters, state=state, since=moment(body.since, now))


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value, enc_hook=str), media_type="application/json")
