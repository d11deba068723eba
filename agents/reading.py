"""A tool that only reads, called while an agent decides: what it was asked and what it answered is on the trail."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from headwater.agents.answer import words
from headwater.agents.rethrown import told_of
from headwater.agents.tool import Tool
from headwater.agents.trail import Trail
from headwater.lineage.errors import Misused, Unavailable

Asking: TypeAlias = Callable[[Tool, Mapping[str, Any]], Awaitable[Any]]
"""How a tool that reads is called; a replay answers with what it answered then."""


def only_reads(tool: Tool) -> None:
    """Raises Misused for a tool that acts outside: it would act before the decision is in the journal, and again with every attempt."""
    if not isinstance(tool, Tool):
        raise Misused(f"context.tool calls tools, and {tool!r:.100} is none; declare it with @tool(kind='read')")
    if tool.kind != "read":
        raise Misused(
            f"tool {tool.name} is {tool.kind}, and context.tool calls only what reads; "
            f"make it an effect: decision.with_effects(Call({tool.name}, {{…}}))"
        )


async def read(tool: Tool, arguments: Mapping[str, Any], trail: Trail, clock: Callable[[], int], asking: Asking = Tool.call) -> Any:
    """The tool's answer as JSON values. Recorded whatever comes of it. Raises Unavailable after its timeout, and what the tool raises."""
    started = clock()
    asked: dict[str, Any] = {"tool": tool.name, "scope": tool.scope, "arguments": dict(arguments)}

    def record(**came_of_it: Any) -> None:
        trail.tool({**asked, **came_of_it, "seconds": (clock() - started) / 1_000_000})

    try:
        answer = await asking(tool, arguments)
    except TimeoutError as error:
        told = words(error) or f"tool {tool.name} took longer than {tool.timeout}"
        record(error=told, raised=told_of(error)["raised"])
        raise Unavailable(told) from error
    except BaseException as error:  # also a cancelled one: the attempt keeps what it asked
        record(**told_of(error))
        raise
    record(answer=answer)
    return answer
