"""The HTTP door of reviews: list, show, judge; and a page for it that works without scripts."""

import hashlib
import hmac
import secrets
from base64 import b64encode
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import jinja2
import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from headwater.agents.verdict import LONGEST_REASON
from headwater.flows.callers import called, of_its_own
from headwater.flows.reviews import LONGEST_NAME, Reviews
from headwater.lineage.duration import format_time
from headwater.lineage.errors import Forbidden, HeadwaterError, Invalid, Oversized
from headwater.lineage.reviews import Review, review, reviews
from headwater.lineage.store import Store

AT_MOST = 1000
LONGEST_FORM = 65_536
PAGE = 100
SECOND = 1_000_000


class Answer(BaseModel):
    """A verdict. `choice` takes the place of the decision's choice, in the events that carry it."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["approved", "declined"]
    by: str = Field(min_length=1, max_length=LONGEST_NAME)
    reason: str = Field(default="", max_length=LONGEST_REASON)
    choice: Any = None


def routes(desk: Callable[[], Reviews], store: Callable[[], Store], hosts: Collection[str]) -> APIRouter:
    """`/v1/reviews…` and the page `/reviews`. `hosts`: by which names (`name` or `name:*`) the page and verdicts may be asked for."""
    router = APIRouter(tags=["reviews"])
    signing = secrets.token_bytes(32)

    @router.get("/v1/reviews", summary="Reviews, newest first, and how each ended")
    def listed(
        limit: Annotated[int, Query(ge=1, le=AT_MOST)] = 50, cursor: str | None = None, agent: str | None = None,
        key: str | None = None, reason: str | None = None, state: str | None = None,
    ) -> Response:  # fmt: skip
        found, following = reviews(store(), agent=agent, key=key, reason=reason, state=state, limit=limit, before=cursor)
        return _json({"reviews": found, "cursor": following})

    @router.get("/v1/reviews/{id}", summary="One review: the question, the choice, and what is held back")
    def shown(id: str) -> Response:
        return _json({"review": review(store(), id)})

    @router.post("/v1/reviews/{id}/verdict", status_code=202, summary="Answer a review, once")
    def judge(id: str, body: Answer, request: Request) -> dict[str, Any]:
        _own(request, hosts)
        return desk().judge(id, body.verdict, by=body.by, reason=body.reason, choice=body.choice)

    @router.get("/reviews", response_class=HTMLResponse, include_in_schema=False)
    def page(request: Request, said: str = "") -> HTMLResponse:
        _own(request, hosts, page=True)
        waiting, more = reviews(store(), state="waiting", limit=PAGE)
        left = [each for each in waiting if not desk().given(each.id)]
        return _page(left, signing, said=_SAID.get(said, ""), more=more is not None)

    @router.post("/reviews/{id}", response_class=HTMLResponse, include_in_schema=False)
    async def answered(id: str, request: Request) -> Response:
        _own(request, hosts)
        try:
            form = await _form(request)
            if not hmac.compare_digest(form.get("token", ""), _token(signing, id)):
                raise Forbidden("this form is not of this page, or of one that was restarted since; load the page again")
            answer = Answer.model_validate({name: form[name] for name in ("verdict", "by", "reason") if name in form})
            choice = _choice(form) if answer.verdict == "approved" else None
            await run_in_threadpool(desk().judge, id, answer.verdict, by=answer.by, reason=answer.reason, choice=choice)
        except ValueError:
            return _refused(Invalid("say who you are, and whether you approve or decline"))
        except HeadwaterError as error:
            return _refused(error)
        return RedirectResponse(f"/reviews?said={answer.verdict}", 303)

    return router


_SAID = {"approved": "Approved. What was held back happens now.", "declined": "Declined. Nothing of it happens."}


def _own(request: Request, hosts: Collection[str], *, page: bool = False) -> None:
    """Stricter than the rest of the door: by its names alone, and no page but its own. Raises Forbidden."""
    called(request.headers, hosts)
    if not page:
        of_its_own(request.headers)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises Oversized, Invalid."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            raise Oversized(f"more than {LONGEST_FORM} bytes in a form")
    try:
        return {name: values[-1] for name, values in parse_qs(body.decode(), max_num_fields=20).items()}
    except ValueError:
        raise Invalid("the form cannot be read") from None


def _choice(form: dict[str, str]) -> Any:
    """The choice that the form names: mostly the one it showed. Raises Invalid."""
    text = form.get("choice", "").strip()
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError as error:
        raise Invalid(f"what is to be approved instead is no JSON: {error}") from None


def _token(key: bytes, id: str) -> str:
    return hmac.new(key, id.encode(), hashlib.sha256).hexdigest()


_PAGES = Path(__file__).parent / "pages"
_STYLE = (_PAGES / "reviews.css").read_text()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
}  # fmt: skip
_environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_environment.filters["told"] = lambda value: msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
_environment.filters["moment"] = lambda us: format_time(us // SECOND * SECOND).replace("T", " ").replace("Z", " UTC") if us else ""


def _page(found: list[Review], key: bytes, *, said: str = "", error: str = "", more: bool = False, status: int = 200) -> HTMLResponse:
    tokens = {each.id: _token(key, each.id) for each in found}
    text = _environment.get_template("reviews.html").render(
        reviews=found, tokens=tokens, said=said, error=error, more=more, style=_STYLE, longest_name=LONGEST_NAME, longest=LONGEST_REASON
    )
    return HTMLResponse(text, status, _HEADERS)


def _refused(error: HeadwaterError) -> HTMLResponse:
    return _page([], b"", error=str(error), status=error.status)


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value, enc_hook=str), media_type="application/json")
