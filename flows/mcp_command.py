"""`headwater mcp`: the MCP door on standard input and output, for clients that start their servers themselves.

The process that runs the application owns its index; so this one holds nothing, and hands every request to that one's `/mcp`. It looks anew
each time where that is: the application may be started again meanwhile, at another address.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import httpx2
import mcp_types as types
from mcp import Client, ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

import headwater
from headwater.flows.door import door
from headwater.flows.settings import Settings
from headwater.lineage.errors import HeadwaterError, Unavailable, problem

GENERATION = "2026-07-28"
"""What is spoken with the application, whatever the client speaks: it needs no greeting, each request stands by itself."""
PATIENCE_S = 60.0
Request = ServerRequestContext[Any, Any]
R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")


def run(settings: Settings) -> None:
    """Serve until standard input ends. Raises Unavailable if nothing runs in the home, or at the address, when it begins."""
    anyio.run(_serve, settings)


async def _serve(settings: Settings) -> None:
    proxy = Proxy(lambda: _address(settings))
    served = await proxy.server()
    async with stdio_server() as (reads, writes):
        await served.run(reads, writes, served.create_initialization_options())


def _address(settings: Settings) -> str:
    found = door(settings)
    if not found.running:
        raise Unavailable(f"no headwater runs in {found.home}; start one with: headwater up, or name one with --url")
    return found.address


class Proxy:
    """A server that hands on what it is asked. `address` gives the application's HTTP address; it raises Unavailable if there is none."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address

    async def server(self) -> Server[Any]:
        """Named and described as the application's own. Raises Unavailable."""
        try:
            told, info = await self._exchange(_introduced)
        except MCPError as error:
            raise Unavailable(f"{self._address()} answers, but not by MCP: {error}; is it a headwater of this version?") from None
        return Server(
            info.name if info else "headwater",
            version=info.version if info else headwater.__version__,
            title=info.title if info else None,
            instructions=told.instructions,
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_completion=self.complete,
        )

    async def list_tools(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return await self._ask(types.ListToolsRequest(params=params), types.ListToolsResult)

    async def call_tool(self, context: Request, params: types.CallToolRequestParams) -> types.CallToolResult:
        """That nothing answers is told to the model, which may try again."""
        try:
            return await self._asked(types.CallToolRequest(params=_bare(params)), types.CallToolResult)
        except HeadwaterError as error:
            text = types.TextContent(type="text", text=f"unavailable: {error}")
            return types.CallToolResult(content=[text], structured_content=problem(error), is_error=True)

    async def list_resources(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        return await self._ask(types.ListResourcesRequest(params=params), types.ListResourcesResult)

    async def list_templates(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
        return await self._ask(types.ListResourceTemplatesRequest(params=params), types.ListResourceTemplatesResult)

    async def read_resource(self, context: Request, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        return await self._ask(types.ReadResourceRequest(params=_bare(params)), types.ReadResourceResult)

    async def list_prompts(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        return await self._ask(types.ListPromptsRequest(params=params), types.ListPromptsResult)

    async def get_prompt(self, context: Request, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        return await self._ask(types.GetPromptRequest(params=_bare(params)), types.GetPromptResult)

    async def complete(self, context: Request, params: types.CompleteRequestParams) -> types.CompleteResult:
        return await self._ask(types.CompleteRequest(params=_bare(params)), types.CompleteResult)

    async def _ask(self, request: Any, answer: type[R]) -> R:
        """Raises MCPError: the application's own, or that nothing answers."""
        try:
            return await self._asked(request, answer)
        except HeadwaterError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error), problem(error)) from None

    async def _asked(self, request: Any, answer: type[R]) -> R:
        """Raises MCPError, Unavailable."""
        return await self._exchange(lambda session: session.send_request(request, answer))

    async def _exchange(self, work: Callable[[ClientSession], Awaitable[T]]) -> T:
        """Raises MCPError, as the application answers; Unavailable if it does not."""
        address = self._address()
        answers: list[T] = []
        refusals: list[MCPError] = []
        try:
            async with (
                httpx2.AsyncClient(timeout=PATIENCE_S) as client,
                Client(streamable_http_client(f"{address}/mcp", http_client=client), mode=GENERATION) as opened,
            ):
                try:
                    answers.append(await work(opened.session))
                except MCPError as error:
                    refusals.append(error)  # raised inside, it would leave as a group of errors
        except BaseExceptionGroup as errors:
            if errors.split(httpx2.TransportError)[1] is not None:
                raise
            raise Unavailable(f"{address} does not answer; is headwater running there?", retry_after=5) from None
        if refusals:
            raise refusals[0]
        return answers[0]


async def _introduced(session: ClientSession) -> tuple[types.DiscoverResult, types.Implementation | None]:
    """What the application says of itself."""
    told = types.DiscoverResult.model_validate(await session.send_discover(GENERATION))
    session.adopt(told)
    return told, session.server_info


def _bare(params: Any) -> Any:
    """What is asked, without what the client says of itself and of its transport."""
    return params.model_copy(update={"meta": None})
