"""A small MCP server for tests: `python mcp_weather.py` over standard input and output; `server()` for HTTP."""

import json
import os

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

CALLS = []


def server() -> MCPServer:
    made = MCPServer("weather")

    @made.tool(annotations=ToolAnnotations(read_only_hint=True))
    def weather(airport: str, hours: int = 1) -> dict[str, str]:
        """The weather at an airport."""
        if airport == "???":
            raise ToolError(f"no such airport; the key is {os.environ.get('WEATHER_KEY')}")
        return {"airport": airport, "sky": "snow", "key": os.environ.get("WEATHER_KEY", "")}

    @made.tool(annotations=ToolAnnotations(idempotent_hint=True))
    def close_runway(runway: str, context: Context) -> str:
        """Close a runway."""
        CALLS.append((runway, (context.request_context.meta or {}).get("headwater/effect-id")))
        return json.dumps(CALLS)

    @made.tool()
    def announce(text: str) -> str:
        """Tell everybody."""
        return "x" * len(text) * 100

    @made.tool(annotations=ToolAnnotations(read_only_hint=True))
    def die() -> str:
        """End the process."""
        os._exit(3)

    return made


if __name__ == "__main__":
    server().run("stdio")
