import asyncio
import contextlib
import os
import sys
import threading

import httpx
import msgspec
import polars as pl
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from headwater.lineage.answering import READERS, answer
from headwater.lineage.client import connect
from headwater.lineage.errors import Forbidden, HeadwaterError, Misused, NotFound, Unavailable
from headwater.lineage.giving_way import NICE
from headwater.lineage.prov import prov_of
from headwater.lineage.queries import why
from headwater.lineage.store import Store
from headwater.lineage.testing import landings, name, sample_records
from headwater.lineage.web import routes

DECISION = name("decision")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("web") / "lineage.duckdb", clock=lambda: 1) as opened:
        opened.land(landings(sample_records()))
        yield opened


@pytest.fixture(scope="module")
def http(store):
    app = FastAPI()
    app.include_router(routes(lambda: store, time_limit_s=2))

    @app.exception_handler(HeadwaterError)
    async def problem(request: Request, error: HeadwaterError) -> JSONResponse:
        return JSONResponse({"title": error.cause, "detail": str(error)}, error.status)

    return TestClient(app)


@pytest.fixture
def remote(http):
    def forward(request: httpx.Request) -> httpx.Response:
        answer = http.request(request.method, str(request.url.raw_path, "ascii"), content=request.content, headers=dict(request.headers))
        return httpx.Response(answer.status_code, content=answer.content, headers={"content-type": answer.headers["content-type"]})

    with connect("http://headwater.test", transport=httpx.MockTransport(forward)) as lineage:
        yield lineage


def test_sql_is_polars_over_http_and_from_the_file(remote, tmp_path):
    """The same SQL gives the same frame from a running system over HTTP and from a stopped one's file."""
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        store.land(landings(sample_records()))
    query = "select * from documents order by log_offset"
    with connect(tmp_path / "lineage.duckdb") as lineage:
        frame = lineage.sql(query)
        assert frame.height == 12 and frame.schema["time"] == pl.Datetime("us", "UTC")
        assert frame.equals(remote.sql(query))
        assert lineage.why(DECISION) == remote.why(DECISION)
        with pytest.raises(Forbidden):
            lineage.sql("delete from records")


def test_an_empty_answer_keeps_its_columns(remote):
    """A query without rows answers a frame with its columns; a large one comes whole."""
    assert remote.sql("select agent, confidence from decisions where false").columns == ["agent", "confidence"]
    assert remote.sql("select range as n from range(50000)")["n"].sum() == 50000 * 49999 // 2


@pytest.mark.parametrize(
    ("query", "error"), [("delete from records", Forbidden), ("select nothing", Misused), ("from read_csv('x')", Forbidden), ("", Misused)]
)
def test_refusals_come_back_as_what_they_are(remote, query, error):
    """The client raises what the server raised."""
    with pytest.raises(error):
        remote.sql(query)


def test_a_query_that_takes_too_long_is_unavailable(remote):
    """A query beyond the server's time limit is refused as such."""
    with pytest.raises(Unavailable):
        remote.sql("select sum(a.range * b.range) from range(100000000) a, range(100000000) b")


def test_why_of_any_id(http, remote, store):
    """GET /v1/why answers the path as JSON, ids with slashes included, and as a page."""
    assert msgspec.convert(http.get(f"/v1/why/{DECISION}").json(), type(why(store, DECISION))) == why(store, DECISION)
    assert remote.why("2013-02-08-EWR-UA-1503/cancelled").kind == "event"
    assert http.get("/v1/why/flights/0@3").json()["kind"] == "position"
    page = http.get(f"/v1/why/{DECISION}", params={"format": "html"})
    assert page.headers["content-type"].startswith("text/html") and "rebook passengers" in page.text
    with pytest.raises(NotFound):
        remote.why("nothing-of-the-kind")


@pytest.mark.parametrize("id", ["../decisions", "../sql", "../../etc/passwd", "..", "a/../../b", "%2e%2e/verify", "?format=html", "a#b"])
def test_an_id_is_never_another_question(remote, id):
    """Whatever stands in an id, `why` is asked, and says that nothing is called so."""
    with pytest.raises(NotFound, match="no record names"):
        remote.why(id)


def test_an_answer_that_breaks_off_is_told_as_such():
    """A query whose time is up while its answer is on its way: not that nobody answers, but that the answer broke off."""

    def breaks(request):
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    with connect("http://headwater.test", transport=httpx.MockTransport(breaks)) as lineage, pytest.raises(Unavailable, match="broke off"):
        lineage.sql("from range(1000000000)")


def test_a_form_that_is_not_there_is_refused(http):
    """`why` answers as JSON or as a page, and takes no other form for either."""
    assert http.get(f"/v1/why/{DECISION}?format=html").headers["content-type"].startswith("text/html")
    assert http.get(f"/v1/why/{DECISION}?format=xml").status_code == 422


def test_provenance_of_a_decision_and_of_what_has_none(http, store):
    """GET /v1/decisions/{id}/prov answers PROV-JSON for any id that a decision hangs on; else the problem says what to give instead."""
    assert http.get(f"/v1/decisions/{DECISION}/prov").json() == prov_of(why(store, DECISION))
    refused = http.get("/v1/decisions/2013-02-08-EWR-UA-1503/prov")
    assert refused.status_code == 400 and "no decision hangs on" in refused.json()["detail"]


def test_decisions_are_listed_and_read(http):
    """GET /v1/decisions filters; one decision comes with its whole path; what is no decision is 404."""
    listed = http.get("/v1/decisions", params={"agent": "recover", "limit": 5}).json()["decisions"]
    assert [(one["id"], one["key"], one["outcome"]) for one in listed] == [(DECISION, "EWR", "acted")]
    assert http.get("/v1/decisions", params={"outcome": "waiting"}).json() == {"decisions": []}
    assert http.get(f"/v1/decisions/{DECISION}").json()["activation"]["rule"] == "cancellations"
    assert http.get(f"/v1/decisions/{DECISION}/why").json()["id"] == DECISION
    assert http.get(f"/v1/decisions/{name('activation')}").status_code == 404
    page = http.get(f"/decisions/{DECISION}")
    assert page.headers["content-type"].startswith("text/html") and page.text == http.get(f"/v1/why/{DECISION}?format=html").text
    assert http.get(f"/decisions/{name('activation')}").status_code == 404
    assert f'href="/decisions/{DECISION}"' in http.get("/").text
    assert http.get("/v1/decisions", params={"limit": 0}).status_code == 422


def test_verify_over_http(http):
    """GET /v1/verify answers the verdict."""
    verdict = http.get("/v1/verify", params={"in_flight_ok": False}).json()
    assert verdict["ok"] is True and verdict["totals"]["index"] == {"indexed": 12, "dead_lettered": 1}


def test_connecting_to_nothing_says_so(tmp_path):
    """No file and no server are different errors, each saying what to do."""
    with pytest.raises(NotFound, match="no lineage file"):
        connect(tmp_path / "none.duckdb")

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unavailable, match="is headwater running"):
        connect("http://headwater.test", transport=httpx.MockTransport(refuse)).sql("select 1")


ENDLESS = "select sum(a.range * b.range) from range(100000000) a, range(100000000) b"
LONG = "select a.range, b.range from range(100000000) a, range(100000000) b"


@pytest.mark.parametrize("query", [ENDLESS, LONG])
def test_a_client_that_goes_away_ends_its_query(query, tmp_path):
    """Before the answer begins as well as in the midst of it: the query computes no further, and its cursor is let go."""
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        app = FastAPI()
        app.include_router(routes(lambda: store, time_limit_s=3600))
        asked = [{"type": "http.request", "body": msgspec.json.encode({"query": query}), "more_body": False}]
        sent = []

        async def receive():
            if asked:
                return asked.pop()
            while query is LONG and len(sent) < 3:
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"spec_version": "2.3"}, "http_version": "1.1", "method": "POST", "path": "/v1/sql",
            "query_string": b"", "headers": [(b"content-type", b"application/json")], "client": None, "server": None,
            "scheme": "http", "root_path": "",
        }  # fmt: skip
        with contextlib.suppress(Unavailable):
            asyncio.run(app(scope, receive, send))
        with store._gate.alone(60):
            assert all(message.get("status", 200) in (200, 500) for message in sent)


def test_an_answer_whose_time_is_up_ends_before_it_is_whole(store):
    """The stream breaks off unfinished, so that no reader takes it for all, and nothing is raised into the server."""
    app = FastAPI()
    app.include_router(routes(lambda: store, time_limit_s=2))
    sent, asked = [], [{"type": "http.request", "body": msgspec.json.encode({"query": "from range(100000000000)"}), "more_body": False}]

    async def receive():
        return asked.pop() if asked else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)
        await asyncio.sleep(0.02)  # a reader that takes its time: two seconds of a fast machine's rows would fill its memory

    scope = {
        "type": "http", "asgi": {"spec_version": "2.4"}, "http_version": "1.1", "method": "POST", "path": "/v1/sql", "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "client": None, "server": None, "scheme": "http", "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200 and len(sent) > 1 and all(message["more_body"] for message in sent[1:])


def test_a_server_that_stops_ends_the_query_that_has_not_begun_to_answer(store):
    """A request that is cancelled while its query computes takes the query with it, or the process would not end before it."""
    begun = threading.Event()

    class Waiting:
        async def is_disconnected(self) -> bool:
            begun.set()
            return False

    async def stopped() -> None:
        asking = asyncio.create_task(answer(Waiting(), store, ENDLESS, 3600))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(stopped())
    with store._gate.alone(60):
        assert begun.is_set()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_queries_compute_in_threads_that_give_way(remote):
    """Who asks does not slow who lands: every thread that computes an answer gives way, and no other does."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert remote.sql("SELECT count(*) > 0 AS some FROM records")["some"].to_list() == [True]
    readers = [thread for thread in threading.enumerate() if thread.name.startswith(READERS)]
    assert readers and all(os.getpriority(os.PRIO_PROCESS, thread.native_id) >= NICE for thread in readers)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
