"""Who may call the HTTP door: programs and pages of its own; never, in somebody's name, the page of another site."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from headwater.flows.settings import Settings
from headwater.lineage.errors import Forbidden, problem

PROBLEM = "application/problem+json"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_READING = ("GET", "HEAD", "OPTIONS")


class Callers:
    """An ASGI application behind which no other site's page is let.

    A browser sends what any page tells it to, also to loopback. So what changes something or asks at length (POST) is refused to pages
    of other origins. And where the door listens on loopback, it answers to no name but its own, or a page could have its site's name
    lead here (DNS rebinding) and read. A door that listens openly goes by any name: who may reach it is for the network to say.
    """

    def __init__(self, app: ASGIApp, settings: Settings, besides: Collection[str] = ()) -> None:
        """`besides`: paths that guard themselves."""
        self._app, self._besides = app, besides
        self._hosts = names(settings) if settings.http_host in ("127.0.0.1", "localhost", "::1") else None
        self._named = both(_listed(settings.http_names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._besides:
            await self._app(scope, receive, send)
            return
        try:
            self.check(Headers(scope=scope), scope["method"])
        except Forbidden as error:
            await JSONResponse(problem(error), error.status, media_type=PROBLEM)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def check(self, headers: Headers, method: str) -> None:
        """Raises Forbidden."""
        if self._hosts is not None:
            called(headers, self._hosts)
        if method not in _READING:
            of_its_own(headers, self._named)


def called(headers: Headers, hosts: Collection[str]) -> None:
    """Whether the request calls this server by one of its names (`name` or `name:*`). Raises Forbidden."""
    if not among(host := headers.get("host", ""), hosts):
        raise Forbidden(f"this server is not called {host!r}; name it in HEADWATER_HTTP__NAMES if it is")


def of_its_own(headers: Headers, also: Collection[str] = ()) -> None:
    """Whether a program asks, or a page of this server (or of `also`, behind a proxy that changes names). Raises Forbidden."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and among(urlsplit(origin).netloc, also):
        return
    foreign = origin is not None and urlsplit(origin).netloc != headers.get("host", "")
    if foreign or site not in (None, "same-origin", "none"):
        raise Forbidden("this is for programs and this server's own pages, not for another site's page")


def among(host: str, hosts: Collection[str]) -> bool:
    """Whether a host, with or without a port, is one of these."""
    return host in hosts or f"{host.rpartition(':')[0]}:*" in hosts


def names(settings: Settings) -> list[str]:
    """Which names this process may be called by, `:*` for any port: loopback, what it listens on, what is named."""
    listens = () if settings.http_host in ("0.0.0.0", "::", "") else (settings.http_host,)  # noqa: S104
    return both((*LOOPBACK, *listens, *_listed(settings.http_names)))


def both(known: Collection[str]) -> list[str]:
    """Each name without a port and with any."""
    return [form for name in dict.fromkeys(map(_bracketed, known)) for form in (name, f"{name}:*")]


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
