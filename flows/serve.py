"""The HTTP door: one FastAPI application over the packages' routers, errors as RFC 9457 problems, loopback unless told otherwise."""

import socket
import threading
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import headwater
import headwater.enrichers.web as enrichers_web
import headwater.flows.agent_routes as agent_routes
import headwater.flows.dead_routes as dead_routes
import headwater.flows.deep as deep
import headwater.flows.docs_page as docs_page
import headwater.flows.erase_routes as erase_routes
import headwater.flows.index_routes as index_routes
import headwater.flows.prune_routes as prune_routes
import headwater.flows.replay_routes as replay_routes
import headwater.flows.review_routes as review_routes
import headwater.flows.topics_web as topics_web
import headwater.flows.web as flows_web
import headwater.lineage.web as lineage_web
from headwater.flows.callers import PROBLEM, Callers, names
from headwater.flows.dead import DeadLetters
from headwater.flows.desk import Desk
from headwater.flows.gateways import Gateways
from headwater.flows.mcp import PATH as MCP
from headwater.flows.mcp import mount as mount_mcp
from headwater.flows.reviews import Reviews
from headwater.flows.runtime import Runtime
from headwater.lineage.errors import HeadwaterError, Retryable, Unavailable, problem


def http_app(run: Runtime, desk: Desk, gateways: Gateways, ready: Callable[[], bool]) -> FastAPI:
    """The application's HTTP interface; OpenAPI at /openapi.json."""
    app = FastAPI(title=f"headwater: {run.app.name}", version=headwater.__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Callers, settings=run.settings, besides=(MCP,))
    app.add_exception_handler(HeadwaterError, _problem)
    app.add_exception_handler(RequestValidationError, _misuse)
    app.add_exception_handler(HTTPException, _refusal)
    app.add_exception_handler(Exception, _fault)
    app.include_router(flows_web.routes(desk, gateways.webhooks, gateways.status, run.clock))
    app.include_router(enrichers_web.routes(lambda: run.retriever))
    lineage = lineage_web.routes(lambda: run.asked_store, app=run.app.name, kept=run.home, deep=lambda: deep.whole(deep.deep_verdict(run)))
    app.include_router(lineage)
    app.include_router(deep.routes(lambda: run))
    app.include_router(erase_routes.routes(lambda: run))
    app.include_router(prune_routes.routes(lambda: run.asked_store, run.settings, run.clock))
    app.include_router(replay_routes.routes(lambda: run.asked_store, run.clock))
    app.include_router(index_routes.routes(lambda: run))
    app.include_router(agent_routes.routes(lambda: run))
    dead = DeadLetters(run)
    app.include_router(dead_routes.routes(lambda: dead, lambda: run.asked_store, run.clock))
    reviews = Reviews(run)
    app.include_router(review_routes.routes(lambda: reviews, lambda: run.asked_store, names(run.settings)))

    # These two wait for nothing and answer on the loop itself: the threads that other requests run on may all wait for a dead broker.
    @app.get("/healthz", tags=["process"], summary="The process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "broker": run.broker, "app": run.app.name}

    @app.get("/readyz", tags=["process"], summary="All flows run, and the broker answers")
    async def readyz() -> JSONResponse:
        there, partitions = ready(), run.partitions
        told = {"ready": there, "broker_answers": partitions.answered, "counts": run.meter.counts(), "partitions": partitions.told()}
        return JSONResponse(told, 200 if there else 503)

    app.include_router(topics_web.routes(run))
    docs_page.mount(app)
    mount_mcp(app, run, desk)
    return app


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HeadwaterError)
    headers = {}
    if isinstance(error, Retryable):
        headers["Retry-After"] = str(max(1, round(float(error.details.get("retry_after", 1)))))
    return JSONResponse(problem(error), error.status, headers, media_type=PROBLEM)


async def _misuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())
    body = {"type": "urn:headwater:misused", "title": "the request is malformed", "status": 422, "detail": told}
    return JSONResponse(body, 422, media_type=PROBLEM)


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: no such path, no such method."""
    assert isinstance(error, HTTPException)
    told = f"{request.method} {request.url.path}: {error.detail}; what there is stands in /openapi.json"
    body = {"type": "about:blank", "title": error.detail, "status": error.status_code, "detail": told}
    return JSONResponse(body, error.status_code, error.headers, media_type=PROBLEM)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    """A defect of ours; the server logs the traceback."""
    told = f"{request.method} {request.url.path} failed: {type(error).__name__}; the log has the rest"
    body = {"type": "urn:headwater:failed", "title": "failed", "status": 500, "detail": told}
    return JSONResponse(body, 500, media_type=PROBLEM)


class Server:
    """uvicorn in a thread, at a place on a host that was taken before (see `listening`); `address` is where it answers once started."""

    def __init__(self, app: FastAPI, host: str, place: socket.socket) -> None:
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([place],), name="http", daemon=True)
        known = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104
        self.address = f"http://{known}:{place.getsockname()[1]}"

    def start(self) -> None:
        """Raises Unavailable when it ends at once; what uvicorn says of it stands in the log."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise Unavailable(f"the HTTP server at {self.address} ended at once; its log says why")
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
