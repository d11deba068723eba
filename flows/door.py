"""The door of reading commands: the headwater that runs here (or at `--url`), or else the files of one that is stopped."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import msgspec

from headwater.flows.run_file import STARTING, read_run_file
from headwater.flows.settings import Settings
from headwater.lineage import errors
from headwater.lineage.client import Lineage, connect
from headwater.lineage.errors import HeadwaterError, NotFound, Unavailable

if TYPE_CHECKING:
    from headwater.lineage.verify import Source

LINEAGE_FILE = "lineage.duckdb"
STARTING_S = 60.0
"""How long a command waits for a headwater that is starting."""


@dataclass(frozen=True)
class Door:
    """Where to ask: an address, or a home whose files may be opened."""

    address: str
    home: Path

    @property
    def running(self) -> bool:
        return bool(self.address)

    def lineage(self) -> Lineage:
        """Lineage, live or from its file. Raises NotFound, Unavailable."""
        if self.address:
            return connect(self.address)
        path = self.home / LINEAGE_FILE
        if not path.is_file():
            raise NotFound(f"nothing runs in {self.home} and no lineage lies there; start with: headwater demo, or headwater up")
        return connect(path)

    @contextmanager
    def lineage_file(self) -> Iterator["Source"]:
        """The lineage file of a stopped headwater, read-only. Raises NotFound, Unavailable."""
        from headwater.lineage.store import open_database

        self.lineage().close()  # says what is wrong if there is no file
        connection = open_database(self.home / LINEAGE_FILE, read_only=True)
        try:
            yield connection
        finally:
            connection.close()

    def ask(self, method: str, path: str, *, patience_s: float = 60, **more: Any) -> Any:
        """The JSON of an answer. Raises the error that a problem names, Unavailable if nothing answers."""
        if not self.address:
            raise Unavailable(f"no headwater runs in {self.home}; start one with: headwater up, or name one with --url")
        try:
            response = httpx.request(method, f"{self.address}{path}", timeout=patience_s, **more)
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.address} does not answer: {error}") from None
        if response.is_error:
            raise _problem(response)
        return response.json()

    def lines(self, path: str, json: Any = None) -> Iterator[Any]:
        """The lines of JSON of a long answer, as they come; `json`: what is posted, else it is a GET. Raises as `ask` does."""
        if not self.address:
            raise Unavailable(f"no headwater runs in {self.home}; start one with: headwater up, or name one with --url")
        try:
            with httpx.stream("GET" if json is None else "POST", f"{self.address}{path}", timeout=600, json=json) as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                yield from (msgspec.json.decode(line) for line in response.iter_lines() if line)
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.address} does not answer: {error}") from None

    def stream(self, topic: str, pieces: Iterable[bytes]) -> dict[str, Any]:
        """Publish lines of JSON, however many, as they come; the answer's `accepted` and `tokens`, or `events` if they were few."""
        answer: dict[str, Any] = self.ask(
            "POST", f"/v1/events/{quote(topic)}", content=iter(pieces), headers={"content-type": "application/x-ndjson"}
        )
        return answer

    def publish(self, topic: str, body: bytes) -> list[dict[str, str]]:
        """Publish a JSON object, an array, or lines of JSON. Raises NotFound, Invalid, Undecodable, Unavailable."""
        kind = "application/json" if body.lstrip()[:1] == b"[" or b"\n" not in body.strip() else "application/x-ndjson"
        if kind != "application/json" and _one_document(body):
            kind = "application/json"
        answer = self.ask("POST", f"/v1/events/{quote(topic)}", content=body, headers={"content-type": kind})
        found: list[dict[str, str]] = answer.get("events", [answer])
        return found


def _one_document(body: bytes) -> bool:
    """Whether the body is one JSON object spread over lines."""
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return True


def _problem(response: httpx.Response) -> HeadwaterError:
    try:
        problem = response.json()
        text = str(problem["detail"])
        cause = str(problem["type"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"{response.url}: {response.status_code} {response.text[:200]}")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HeadwaterError)]
    return next((kind(text) for kind in kinds if kind.cause == cause), Unavailable(text))


def _running(home: Path) -> dict[str, Any] | None:
    """What runs in a home; one that is starting is waited for: its files are in use, and it will answer. Raises Unavailable."""
    until = time.monotonic() + STARTING_S
    while read_run_file(home) is None and (starting := read_run_file(home, STARTING)) is not None:
        if time.monotonic() > until:
            raise Unavailable(f"headwater (pid {starting['pid']}) is still starting in {home}; see what it says, and ask again")
        time.sleep(0.1)
    return read_run_file(home)


def door(settings: Settings) -> Door:
    """`--url`, else what runs in the home, else its files; a home without either, but with a demo's, is the demo's. Raises Unavailable."""
    if settings.url:
        return Door(settings.url.rstrip("/"), settings.home)
    for home in (settings.home, settings.home / "demo"):
        running = _running(home)
        if running is not None and running.get("http"):
            return Door(str(running["http"]), home)
        if (home / LINEAGE_FILE).is_file():
            return Door("", home)
    return Door("", settings.home)
