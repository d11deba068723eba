"""The MCP door of a running application: `/mcp` of its HTTP door."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import headwater
from headwater.enrichers.offer import Offer
from headwater.flows.callers import names
from headwater.flows.desk import Desk
from headwater.flows.runtime import Runtime
from headwater.flows.settings import Settings
from headwater.flows.tools import offer

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

PATH = "/mcp"


def mount(app: FastAPI, run: Runtime, desk: Desk) -> None:
    """Serve MCP at `/mcp`, for as long as the application's lifespan lasts. It keeps no sessions: any request may come at any time."""
    offered = offer(lambda: run.retriever, lambda: run.asked_store, desk, run.app.topics, run.clock)
    serve(app, offered, run.app.name, run.settings)


def serve(app: FastAPI, offered: Offer, name: str, settings: Settings) -> None:
    """Serve any offer so, under a name."""
    door = Door(lambda: _made(offered, name, settings))
    # POST alone: we push nothing, so a stream opened by GET would only stand open; 405 says so to clients of 2025.
    app.router.routes.append(Route(PATH, door, methods=["POST"], include_in_schema=False))
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(host: FastAPI) -> AsyncIterator[Any]:
        async with inner(host) as state:
            try:
                yield state
            finally:
                await door.close()

    app.router.lifespan_context = lifespan


def _made(offered: Offer, name: str, settings: Settings) -> "tuple[ASGIApp, StreamableHTTPSessionManager]":
    """What answers requests, and what must run meanwhile."""
    from headwater.enrichers.mcp import server

    served = server(offered, name=name, version=headwater.__version__)
    door = served.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        json_response=True,
        max_request_body_size=settings.http_max_bytes,
        transport_security=allowed(settings),
    )
    [route] = door.routes
    assert isinstance(route, Route)
    return route.endpoint, served.session_manager


class Door:
    """An ASGI application that is made when it is first asked: loading the protocol's library is a fifth of a start, and few ask.

    make   gives the application and the manager that must run for as long as it answers; called in a thread, so that others are served
    """

    def __init__(self, make: "Callable[[], tuple[ASGIApp, StreamableHTTPSessionManager]]") -> None:
        self._make = make
        self._closing = asyncio.Event()
        self._opened: asyncio.Future[ASGIApp] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._opened is None or (self._opened.done() and self._opened.exception() is not None):
            self._opened = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(self._opened))
        answer = await asyncio.shield(self._opened)  # whoever goes away does not close it for the others
        await answer(scope, receive, send)

    async def _keep(self, opened: "asyncio.Future[ASGIApp]") -> None:
        """Run the manager in one task, which enters and leaves it."""
        try:
            answer, manager = await asyncio.to_thread(self._make)
            async with manager.run():
                opened.set_result(answer)
                await self._closing.wait()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def close(self) -> None:
        """End what runs, and wait for it."""
        self._closing.set()
        if self._keeper is not None:
            await self._keeper


def allowed(settings: Settings) -> "TransportSecuritySettings":
    """The door's guard: the names it may be called by (`Host`), and the pages under these names that may call it (`Origin`)."""
    from mcp.server.transport_security import TransportSecuritySettings

    # Everything else is refused, or a page in a browser could reach it under a name of its own (DNS rebinding).
    hosts = names(settings)
    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
