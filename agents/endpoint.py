"""A language model that says what a test tells it to: a local server that speaks OpenAI's API. Public in `headwater.testing`.

    with ModelEndpoint(Calls("weather", airport="JFK"), {"choice": {"response": "keep watching"}, "confidence": 0.9}) as endpoint:
        model = endpoint.model()

Nothing leaves the machine: it listens on loopback. Any client of OpenAI's API can ask it, at `endpoint.url`.
"""

import http.server
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from pydantic_ai.models import Model

from headwater.agents.context import Chooser
from headwater.agents.model import ModelChooser
from headwater.agents.openai_form import CHAT, RESPONSES, Said, ToolCall, body_of, output_tool
from headwater.lineage.errors import Misused

_LARGEST = 10_000_000
"""Bytes of a request; what is larger is refused."""
_PATIENCE_S = 60.0


class Calls:
    """The model wants tools called: `Calls("weather", airport="JFK")`, and with `.and_("delays", airport="JFK")` several at once."""

    def __init__(self, tool: str, /, **arguments: Any) -> None:
        self.wanted: list[tuple[str, str]] = [(tool, json.dumps(arguments))]

    def and_(self, tool: str, /, **arguments: Any) -> Self:
        self.wanted.append((tool, json.dumps(arguments)))
        return self

    @classmethod
    def with_text(cls, tool: str, arguments: str) -> Self:
        """A call whose arguments are this text, which need be no JSON: a model may garble them."""
        made = cls(tool)
        made.wanted = [(tool, arguments)]
        return made


@dataclass(frozen=True)
class Fails:
    """The endpoint refuses with a status and a message; 0 means it closes the connection without a word."""

    status: int = 500
    message: str = "the model is overloaded"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Garbled:
    """An answer that is none: any bytes, by default no JSON."""

    body: bytes = b'{"choices": [{"mess'
    status: int = 200


@dataclass(frozen=True)
class Late:
    """A reply that comes only once `until` is set: slow for as long as the test wants."""

    reply: "Reply"
    until: threading.Event


Reply: TypeAlias = str | Mapping[str, Any] | Calls | Fails | Garbled | Late | Said
"""Text; a structured answer; or one of the above."""


class ModelEndpoint:
    """Answers each request with the next of its replies, the last one for ever; a function makes the reply from the request's JSON.

    asked   the JSON of every request so far, in order;  url  what clients call the base URL
    """

    def __init__(self, *replies: Reply | Callable[[Mapping[str, Any]], Reply], name: str = "scripted") -> None:
        if not replies:
            raise Misused("ModelEndpoint: give at least one reply")
        self.name = name
        self.replies = list(replies)
        self.asked: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _door(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="model-endpoint", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering; what waits for an answer is cut off."""
        self._server.shutdown()
        self._server.server_close()

    def model(self, *, responses: bool = False) -> Model[Any]:
        """The endpoint as a model of pydantic-ai, by chat completions or by responses. Needs `headwater[hosted]`."""
        from openai import AsyncOpenAI
        from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider

        provider = OpenAIProvider(openai_client=AsyncOpenAI(base_url=self.url, api_key="none", max_retries=0))
        return OpenAIResponsesModel(self.name, provider=provider) if responses else OpenAIChatModel(self.name, provider=provider)

    def chooser(self) -> Chooser:
        """The endpoint as what answers choices: `walk(app, events, model=endpoint.chooser())`."""
        return ModelChooser(self.model())

    def next(self, asked: dict[str, Any]) -> tuple[int, Reply]:
        """The number of a request, and the reply to it."""
        with self._lock:
            n = len(self.asked)
            self.asked.append(asked)
            reply = self.replies[min(n, len(self.replies) - 1)]
        return n, reply(asked) if callable(reply) else reply


def _said(path: str, asked: Mapping[str, Any], n: int, reply: str | Mapping[str, Any] | Calls | Said) -> Said:
    if isinstance(reply, Said):
        return reply
    if isinstance(reply, str):
        return Said(reply)
    if isinstance(reply, Calls):
        return Said(calls=[ToolCall(f"call_{n}_{m}", name, text) for m, (name, text) in enumerate(reply.wanted)])
    tool, text = output_tool(path, asked), json.dumps(reply)
    return Said(calls=[ToolCall(f"call_{n}", tool, text)]) if tool else Said(text)


def _door(endpoint: ModelEndpoint) -> type[http.server.BaseHTTPRequestHandler]:
    class Door(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.endswith("/models"):
                listed = {"id": endpoint.name, "object": "model", "created": 0, "owned_by": "headwater"}
                self._send(200, json.dumps({"object": "list", "data": [listed]}).encode())
            else:
                self._refuse(Fails(404, f"no {self.path} here; ask /v1{CHAT} or /v1{RESPONSES}"))

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            if length > _LARGEST or not self.path.endswith((CHAT, RESPONSES)):
                self.close_connection = True
                self._refuse(Fails(413 if length > _LARGEST else 404, f"{length} bytes for {self.path}; ask /v1{CHAT} or /v1{RESPONSES}"))
                return
            try:
                asked = json.loads(self.rfile.read(length))
            except ValueError as error:
                self._refuse(Fails(400, f"no JSON: {error}"))
                return
            if asked.get("stream"):
                self._refuse(Fails(400, "this endpoint does not stream; ask without stream"))
                return
            self._reply(asked, *endpoint.next(asked))

        def _reply(self, asked: Mapping[str, Any], n: int, reply: Reply) -> None:
            if isinstance(reply, Late):
                reply.until.wait(_PATIENCE_S)
                self._reply(asked, n, reply.reply)
            elif isinstance(reply, Garbled):
                self._send(reply.status, reply.body)
            elif isinstance(reply, Fails):
                self._refuse(reply)
            else:
                self._send(200, body_of(self.path, endpoint.name, n, _said(self.path, asked, n, reply)))

        def _refuse(self, reply: Fails) -> None:
            if reply.status == 0:
                self.close_connection = True
                return
            error = {"message": reply.message, "type": "invalid_request_error", "code": None, "param": None}
            self._send(reply.status, json.dumps({"error": error}).encode(), reply.headers)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            try:
                self.send_response(status)
                for name, value in {"content-type": "application/json", **(headers or {}), "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True  # who asked did not wait

        def log_message(self, format: str, *arguments: Any) -> None:
            """Tests are silent."""

    return Door
