"""HTTP polling, against a real server: every item once, nothing remembered before it is published, servers in trouble left in peace."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import BaseModel, Field

from headwater import Poll, Topic
from headwater.flows.gateway import Gateway
from headwater.flows.parcel import Sender
from headwater.flows.polling import LONGEST_S, Polling
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.topic import DEAD

NOW = 1_900_000_000_000_000
Answer = tuple[int, dict[str, str], bytes]


class Reading(BaseModel):
    id: str
    metres: float


class Foreign(BaseModel):
    id: str = Field(alias="ID")
    metres: float = Field(alias="level_m")


readings = Topic("readings", Reading, key="id")


class Writer:
    largest = 1_000_000

    def __init__(self) -> None:
        self.messages: list = []
        self.down = False

    def write(self, messages):
        if self.down:
            raise Unavailable("down")
        found = list(messages)
        self.messages += found
        return [Position("b", message.topic, 0, n) for n, message in enumerate(found)]

    def on(self, topic: str) -> list:
        return [message for message in self.messages if message.topic == topic]

    @property
    def ids(self) -> list[str]:
        return [json.loads(message.value)["id"] for message in self.on("readings")]


class Server:
    """Answers what `answer(path, query, headers)` says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[str, dict, Any], Answer] = lambda path, query, headers: (200, {}, b"[]")
        self.asked: list[tuple[str, dict, dict]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((parts.path, query, headers))
                status, more, body = outer.answer(parts.path, query, headers)
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                if status != 304:
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                if status != 304:
                    self.wfile.write(body)

            def log_message(self, *given) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def writer():
    return Writer()


@pytest.fixture
def poll(server, writer, tmp_path):
    """A poll at work, as a fresh process each time it is asked for; the ids of what was published are known to it."""
    gateway = Gateway({"readings": readings}, writer, lambda: NOW)
    begun = []

    def start(path: str = "/readings", keys=None, random=lambda: 1.0, **more) -> Polling:
        declared = Poll(server.url + path, into=readings, **more)
        sender = Sender(gateway, writer, lambda: NOW, readings, declared.origin, "normal", declared.model, declared.as_, declared.time)
        begun.append(Polling(declared, tmp_path / "m.json", sender, lambda: NOW, random, keys or {}))
        return begun[-1]

    yield start
    for each in begun:
        each.close()


def items(*names: str) -> bytes:
    return json.dumps([{"id": name, "metres": 1} for name in names]).encode()


def test_every_item_counts_once(server, writer, poll):
    """The server tells old items again and again: each is published once, by its id, also after a restart."""
    server.answer = lambda *given: (200, {}, items("a", "b"))
    assert poll(id="id", every="30s").turn() == 30
    poll(id="id").turn()
    server.answer = lambda *given: (200, {}, items("b", "c"))
    poll(id="id").turn()
    assert writer.ids == ["a", "b", "c"]
    assert dict(writer.messages[0].headers)["ce_origin"] == b"poll/readings"


def test_without_ids_the_content_counts(server, writer, poll):
    """The same content once, other content again."""
    server.answer = lambda *given: (200, {}, b'{"data": {"now": {"id": "a", "metres": 1}}}')
    part = poll(items="$.data.now")
    part.turn()
    part.turn()
    server.answer = lambda *given: (200, {}, b'{"data": {"now": {"id": "a", "metres": 2}}}')
    part.turn()
    assert [json.loads(message.value)["metres"] for message in writer.messages] == [1, 2]


def test_what_did_not_change_is_not_sent_again(server, writer, poll):
    """ETag and Last-Modified go back, over restarts; 304 is nothing."""
    tags = {"etag": '"one"', "last-modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
    server.answer = lambda path, query, headers: (304, {}, b"") if headers.get("if-none-match") == '"one"' else (200, tags, items("a"))
    poll(id="id").turn()
    again = poll(id="id")
    again.turn()
    assert again.status()["unchanged"] == 1
    assert server.asked[1][2]["if-modified-since"] == tags["last-modified"]
    assert writer.ids == ["a"]


def test_a_cursor_goes_on_where_it_was(server, writer, poll):
    """Page after page without a pause, then as often as declared; a restart goes on at the cursor; an answer without one keeps it."""
    pages = {None: ("a", "1"), "1": ("b", "2"), "2": (None, None)}

    def answer(path, query, headers) -> Answer:
        name, cursor = pages[query.get("since")]
        return 200, {"etag": f'"{cursor}"'}, json.dumps({"data": [{"id": name, "metres": 1}] if name else [], "next": cursor}).encode()

    server.answer = answer
    more = {"items": "data", "cursor": ("next", "since"), "id": "id", "every": "30s"}
    assert [poll("/r?kind=x", **more).turn() for _ in range(4)] == [0, 0, 30, 30]
    assert [query for _, query, _ in server.asked] == [{"kind": "x", **({"since": s} if s else {})} for s in (None, "1", "2", "2")]
    assert writer.ids == ["a", "b"]
    assert "if-none-match" not in server.asked[1][2]  # an ETag is of one address


def test_nothing_is_remembered_before_the_broker_has_it(server, writer, poll):
    """The broker refuses: cursor and ETag stay, and the same is asked for again."""
    server.answer = lambda *given: (200, {"etag": '"one"'}, json.dumps({"data": [{"id": "a", "metres": 1}], "next": "1"}).encode())
    more = {"items": "data", "cursor": ("next", "since"), "id": "id"}
    writer.down = True
    with pytest.raises(Unavailable):
        poll(**more).turn()
    writer.down = False
    poll(**more).turn()
    assert [(query, headers.get("if-none-match")) for _, query, headers in server.asked] == [({}, None)] * 2
    assert writer.ids == ["a"]


def test_wrong_items_are_dead_letters_and_the_rest_goes_on(server, writer, poll):
    """Breaks the model, lacks its id, or bears a taken id with other data: each buried once with its cause, however often it is told."""
    server.answer = lambda *given: (200, {}, b'[{"ID": "a", "level_m": 1}, {"ID": "b", "level_m": "much"}, {"level_m": 2}]')
    part = poll(id="ID", model=Foreign)
    part.turn()
    server.answer = lambda *given: (200, {}, b'[{"ID": "a", "level_m": 9}, {"ID": "b", "level_m": "much"}, {"ID": "c", "level_m": 3}]')
    part.turn()
    part.turn()
    causes = [dict(message.headers)["headwater-cause"].decode() for message in writer.on(DEAD)]
    assert causes == ["invalid", "undecodable", "conflict"]
    assert writer.ids == ["a", "c"]
    assert part.status()["buried"] == 3


def test_failures_are_tried_again_ever_more_rarely(server, poll):
    """Twice as long each time, up to an hour, jittered downwards; a success begins anew; Retry-After is waited for."""
    server.answer = lambda *given: (500, {}, b"")
    part = poll(every="10s")
    pauses = [part.turn() for _ in range(12)]
    assert pauses[:4] == [10, 20, 40, 80] and pauses[-1] == LONGEST_S
    assert "answers 500" in part.status()["trouble"]
    server.answer = lambda *given: (200, {}, b"[]")
    assert part.turn() == 10 and part.status()["trouble"] == ""
    server.answer = lambda *given: (429, {"retry-after": "120"}, b"")
    assert part.turn() == 120
    server.answer = lambda *given: (503, {"retry-after": "Sun, 17 Mar 2030 17:47:40 GMT"}, b"")
    assert part.turn() == 60
    assert poll(every="10s", random=lambda: 0.0).turn() == 60
    server.answer = lambda *given: (503, {"retry-after": "soon"}, b"")
    assert poll(every="10s", random=lambda: 0.0).turn() == 5


@pytest.mark.parametrize(
    ("answer", "more", "told"),
    [
        ((200, {}, b"[" + b" " * 2000), {"max_bytes": 1000}, "more than max_bytes=1000"),
        ((200, {}, b"nonsense"), {}, "not JSON"),
        ((302, {"location": "http://example.org/x"}, b""), {}, "redirects to another host, example.org"),
        ((302, {"location": "/again"}, b""), {}, "redirects more than 3 times"),
        ((404, {}, b""), {}, "answers 404"),
    ],
)
def test_a_bad_answer_is_trouble_and_no_more(server, writer, poll, answer, more, told):
    """Told in the status; nothing is published, and it goes on."""
    server.answer = lambda *given: answer
    part = poll(every="10s", **more)
    assert part.turn() == 10
    assert told in part.status()["trouble"]
    assert writer.messages == []


def test_a_redirect_on_the_same_host_is_followed(server, writer, poll):
    """With our headers, which may hold a secret."""
    server.answer = lambda path, query, headers: (302, {"location": "/there"}, b"") if path == "/readings" else (200, {}, items("a"))
    poll(keys={"authorization": "Bearer s"}).turn()
    assert [(path, headers["authorization"]) for path, _, headers in server.asked] == [("/readings", "Bearer s"), ("/there", "Bearer s")]
    assert writer.ids == ["a"]


def test_nobody_there_is_trouble(writer, tmp_path):
    """A refused connection is told and tried again."""
    declared = Poll("http://127.0.0.1:9/x", into=readings, every="1s")
    gateway = Gateway({"readings": readings}, writer, lambda: NOW)
    sender = Sender(gateway, writer, lambda: NOW, readings, declared.origin, "normal", None, None, None)
    part = Polling(declared, tmp_path / "m.json", sender, lambda: NOW, lambda: 1.0, {})
    assert part.turn() == 1
    assert "does not answer" in part.status()["trouble"]
    part.close()


@pytest.mark.parametrize(
    ("url", "more", "told"),
    [
        ("file:///etc/passwd", {}, "must begin with https"),
        ("https://user:pass@host/x", {}, "no user or password"),
        ("https://", {}, "name a host"),
        ("https://host", {"every": "1ms"}, "at least 100ms"),
    ],
)
def test_a_wrong_poll_is_refused(url, more, told):
    """Misused, naming what; and no message shows a password."""
    with pytest.raises(Misused, match=told) as refused:
        Poll(url, into=readings, **more)
    assert "user:pass" not in str(refused.value)
