"""McpServer: the tools of an MCP server, over standard input and output or over HTTP, each with a scope of its own."""

import asyncio
import functools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from headwater.agents.loaded import loaded
from headwater.agents.mcp_session import Session, answer_of, entered
from headwater.agents.operation import base
from headwater.agents.schema import portable
from headwater.agents.tool import Kind, Tool
from headwater.lineage.errors import EffectFailed, Misused
from headwater.lineage.named_secret import secret

_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
_PINNED = ("description", "inputSchema", "annotations")
"""What an application relies on of a tool: the server may not change it unseen."""
_SHORTEST = 6


@dataclass(frozen=True, eq=False)
class McpServer:
    """`McpServer("files", "files.tools.json", command=["python", "files.py"]).tools("read_file", "write_file")`.

    name      of the server, in the tools' names (`files/read_file`) and scopes (`mcp:files/read_file`)
    listing   what the server says of its tools, as `pin` wrote it: a file, or the JSON itself. A tool that the server describes otherwise
              when it is called is not called
    command   starts the server, which speaks over its standard input and output;  url  where it is, over HTTP. One of them
    trusts    tools whose hints (readOnlyHint, idempotentHint) are believed; True: all. By default none: they are the server's words
    kinds     tool → kind, whatever the server says. What is neither trusted nor named is plain
    env       of the process;  headers  of the requests;  secrets  name of such a variable or header → the variable that holds its value
    timeout   of one call;  max_bytes  of an answer

    An effect's id goes along in the call's `_meta`, as `headwater/effect-id`.
    """

    name: str
    listing: str | Path | Mapping[str, Any]
    _: KW_ONLY
    command: Sequence[str] = ()
    url: str = ""
    trusts: bool | Sequence[str] = False
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    timeout: str = "30s"
    max_bytes: int = 1_000_000
    _sessions: "WeakKeyDictionary[asyncio.AbstractEventLoop, Session]" = field(init=False, repr=False, default_factory=WeakKeyDictionary)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misused(f"McpServer {self.name!r}: a name is of letters, digits, _ and -, at most 60")
        if bool(self.command) == bool(self.url) or isinstance(self.command, str):
            raise Misused(f"{self._what}: give either command=[…], a list of words, or url=")
        if self.url:
            base(self.url, self._what)

    def tools(self, *names: str) -> tuple[Tool, ...]:
        """The server's tools of these names; all that are pinned, if none is named. Raises Misused for one that is not."""
        known = self._pinned
        wanted = {*names, *self.kinds, *(self.trusts if not isinstance(self.trusts, bool) else ())}
        if unknown := sorted(wanted - set(known)):
            raise Misused(f"{self._what}: {', '.join(unknown)} is not pinned; there are {', '.join(sorted(known))}; pin them anew")
        return tuple(self._tool(name, known[name]) for name in names or known)

    def pin(self) -> None:
        """Ask the server for its tools and write them into the file `listing`, to be read by people and kept with the application.

        Raises Misused, Limited, Unavailable.
        """
        if isinstance(self.listing, Mapping):
            raise Misused(f"{self._what}: its listing is no file that could be written")
        found = asyncio.run(self._listed())
        kept = {name: {word: each[word] for word in _PINNED if word in each} for name, each in sorted(found.items())}
        Path(self.listing).write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
    def _what(self) -> str:
        return f"McpServer {self.name}"

    @functools.cached_property
    def _pinned(self) -> Mapping[str, Mapping[str, Any]]:
        if isinstance(self.listing, Mapping):
            return self.listing
        if not Path(self.listing).exists():
            raise Misused(f"{self._what}: {self.listing} is not there; write it once, and look at what it says: {self._pinning}")
        found = loaded(Path(self.listing), self._what)
        if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
            raise Misused(f"{self._what}: {self.listing} is no listing of tools; write it anew with .pin()")
        return found

    @property
    def _pinning(self) -> str:
        """A command that pins: a module that calls `tools` cannot be imported before. Secrets are names in it."""
        said: dict[str, Any] = {"command": list(self.command), "url": self.url}
        said |= {"env": dict(self.env), "headers": dict(self.headers), "secrets": dict(self.secrets)}
        given = "".join(f", {name}={json.dumps(value)}" for name, value in said.items() if value)
        code = f"from headwater import McpServer; McpServer({json.dumps(self.name)}, {json.dumps(str(self.listing))}{given}).pin()"
        return f"python -c {shlex.quote(code)}"

    def _tool(self, name: str, told: Mapping[str, Any]) -> Tool:
        full = f"{self.name}/{re.sub(r'[^A-Za-z0-9_.:/-]', '_', name)}"
        kind = self.kinds.get(name) or self._hinted(name, told.get("annotations") or {})
        schema = {"type": "object", "properties": {}, **portable(told.get("inputSchema") or {}, f"{self._what}, tool {name}")}
        function = _Called(self, name, full, told, acts=kind != "read")
        return Tool(full, function, kind, f"mcp:{full}", str(told.get("description") or ""), schema, timeout=self.timeout)

    def _hinted(self, name: str, hints: Mapping[str, Any]) -> Kind:
        if self.trusts is not True and (isinstance(self.trusts, bool) or name not in self.trusts):
            return "plain"
        return "read" if hints.get("readOnlyHint") is True else "idempotent" if hints.get("idempotentHint") is True else "plain"

    async def _listed(self) -> dict[str, Any]:
        session = self.session()
        try:
            return await session.listing()
        finally:
            await session.close()

    def session(self) -> Session:
        """The connection of this event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = Session(self.name, self._connect)
        return self._sessions[loop]

    def keys(self) -> dict[str, str]:
        """The secrets, by the name under which they are sent. Raises Misused for one that is not set."""
        return {name: secret(variable, f"the MCP server {self.name}").decode() for name, variable in self.secrets.items()}

    def _connect(self) -> Any:
        if self.command:
            program, *arguments = self.command
            return entered(Client(StdioServerParameters(command=program, args=arguments, env={**self.env, **self.keys()}), cache=None))
        http = create_mcp_http_client(headers={"user-agent": "headwater", **self.headers, **self.keys()})
        return entered(Client(streamable_http_client(self.url, http_client=http), cache=None), http)


@dataclass(frozen=True, eq=False)
class _Called:
    """The function of a server's tool. Once in each connection it looks whether the server still says of the tool what was pinned."""

    server: McpServer
    name: str
    full: str
    told: Mapping[str, Any]
    acts: bool
    _known: "WeakKeyDictionary[Session, int]" = field(init=False, repr=False, default_factory=WeakKeyDictionary)

    async def __call__(self, *, effect: str = "", **arguments: Any) -> Any:
        keys = self.server.keys()
        session = self.server.session()
        await self._same(session)
        result = await session.call(self.name, arguments, effect if self.acts else "")
        parts = {part for key in keys.values() for part in (key, *key.split()) if len(part) >= _SHORTEST}
        return answer_of(result, self.full, self.server.max_bytes, tuple(sorted(parts, key=len, reverse=True)), acts=self.acts)

    async def _same(self, session: Session) -> None:
        if self._known.get(session) == session.opened and session.opened:
            return
        now = (await session.listing()).get(self.name)
        if now is None:
            raise EffectFailed(f"{self.full}: the server has no such tool any more; pin its tools anew")
        changed = [word for word in _PINNED if (now.get(word) or None) != (self.told.get(word) or None)]
        if changed:
            raise EffectFailed(f"{self.full}: the server tells another {', '.join(changed)} than was pinned; look at it, and pin it anew")
        self._known[session] = session.opened
