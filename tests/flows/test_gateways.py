"""All ways in, in a running application: one event shape, found by search, accounted for; and a stop that is prompt."""

import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pydantic import BaseModel, Field

from headwater import App, Document, Drop, Poll, Schedule, Select, Topic, Webhook, document
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.drain import drain
from headwater.flows.settings import Settings
from headwater.flows.up import Up
from headwater.lineage.client import connect
from headwater.lineage.duration import format_time
from headwater.lineage.errors import Misused


class Note(BaseModel):
    id: str
    text: str


class Foreign(BaseModel):
    id: str = Field(alias="Nr")
    text: str = Field(alias="Body")


notes = Topic("notes", Note, key="id", partitions=2)


@document(notes)
def everything(note: Note, facts) -> Document:
    return Document(note.id, note.text)


@document(notes, select=Select(origin=("webhook/*", "drop/*")))
def foreign(note: Note, facts) -> Document:
    return Document(note.id, note.text)


class Feed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'[{"id": "polled", "text": "polled from afar"}]'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given) -> None: ...


@pytest.fixture
def feed():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Feed)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/feed"
    server.shutdown()
    server.server_close()


def application(root, feed: str) -> App:
    return App(
        "notes",
        documents=[everything, foreign],
        gateways=[
            Webhook("crm", into=notes, model=Foreign, secret="TEST_CRM_SECRET", id="Nr", priority="high"),
            Drop("inbox/*.csv", into=notes, settle="0s"),
            Schedule("* * * * *", into=notes, data={"id": "ticked", "text": "ticked at last"}),
            Poll(feed, into=notes, id="id"),
        ],
        root=root,
    )


def until(look):
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_every_way_in_gives_the_same_events(tmp_path, feed, monkeypatch):
    """By HTTP, webhook, file, schedule and polling: found by search, told apart by their origin, all accounted for, wrong rows included."""
    monkeypatch.setenv("TEST_CRM_SECRET", "s3cret")
    home = tmp_path / "home"
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.csv").write_text("id,text\ndropped,dropped here\nbroken\n")
    (home / "gateways").mkdir(parents=True)
    missed = format_time(time.time_ns() // 1000 - 600_000_000)
    (home / "gateways" / "schedule-notes.json").write_text(json.dumps({"schedule": "schedule/notes", "done": missed}))
    with (
        Up(application(tmp_path, feed), Settings(home=home, http_port=0), embedder=HashEmbedder()) as up,
        httpx.Client(base_url=up.address, timeout=90) as http,
    ):
        body = b'{"Nr": "called", "Body": "called by another"}'
        signed = {"x-signature": hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()}
        first, again = (http.post("/v1/webhooks/crm", content=body, headers=signed).json() for _ in range(2))
        assert first == again
        token = http.post("/v1/events/notes", json={"id": "posted", "text": "posted by hand"}).json()["token"]
        hits = http.get("/v1/search", params={"q": "posted by hand", "after": token, "limit": 1, "wait": "60s"}).json()["results"]
        assert [hit["document"] for hit in hits] == ["everything/posted"]

        def messages():
            return [message for p in (0, 1) for message in drain(up.run.kafka, "notes", p, 0)]

        wanted = {b"http", b"webhook/crm", b"drop/inbox", b"schedule/notes", b"poll/notes"}
        until(lambda: {dict(m.headers)["ce_origin"] for m in messages()} == wanted)
        until(lambda: connect(up.address).sql("select distinct document from documents")["document"].len() == 7)
        documents = set(connect(up.address).sql("select distinct document from documents")["document"])
        assert {name for name in documents if name.startswith("foreign")} == {"foreign/called", "foreign/dropped"}
        letters = until(lambda: connect(up.address).sql("select cause, error, flow from dead_letters").to_dicts())
        assert [(each["cause"], each["flow"]) for each in letters] == [("invalid", "gateway")]
        told = {each["gateway"]: each for each in http.get("/v1/gateways").json()}
        assert told["drop/inbox"]["files"] == 1 and told["drop/inbox"]["buried"] == 1 and told["poll/notes"]["trouble"] == ""
        assert http.get("/v1/verify").json()["offences"] == []
    assert up.undrained == []


def test_a_missing_secret_stops_the_start(tmp_path, feed, monkeypatch):
    """Misused, saying what to set, before anything listens."""
    monkeypatch.delenv("TEST_CRM_SECRET", raising=False)
    up = Up(application(tmp_path, feed), Settings(home=tmp_path / "home", http_port=0), embedder=HashEmbedder())
    with pytest.raises(Misused, match="set TEST_CRM_SECRET"):
        up.start()
    assert up.address == ""


def test_two_gateways_of_one_name_are_refused():
    """Their ids would be taken for each other's."""
    twice = [Schedule("* * * * *", into=notes, data={"id": "1", "text": "x"}) for _ in range(2)]
    with pytest.raises(Misused, match="two gateways are called 'schedule/notes'"):
        App("a", gateways=twice)


def test_a_large_file_is_published_as_a_stream(tmp_path, monkeypatch):
    """By the command line, with nothing of its size in memory: every line once; the last token is told. A wrong line is named."""
    from typer.testing import CliRunner

    import headwater.flows.publish_command as publish_command
    from headwater.flows.cli import cli

    monkeypatch.setattr(publish_command, "LARGE", 1000)
    monkeypatch.setattr(publish_command.is_stream, "__defaults__", (1000,))
    file = tmp_path / "many.ndjson"
    file.write_text("".join(f'{{"id": "n{n}", "text": "note {n}"}}\n' for n in range(3000)))
    app = App("notes", triggers=[], documents=[foreign], root=tmp_path)
    settings = Settings(home=tmp_path / "home", http_port=0, http_max_bytes=2000)
    with Up(app, settings, flows=("index", "audit"), embedder=HashEmbedder()) as up:
        told = CliRunner().invoke(cli, ["publish", "notes", str(file), "--url", up.address])
        assert told.exit_code == 0, told.output
        assert told.stdout.splitlines()[0] == "3000 events accepted" and len(told.stdout.splitlines()) == 3
        found = [json.loads(message.value)["id"] for p in (0, 1) for message in drain(up.run.kafka, "notes", p, 0)]
        assert sorted(found) == sorted(f"n{n}" for n in range(3000))
        file.write_text(file.read_text().replace('"n2500", "text"', '"n2500", "txet"'))
        told = CliRunner().invoke(cli, ["publish", "notes", str(file), "--url", up.address])
        assert told.exit_code != 0 and "line 2501" in (told.output + str(told.exception))
