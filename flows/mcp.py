"""The MCP door of a running application: `/mcp` of its HTTP door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route

import headwater
from headwater.enrichers.mcp import server
from headwater.enrichers.offer import Offer
from headwater.flows.desk import Desk
from headwater.flows.runtime import Runtime
from headwater.flows.settings import Settings
from headwater.flows.tools import offer

PATH = "/mcp"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def mount(app: FastAPI, run: Runtime, desk: Desk) -> None:
    """Serve MCP at `/mcp`, for as long as the application's lifespan lasts. It keeps no sessions: any request may come at any time."""
    offered = offer(lambda: run.retriever, lambda: run.store, desk, run.app.topics, run.clock)
    serve(app, offered, run.app.name, run.settings)


def serve(app: FastAPI, offered: Offer, name: str, settings: Settings) -> None:
    """Serve any offer so, under a name."""
    served = server(offered, name=name, version=headwater.__version__)
    door = served.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        json_response=True,
        max_request_body_size=settings.http_max_bytes,
        transport_security=allowed(settings),
    )
    # POST alone: we push nothing, so a stream opened by GET would only stand open; 405 says so to clients of 2025.
    [route] = door.routes
    assert isinstance(route, Route)
    app.router.routes.append(Route(PATH, route.endpoint, methods=["POST"], include_in_schema=False))
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(host: FastAPI) -> AsyncIterator[Any]:
        async with inner(host) as state, served.session_manager.run():
            yield state

    app.router.lifespan_context = lifespan


def allowed(settings: Settings) -> TransportSecuritySettings:
    """Which names the door may be called by (`Host`) and which pages may call it (`Origin`): loopback, what it listens on, what is named.

    Everything else is refused, or a page in a browser could reach it under a name of its own (DNS rebinding).
    """
    listens = () if settings.http_host in ("0.0.0.0", "::", "") else (settings.http_host,)  # noqa: S104
    named = [each.strip() for each in settings.http_names.split(",") if each.strip()]
    names = list(dict.fromkeys(_bracketed(name) for name in (*LOOPBACK, *listens, *named)))
    hosts = [form for name in names for form in (name, f"{name}:*")]
    origins = [f"{scheme}://{form}" for form in hosts for scheme in ("http", "https")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
