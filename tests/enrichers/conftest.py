import os
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from qdrant_client import QdrantClient

from headwater.enrichers.document import Delete, Document, DocumentType
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.engine import Index
from headwater.enrichers.freshness import Progress
from headwater.enrichers.index import Indexer
from headwater.enrichers.qdrant import QdrantIndex, connect
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.testing import HashEmbedder
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

HOUR = 3_600_000_000
SERVER = os.environ.get("HEADWATER_TEST_QDRANT")


class Note(BaseModel):
    id: str
    version: int = 0
    text: str | None = None
    place: str = "EWR"
    urgent: bool = False


NOTES: Topic[Note] = Topic("notes", Note, key="id")


def _document(note: Note, facts: Any) -> Document | Delete | None:
    if note.text is None:
        return Delete(note.id)
    if note.text == "nothing to say":
        return None
    if note.text == "boom":
        raise ValueError("boom")
    return Document(note.id, note.text, {"place": note.place, "urgent": note.urgent})


NOTE = DocumentType("note", NOTES, _document, "version")


class World:
    """One index with writers and readers over it."""

    topic = NOTES

    def __init__(self, index: Index) -> None:
        self.index = index
        self.embedder = HashEmbedder(index.size)
        self.progress = Progress("b", lambda: 0, ["notes"])
        self.offset = -1

    def renew(self) -> None:
        """An empty index where that costs nothing: the client's local mode slows down with every point it ever held."""
        if isinstance(self.index, QdrantIndex) and not SERVER:
            self.index.close()
            self.index = QdrantIndex(QdrantClient(":memory:"), "notes", self.index.size)

    def writer(self, **options: Any) -> Indexer:
        return Indexer(self.index, self.embedder, [NOTE], clock=lambda: 1_000, **options)

    def reader(self) -> Retriever:
        return Retriever(self.index, self.embedder, self.progress)

    def said(
        self, id: str, version: int, text: str | None, *, event: str | None = None, time: int | None = None, **fields: Any
    ) -> Received:
        """An event about a note; by default at event time `version` hours."""
        self.offset += 1
        note = Note(id=id, version=version, text=text, **fields)
        name = event or f"{id}-{version}-{text}"
        when = version * HOUR if time is None else time
        return Received(Position("b", "notes", 0, self.offset), Event(id=name, source="s", type="t", time=when), note, 5)

    def texts(self, query: str, **options: Any) -> list[str]:
        return [hit.text for hit in self.reader().search(query, **options).results]


def _edge(path: Path) -> Index:
    return EdgeIndex(path / "index", 16)


def _memory(path: Path) -> Index:
    return QdrantIndex(QdrantClient(":memory:"), "notes", 16)


def _server(path: Path) -> Index:
    assert SERVER
    return connect(SERVER, f"test-{uuid.uuid4()}", size=16)


def _grpc(path: Path) -> Index:
    assert SERVER
    return connect(SERVER, f"test-{uuid.uuid4()}", size=16, grpc_port=int(os.environ.get("HEADWATER_TEST_QDRANT_GRPC", "6334")))


ENGINES: dict[str, Callable[[Path], Index]] = {"edge": _edge, "memory": _memory} | ({"server": _server, "grpc": _grpc} if SERVER else {})


@pytest.fixture(params=list(ENGINES))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    index = ENGINES[request.param](tmp_path)
    world = World(index)
    yield world
    world.index.close()


@pytest.fixture
def edge_world(tmp_path: Path) -> Iterator[World]:
    world = World(_edge(tmp_path))
    yield world
    world.index.close()


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[[], World]]:
    """Makes one empty world after another."""
    made: list[World] = []

    def make() -> World:
        made.append(World(_edge(tmp_path / str(len(made)))))
        return made[-1]

    yield make
    for world in made:
        world.index.close()


class Service:
    """An HTTP server on loopback: `answer(method, path, body, headers)` gives (status, body, headers); `asked` lists the paths."""

    def __init__(self) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                service.asked.append(self.path)
                status, answer, headers = service.answer(self.command, self.path, body, self.headers)
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _serve

            def log_message(self, *args: Any) -> None:
                pass

        self.asked: list[str] = []
        self.answer: Callable[[str, str, bytes, Any], tuple[int, bytes, dict[str, str]]] = lambda *told: (200, b"{}", {})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()
