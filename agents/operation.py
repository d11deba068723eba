"""One operation of an HTTP API as a tool's function: arguments → request → answer. The host is the application's, never an argument's."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlsplit
from weakref import WeakKeyDictionary

import httpx

from headwater.lineage.errors import EffectFailed, HeadwaterError, Invalid, Limited, Misused, Unavailable
from headwater.lineage.named_secret import secret

KEY = "Idempotency-Key"
"""The header that carries the effect id."""
_OURS = frozenset(("host", "authorization", "content-type", "accept", "content-length", "transfer-encoding", "connection", "cookie", "te"))
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_UNTOUCHED = frozenset((425, 429))
_MAYBE = frozenset((408, 409))
_TOLD = 300
_SHORTEST = 6
"""Characters of a secret that is looked for in answers; a shorter one would be found by chance."""


class Parameter(NamedTuple):
    """Where an argument goes: `wire` is its name there; `form` how a list or an object is written."""

    argument: str
    wire: str
    place: Literal["path", "query", "header", "body"]
    form: str = ""


@dataclass(frozen=True, eq=False)
class Door:
    """What all operations of an API share: the address, what is sent with every request, and its bounds.

    secrets  header → the variable that holds its value; read with the first request
    """

    api: str
    url: str
    headers: Mapping[str, str]
    secrets: Mapping[str, str]
    max_bytes: int
    _clients: "WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, tuple[str, ...]]]" = field(
        init=False, repr=False, default_factory=WeakKeyDictionary
    )

    def open(self) -> tuple[httpx.AsyncClient, tuple[str, ...]]:
        """The client of this event loop, and the secrets it sends, longest first. Raises Misused for a secret that is not set."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            keys = {header: secret(variable, f"the API {self.api}").decode() for header, variable in self.secrets.items()}
            parts = {part for key in keys.values() for part in (key, *key.split()) if len(part) >= _SHORTEST}
            headers = {"user-agent": "headwater", "accept": "application/json", **self.headers, **keys}
            client = httpx.AsyncClient(headers=headers, follow_redirects=False, timeout=None)  # noqa: S113  the tool's timeout bounds it
            self._clients[loop] = client, tuple(sorted(parts, key=len, reverse=True))
        return self._clients[loop]


@dataclass(frozen=True, eq=False)
class Operation:
    """The function of a tool. `acts`: it is told the effect id and hands it on."""

    name: str
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    door: Door
    acts: bool

    async def __call__(self, *, effect: str = "", **arguments: Any) -> Any:
        """The answer's JSON, or its text, or None. Raises Invalid, EffectFailed (refused), Limited (untouched), Unavailable (unknown)."""
        url, query, headers, body = self._request(arguments)
        client, keys = self.door.open()
        if self.acts and effect:
            headers[KEY] = effect
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            async with client.stream(self.method, url, params=tuple(query), headers=headers, content=content) as response:
                return self._answer(response, *await self._read(response, keys))
        except _NOT_SENT as error:
            raise Limited(f"{self.name}: no connection: {type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.name}: no answer: {type(error).__name__}") from error

    def _request(self, arguments: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]], dict[str, str], Any]:
        path, query, headers, body = self.path, [], {}, None
        for parameter in self.parameters:
            if parameter.argument not in arguments:
                continue
            value = arguments[parameter.argument]
            if parameter.place == "path":
                path = path.replace(f"{{{parameter.wire}}}", self._segment(parameter, value))
            elif parameter.place == "query":
                query += _query(parameter, value)
            elif parameter.place == "header":
                headers[parameter.wire] = self._header(parameter, value)
            else:
                body = value
        if "{" in path:
            raise Invalid(f"{self.name}: nothing was given for {path[path.index('{') : path.index('}') + 1]} of {self.path}")
        return f"{self.door.url}{path}", query, headers, body

    def _segment(self, parameter: Parameter, value: Any) -> str:
        text = _text(value)
        if text in ("", ".", ".."):
            raise Invalid(f"{self.name}: {parameter.argument}={text!r} cannot stand in an address: it means another path")
        return quote(text, safe="", errors="replace")

    def _header(self, parameter: Parameter, value: Any) -> str:
        text = _text(value)
        if not text.isascii() or not text.isprintable():
            raise Invalid(f"{self.name}: {parameter.argument}={text!r:.80} cannot stand in a header: printable ASCII only")
        return text

    async def _read(self, response: httpx.Response, keys: tuple[str, ...]) -> tuple[str, bool]:
        """The answer's text, secrets blotted out, and whether it is whole."""
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > self.door.max_bytes:
                return "", False
        text = body.decode(response.encoding or "utf-8", errors="replace")
        for key in keys:
            text = text.replace(key, "***")
        return text, True

    def _answer(self, response: httpx.Response, text: str, whole: bool) -> Any:
        status = response.status_code
        if not 200 <= status < 300:
            raise self._refusal(response, text)
        if not whole:
            if self.acts:
                return {"status": status, "cut": f"more than {self.door.max_bytes} bytes"}
            raise EffectFailed(f"{self.name} answers more than {self.door.max_bytes} bytes; ask for less, or declare max_bytes=")
        try:
            return json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            return text

    def _refusal(self, response: httpx.Response, text: str) -> HeadwaterError:
        status = response.status_code
        if 300 <= status < 400:
            host = urlsplit(response.headers.get("location", "")).hostname or "another path"
            return EffectFailed(f"{self.name} redirects to {host}; the application says where the API is, and no redirect is followed")
        told = f"{self.name} answers {status}: {' '.join(text.split())[:_TOLD]}".rstrip(": ")
        if status in _UNTOUCHED:
            return Limited(told)
        return Unavailable(told) if status in _MAYBE or status >= 500 else EffectFailed(told)


def sendable(parameter: Parameter, secrets: Mapping[str, str]) -> bool:
    """Whether an argument may go there: headers that say who we are and how we speak are no caller's."""
    name = parameter.wire.lower()
    return parameter.place != "header" or (name not in _OURS and name != KEY.lower() and name not in {key.lower() for key in secrets})


def base(url: str, what: str) -> str:
    """The address without the last slash. Raises Misused unless it is the whole of one: scheme, host, perhaps a path."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise Misused(f"{what}: url={url!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "{" in url:
        raise Misused(f"{what}: url={url!r} must be https://HOST or http://HOST, perhaps with a path")
    if "@" in parts.netloc:
        raise Misused(f"{what}: put no user or password into the address; name them in secrets=")
    return url.rstrip("/")


def _query(parameter: Parameter, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        write: Callable[[str], str] = (lambda name: f"{parameter.wire}[{name}]") if parameter.form == "deepObject" else (lambda name: name)
        return [(write(str(name)), _text(each)) for name, each in value.items()]
    if isinstance(value, list) and not parameter.form:
        return [(parameter.wire, _text(each)) for each in value]
    return [(parameter.wire, _text(value))]


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else str(value)
