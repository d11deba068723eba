"""One connection to an MCP server, kept open by a task of its own, opened again when it breaks."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import structlog
from mcp import Client, MCPError
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, CallToolResult, RequestParamsMeta, TextContent

from headwater.lineage.errors import EffectFailed, HeadwaterError, Limited, Unavailable

EFFECT_ID = "headwater/effect-id"
"""The entry of a call's `_meta` that carries the effect id."""
_REFUSED = frozenset((INVALID_PARAMS, METHOD_NOT_FOUND))
_PAGES = 100

_log = structlog.get_logger("headwater.mcp")


class Session:
    """Calls of one event loop to one server. `connect` makes a client that is not entered yet; `opened` counts connections."""

    def __init__(self, server: str, connect: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
        self._server, self._connect = server, connect
        self.opened = 0
        self._opening: asyncio.Future[Client] | None = None
        self._done = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def call(self, tool: str, arguments: dict[str, Any], effect: str) -> CallToolResult:
        """The server's result. Raises EffectFailed (refused), Limited (it never left), Unavailable (nobody knows)."""
        client = await self._open()
        try:
            meta = cast(RequestParamsMeta, {EFFECT_ID: effect}) if effect else None
            return await client.call_tool(tool, arguments, meta=meta)
        except MCPError as error:
            if error.code in _REFUSED:
                raise EffectFailed(f"the MCP server {self._server} refuses {tool}: {error}") from error
            self._drop()
            raise Unavailable(f"the MCP server {self._server} fails at {tool}: {error}") from error
        except Exception as error:
            self._drop()
            raise Unavailable(f"the MCP server {self._server} does not answer: {type(error).__name__}: {error}") from error

    async def listing(self) -> dict[str, Any]:
        """Tool → what the server says of it, as JSON. Raises Limited, Unavailable."""
        client = await self._open()
        found: dict[str, Any] = {}
        cursor: str | None = None
        try:
            for _ in range(_PAGES):
                page = await client.list_tools(cursor=cursor)
                found.update({each.name: each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in page.tools})
                cursor = page.next_cursor
                if not cursor:
                    return found
        except Exception as error:
            self._drop()
            raise Unavailable(f"the MCP server {self._server} does not list its tools: {type(error).__name__}: {error}") from error
        raise Unavailable(f"the MCP server {self._server} lists more than {_PAGES} pages of tools")

    async def close(self) -> None:
        """Let the server go; the next call opens it again."""
        task = self._task
        self._drop()
        if task is not None:
            with contextlib.suppress(Exception):
                await task

    async def _open(self) -> Client:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_future()
            self._done = asyncio.Event()
            self._task = asyncio.create_task(self._keep(self._opening, self._done))
        try:
            return await asyncio.shield(self._opening)
        except HeadwaterError:
            self._drop()
            raise

    def _drop(self) -> None:
        self._done.set()
        self._opening = None

    async def _keep(self, opening: "asyncio.Future[Client]", done: asyncio.Event) -> None:
        """Hold the connection: what opens it must be what closes it, and callers come and go."""
        try:
            async with self._connect() as client:
                self.opened += 1
                opening.set_result(client)
                await done.wait()
        except Exception as error:
            if opening.done():
                _log.warning("an MCP server went away", server=self._server, error=f"{type(error).__name__}: {error}")
            else:
                opening.set_exception(Limited(f"the MCP server {self._server} cannot be reached: {_first(error)}"))
                opening.exception()  # looked at, though nobody may wait any more


def answer_of(result: CallToolResult, tool: str, max_bytes: int, secrets: tuple[str, ...], *, acts: bool) -> Any:
    """The result's data: its structure, else its text. Raises EffectFailed if the tool says that it failed, or says too much."""
    said = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    text = json.dumps(result.structured_content, ensure_ascii=False) if result.structured_content is not None else said
    for each in secrets:
        text, said = text.replace(each, "***"), said.replace(each, "***")
    if result.is_error:
        raise EffectFailed(f"{tool} failed: {' '.join(said.split())[:300]}")
    if len(text.encode(errors="replace")) > max_bytes:
        if acts:
            return {"cut": f"more than {max_bytes} bytes"}
        raise EffectFailed(f"{tool} answers more than {max_bytes} bytes; ask for less, or declare max_bytes=")
    return json.loads(text) if result.structured_content is not None else text


@contextlib.asynccontextmanager
async def entered(client: Client, *beside: AbstractAsyncContextManager[Any]) -> AsyncIterator[Client]:
    """The client within what it needs."""
    async with contextlib.AsyncExitStack() as stack:
        for each in beside:
            await stack.enter_async_context(each)
        yield await stack.enter_async_context(client)


def _first(error: BaseException) -> str:
    """What went wrong first: task groups wrap it."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
