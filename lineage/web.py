"""The HTTP door of lineage: SQL for analysts, decisions, why, verify. HeadwaterErrors propagate: the server makes problems of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel

from headwater.lineage.answering import ARROW
from headwater.lineage.answering import answer as answer_stream
from headwater.lineage.ask import QUESTIONS, ask
from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.limits import TIME_LIMIT_S
from headwater.lineage.proof import prove
from headwater.lineage.prov import prov_of
from headwater.lineage.queries import decisions
from headwater.lineage.seen import Why
from headwater.lineage.show import frame_html, home_html, why_html
from headwater.lineage.store import Store
from headwater.lineage.verify import Verdict, verify
from headwater.lineage.why import why


class SqlQuery(BaseModel):
    """One SELECT over lineage. The answer has no limit on rows, for it is a stream; the time limit is the server's."""

    query: str


def routes(
    store: Callable[[], Store], *, app: str = "headwater", time_limit_s: float = TIME_LIMIT_S,
    deep: Callable[[], Verdict] | None = None, kept: Path | None = None,
) -> APIRouter:  # fmt: skip
    """The lineage routes over the store that the audit flow writes; every request reads through a cursor of its own.

    `deep` reads the topics again, where there is a broker to read them from; `kept` is where signed heads of the chain are.
    """
    router = APIRouter(tags=["lineage"])

    @router.get("/", include_in_schema=False)
    def home() -> HTMLResponse:
        """What the flows have done so far, for people."""
        return HTMLResponse(home_html(store(), app))

    @router.post("/v1/sql", response_class=StreamingResponse, responses={200: {"content": {ARROW: {}}}})
    async def sql(body: SqlQuery, request: Request) -> StreamingResponse:
        """One SELECT, read-only, answered as an Arrow IPC stream beside the running audit flow; it ends with who asked."""
        return await answer_stream(request, store(), body.query, time_limit_s)

    @router.get("/v1/decisions")
    def list_decisions(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50, agent: str | None = None, key: str | None = None, outcome: str | None = None
    ) -> Response:
        """The newest decisions, filtered by agent, key, outcome."""
        frame = decisions(store(), limit=limit, agent=agent, key=key, outcome=outcome)
        return _json({"decisions": frame.to_dicts()})

    @router.get("/v1/decisions/{id}")
    @router.get("/v1/decisions/{id}/why")
    def one_decision(id: str) -> Response:
        """A decision with all it came from and led to."""
        return _json(_decision(store(), id).decisions[0])

    @router.get("/decisions/{id}", include_in_schema=False)
    def page_of_decision(id: str) -> HTMLResponse:
        """The same for people: its path as a picture, evidence, steps, rulings, reviewer."""
        return HTMLResponse(why_html(_decision(store(), id)))

    @router.get("/v1/decisions/{id}/prov")
    def provenance(id: str) -> Response:
        """The decisions on a path as a W3C PROV-JSON document."""
        return _json(prov_of(why(store(), id)))

    @router.get("/v1/why/{id:path}")
    def path_of(id: str, format: Literal["json", "html"] = "json") -> Response:
        """The path of any id; `?format=html` for a page to keep or to send."""
        found = why(store(), id)
        return HTMLResponse(why_html(found)) if format == "html" else _json(found)

    @router.get("/v1/ask")
    def list_questions() -> Response:
        """The named questions, what each takes and answers."""
        return _json({"questions": [{"name": q.name, "takes": q.takes, "about": q.about} for q in QUESTIONS.values()]})

    @router.get("/v1/ask/{question}")
    def answer(
        question: str, id: Annotated[list[str] | None, Query()] = None, format: Literal["json", "html", "arrow"] = "json"
    ) -> Response:
        """A named question (`GET /v1/ask` lists them); give `id` as often as it takes ids."""
        frame = ask(store(), question, *(id or ()))
        if format == "arrow":
            return Response(_arrow(frame.to_arrow()), media_type=ARROW)
        if format == "html":
            return HTMLResponse(frame_html(frame, " ".join((question, *(id or ())))))
        return _json({"question": question, "rows": frame.to_dicts()})

    @router.get("/v1/verify")
    def verdict(in_flight_ok: bool = True, deep_too: Annotated[bool, Query(alias="deep")] = False) -> Response:
        """Laws 1 and 8 over what has landed; by default positions without an outcome count as on their way. `deep`: the topics as well."""
        if deep_too:
            if deep is None:
                raise Misused("no broker is known here, so the topics cannot be read again")
            return _json(deep())
        if kept is None:
            return _json(verify(store(), in_flight_ok=in_flight_ok))
        return _json(prove(store(), kept, in_flight_ok=in_flight_ok))

    return router


def _decision(source: Store, id: str) -> Why:
    """The path of a decision. Raises NotFound, also for the id of something else."""
    found = why(source, id)
    if found.kind != "decision":
        raise NotFound(f"{id} is a {found.kind}, no decision; ask /v1/why/{id}")
    return found


def _arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value, enc_hook=str), media_type="application/json")
