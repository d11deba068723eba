"""The MCP server: an offer served by the Model Context Protocol, of 2026-07-28 and of 2025, with one answer to both.

What a tool refuses is told to the model as the tool's answer (`isError`, with the problem), never as an error of the protocol: so it can
mend its call. What cannot be read or written for other reasons (an unknown address, an unknown prompt) is an error of the protocol.
"""

import inspect
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import mcp_types as types
import msgspec
import pydantic
import structlog
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from headwater.enrichers.bounded import bounded
from headwater.enrichers.offer import Listed, Offer, Prompt, Shelf, Told, Tool
from headwater.enrichers.threads import Threads
from headwater.lineage.errors import HeadwaterError, Misused, NotFound, Retryable, problem

_log = structlog.get_logger("headwater.mcp")

ADDRESS = "headwater://"
PAGE = 50
"""Entries of one page of `resources/list`."""
DEEPEST = 200
"""Entries of one kind that the list goes through: it is to pick from; what there is besides, the tools find."""
STEADY = CacheHint(ttl_ms=300_000, scope="public")
"""What stays as it is while the application runs."""

Request = ServerRequestContext[Any, Any]

_NEXT: Mapping[str, str] = {
    "behind": "Call again after `retry_after` seconds, or leave out `after` and `max_staleness` to take what is there.",
    "gone": "Tokens of an earlier life of the broker are void: leave it out, or publish the event again and use its new token.",
    "forgotten": "Ask for a later `as_of`, or for what is left of that time with `partial`.",
    "dead_lettered": "Waiting will not help: `why` with the position tells what went wrong; search without this token.",
    "not_found": "Find ids with `search` or in the list of resources; what was published a moment ago may need a second to land.",
    "misused": "Mend the arguments and call again.",
    "invalid": "Mend the data and call again; nothing was published.",
    "conflict": "Give the event an id of its own, or leave `id` out.",
    "oversized": "Send less at once; nothing was published.",
}


def server(offer: Offer, *, name: str, version: str, threads: Threads | None = None) -> Server[Any]:
    """A server of the offer; it speaks over whatever transport it is put on."""
    served = _Served(offer, threads or Threads())
    return Server(
        name,
        version=version,
        title=f"headwater: {name}",
        instructions=offer.about,
        cache_hints={"tools/list": STEADY, "prompts/list": STEADY, "resources/templates/list": STEADY},
        get_tool_input_schema=served.input_schema,
        on_list_tools=served.list_tools,
        on_call_tool=served.call_tool,
        on_list_resources=served.list_resources,
        on_list_resource_templates=served.list_templates,
        on_read_resource=served.read_resource,
        on_list_prompts=served.list_prompts,
        on_get_prompt=served.get_prompt,
        on_completion=served.complete,
    )


class _Served:
    """An offer behind the handlers of the protocol."""

    def __init__(self, offer: Offer, threads: Threads) -> None:
        self._offer, self._threads = offer, threads
        self._tools = {tool.name: tool for tool in offer.tools}
        self._shelves = {shelf.kind: shelf for shelf in offer.shelves}
        self._prompts = {prompt.name: prompt for prompt in offer.prompts}
        self._schemas = {tool.name: tool.input_schema() for tool in offer.tools}

    # ---- tools

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        return self._schemas.get(name)

    async def list_tools(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[self._tool(tool) for tool in self._offer.tools])

    def _tool(self, tool: Tool) -> types.Tool:
        return types.Tool(
            name=tool.name, title=tool.title, description=tool.about,
            input_schema=self._schemas[tool.name], output_schema=tool.output_schema(),
            annotations=types.ToolAnnotations(
                title=tool.title, read_only_hint=tool.reads, destructive_hint=False, idempotent_hint=tool.reads, open_world_hint=False
            ),
        )  # fmt: skip

    async def call_tool(self, context: Request, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Raises MCPError for a tool that is not there; whatever else is wrong is the answer."""
        tool = self._tools.get(params.name)
        if tool is None:
            raise _unknown("tool", params.name, self._tools)
        try:
            told = await self._called(tool, params.arguments or {}, context.request)
        except HeadwaterError as error:
            return _refused(error)
        except Exception as error:
            _log.error("a tool failed", tool=tool.name, trace=_trace(error))
            return _refused(HeadwaterError(f"{tool.name} failed: {type(error).__name__}; headwater's log has the rest"))
        return types.CallToolResult(content=[types.TextContent(type="text", text=told.text)], structured_content=told.data)

    async def _called(self, tool: Tool, given: Mapping[str, Any], request: Any) -> Told:
        try:
            asked = tool.arguments.model_validate(given)
        except pydantic.ValidationError as error:
            raise Misused(f"{tool.name}: {_faults(error)}") from None
        if inspect.iscoroutinefunction(tool.call):
            answer: Told = await tool.call(asked, request)
            return answer
        return await self._threads.run(partial(tool.call, asked, request))  # type: ignore[arg-type]

    # ---- resources

    async def list_resources(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        """One page; the cursor is `KIND:HOW MANY TO PASS OVER`. Shelf after shelf, in the offer's order, each to its `DEEPEST`."""
        kinds = [*self._shelves]
        cursor = params.cursor if params and params.cursor else f"{kinds[0]}:0" if kinds else None
        resources: list[types.Resource] = []
        try:
            while cursor is not None and len(resources) < PAGE:
                kind, passed = self._cursor(cursor)
                many = min(PAGE - len(resources), DEEPEST - passed)
                found = await self._threads.run(partial(self._shelves[kind].listed, passed, many))
                resources += [_resource(kind, one) for one in found]
                more = len(found) == many and passed + many < DEEPEST
                following = kinds[kinds.index(kind) + 1 :]
                cursor = f"{kind}:{passed + many}" if more else f"{following[0]}:0" if following else None
        except HeadwaterError as error:
            raise _protocol(error) from None
        return types.ListResourcesResult(resources=resources, next_cursor=cursor)

    def _cursor(self, cursor: str) -> tuple[str, int]:
        kind, _, number = cursor.partition(":")
        if kind not in self._shelves or not number.isdecimal() or int(number[:9]) >= DEEPEST:
            raise MCPError(types.INVALID_PARAMS, f"{cursor!r} is no cursor of this list; begin again without one")
        return kind, int(number[:9])

    async def list_templates(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=f"{ADDRESS}{shelf.kind}/{{+id}}", name=shelf.kind, title=shelf.title, description=shelf.about,
                    mime_type="text/plain",
                )
                for shelf in self._offer.shelves
            ]
        )  # fmt: skip

    async def read_resource(self, context: Request, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        """The thing as text, and the same as JSON."""
        uri = str(params.uri)
        try:
            shelf, id = self._place(uri)
            told = await self._threads.run(lambda: shelf.read(id))
        except HeadwaterError as error:
            raise _protocol(error, uri=uri) from None
        except Exception as error:
            _log.error("a resource failed", uri=uri, trace=_trace(error))
            raise MCPError(types.INTERNAL_ERROR, f"{uri} failed: {type(error).__name__}; headwater's log has the rest") from None
        data = msgspec.json.encode(told.data, enc_hook=str).decode()
        return types.ReadResourceResult(
            contents=[
                types.TextResourceContents(uri=uri, mime_type="text/plain", text=told.text),
                types.TextResourceContents(uri=uri, mime_type="application/json", text=data),
            ]
        )

    def _place(self, uri: str) -> tuple[Shelf, str]:
        kind, _, id = uri.removeprefix(ADDRESS).partition("/")
        shelf = self._shelves.get(kind)
        if not uri.startswith(ADDRESS) or shelf is None or not id:
            forms = ", ".join(f"{ADDRESS}{each}/ID" for each in self._shelves)
            raise NotFound(f"nothing lies at {uri[:200]!r}; addresses have the form {forms}")
        return shelf, unquote(id)

    # ---- prompts

    async def list_prompts(self, context: Request, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[_prompt(prompt) for prompt in self._offer.prompts])

    async def get_prompt(self, context: Request, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        """Raises MCPError: an unknown prompt, an argument that is missing or wrong."""
        prompt = self._prompts.get(params.name)
        if prompt is None:
            raise _unknown("prompt", params.name, self._prompts)
        given = dict(params.arguments or {})
        missing = [each.name for each in prompt.arguments if each.required and not given.get(each.name, "").strip()]
        if missing:
            raise MCPError(types.INVALID_PARAMS, f"the prompt {prompt.name} needs {', '.join(missing)}")
        try:
            texts = await self._threads.run(lambda: prompt.write(given))
        except HeadwaterError as error:
            raise _protocol(error) from None
        messages = [types.PromptMessage(role="user", content=types.TextContent(type="text", text=text)) for text in texts]
        return types.GetPromptResult(description=prompt.about, messages=messages)

    async def complete(self, context: Request, params: types.CompleteRequestParams) -> types.CompleteResult:
        """Ids for an address that is being written: the newest of its kind that begin so."""
        kind = params.ref.uri.removeprefix(ADDRESS).partition("/")[0] if isinstance(params.ref, types.ResourceTemplateReference) else ""
        shelf = self._shelves.get(kind)
        if shelf is None or params.argument.name != "id":
            return types.CompleteResult(completion=types.Completion(values=[], total=0, has_more=False))
        begun = params.argument.value
        found = await self._threads.run(lambda: shelf.listed(0, DEEPEST))
        values = [one.id for one in found if one.id.startswith(begun)]
        return types.CompleteResult(completion=types.Completion(values=values[:100], total=len(values), has_more=len(values) > 100))


def _resource(kind: str, one: Listed) -> types.Resource:
    return types.Resource(uri=address(kind, one.id), name=one.id, title=one.title, description=one.about, mime_type="text/plain")


def address(kind: str, id: str) -> str:
    """Where a thing is read: `headwater://documents/TYPE/ID`, what an address cannot hold percent-encoded."""
    return f"{ADDRESS}{kind}/{quote(id, safe='/:@')}"


def refusal(error: HeadwaterError) -> str:
    """An error for a model: what, and what to do next."""
    wait = f"Call again in {max(1, round(float(error.details.get('retry_after', 1))))} s." if isinstance(error, Retryable) else ""
    return "\n".join(part for part in (f"{error.cause.replace('_', ' ')}: {error}", _NEXT.get(error.cause, wait)) if part)


def _refused(error: HeadwaterError) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=refusal(error))], structured_content=bounded(problem(error)).value, is_error=True
    )


def _protocol(error: HeadwaterError, **more: Any) -> MCPError:
    code = types.INTERNAL_ERROR if error.status >= 500 else types.INVALID_PARAMS
    return MCPError(code, refusal(error), {**problem(error), **more})


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> MCPError:
    return MCPError(types.INVALID_PARAMS, f"no {what} {name[:200]!r}; there are {', '.join(known)}")


def _trace(error: Exception) -> str:
    """Where a defect of ours lies, for the log: without the values of variables, which may be anybody's."""
    return "".join(traceback.format_exception(error))


def _faults(error: pydantic.ValidationError) -> str:
    """What is wrong with which argument."""
    return "; ".join(f"{'.'.join(str(part) for part in each['loc']) or 'arguments'}: {each['msg']}" for each in error.errors()[:10])


def _prompt(prompt: Prompt) -> types.Prompt:
    arguments = [types.PromptArgument(name=each.name, description=each.about, required=each.required) for each in prompt.arguments]
    return types.Prompt(name=prompt.name, title=prompt.title, description=prompt.about, arguments=arguments)
