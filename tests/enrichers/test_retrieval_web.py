import asyncio
import threading

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from headwater.enrichers.threads import Threads
from headwater.enrichers.web import Reading, conditions, routes
from headwater.lineage.errors import Behind, HeadwaterError, Misused, Unavailable


@pytest.fixture
def client(edge_world):
    edge_world.writer().index([
        edge_world.said("a", 1, "snow one"),
        edge_world.said("a", 2, "snow two", place="JFK", urgent=True),
        edge_world.said("b", 2, "snow three"),
    ])
    edge_world.progress.settle("notes", 0, 3)
    app = FastAPI()
    app.include_router(routes(edge_world.reader))
    return TestClient(app, raise_server_exceptions=True)


def test_get_and_post_answer_alike(client):
    """The same search by query string and by body: results, as_of, staleness; unknown staleness is null."""
    params = {"q": "snow two", "where": ["place=JFK", "urgent=true"], "after": "b/notes/0/2", "limit": 3}
    got = client.get("/v1/search", params=params).json()
    body = {"text": "snow two", "where": {"place": "JFK", "urgent": True}, "after": ["b/notes/0/2"], "limit": 3}
    assert got == client.post("/v1/search", json=body).json()
    assert [hit["text"] for hit in got["results"]] == ["snow two"]
    assert got["as_of"] == {"notes/0": 3} and got["staleness_ms"] is None and got["broker"] == "b"


def test_the_past_by_rfc_3339(client):
    """`as_of` asks for what was known then."""
    got = client.get("/v1/search", params={"q": "snow", "as_of": "1970-01-01T01:00:00Z"}).json()
    assert [hit["text"] for hit in got["results"]] == ["snow one"]


def test_documents_with_their_versions(client):
    """A document id contains a slash, and answers with its versions."""
    got = client.get("/v1/documents/note/a").json()
    assert [version["version"] for version in got["versions"]] == [2, 1]


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"q": "snow", "after": "b/notes/0/99", "wait": "0s"}, Behind),
        ({"q": "snow", "after": "nonsense"}, Misused),
        ({"q": "snow", "as_of": "yesterday"}, Misused),
        ({"q": "snow", "where": "place"}, Misused),
        ({"q": "snow", "max_staleness": "soon"}, Misused),
        ({}, Misused),
    ],
)
def test_errors_pass_through_as_themselves(client, params, error):
    """The router leaves errors to the server, which turns them into problems."""
    with pytest.raises(HeadwaterError) as raised:
        client.get("/v1/search", params=params)
    assert type(raised.value) is error


def test_values_in_a_query_string_match_as_text_and_as_what_they_read_as():
    """`n=1` matches the number and the text; a field given twice matches either."""
    assert conditions(["n=1", "place=EWR", "place=JFK", "late=true", "x=a=b"]) == {
        "n": ["1", 1], "place": ["EWR", "JFK"], "late": ["true", True], "x": ["a=b"],
    }  # fmt: skip


def test_every_wish_by_query_string_and_by_body(client):
    """What a body can wish for a query string can, ranges by their signs."""
    params = {
        "q": "snow", "where": ["place=EWR", "urgent=false"], "mode": "sparse", "recency": "1h", "group_by": "document", "per_document": 2,
        "neighbours": 1, "rerank": "false", "as_of": "1970-01-01T02:00:00Z", "partial": "true", "type": "note",
    }  # fmt: skip
    body = {
        "text": "snow", "where": {"place": "EWR", "urgent": False}, "mode": "sparse", "recency": "1h", "group_by": "document",
        "per_document": 2, "neighbours": 1, "rerank": False, "as_of": "1970-01-01T02:00:00Z", "partial": True, "types": ["note"],
    }  # fmt: skip
    got = client.get("/v1/search", params=params).json()
    assert got == client.post("/v1/search", json=body).json() and [hit["text"] for hit in got["results"]] == ["snow three"]


def test_bounds_in_a_query_string():
    """`>=`, `>`, `<=`, `<` make a range, of numbers where they read as such, else of times; a value beside them is refused."""
    assert conditions(["d>=30", "d<40.5", "at>2013-02-08T11:00:00Z", "x=a>b"]) == {
        "d": {"gte": 30, "lt": 40.5}, "at": {"gt": "2013-02-08T11:00:00Z"}, "x": ["a>b"],
    }  # fmt: skip
    for wrong in (["d=3", "d>3"], ["d>3", "d=3"], [">3"], ["d"]):
        with pytest.raises(Misused):
            conditions(wrong)


def test_a_batch_waits_once_and_answers_in_order(client):
    """Each search as if asked alone, beside one `as_of`; what one of them has wrong refuses all."""
    searches = [{"text": "snow two", "limit": 1}, {"text": "snow three", "limit": 1, "where": {"urgent": False}}]
    got = client.post("/v1/search/batch", json={"searches": searches, "after": ["b/notes/0/2"]}).json()
    assert [[hit["text"] for hit in each["results"]] for each in got["answers"]] == [["snow two"], ["snow three"]]
    assert got["as_of"] == {"notes/0": 3} and got["staleness_ms"] is None and got["too_new"] == 0
    for wrong in ([], [{"text": " "}], [{"text": "x", "where": {"nowhere": 1}}]):
        with pytest.raises(Misused):
            client.post("/v1/search/batch", json={"searches": searches[:1] + wrong if wrong else []})


def test_a_document_in_pages(client):
    """`limit` and `cursor` page through a document's versions."""
    first = client.get("/v1/documents/note/a", params={"limit": 1}).json()
    second = client.get("/v1/documents/note/a", params={"limit": 1, "cursor": first["next"]}).json()
    assert [page["versions"][0]["version"] for page in (first, second)] == [2, 1] and second["next"] is None


def asked_together(app, work):
    """What `work(client)` gives, with a client that asks the app without a socket."""

    async def run():
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.wait_for(work(client), 120)

    return asyncio.run(run())


def test_searches_answer_while_every_common_thread_hangs(edge_world):
    """Publishers that wait for a dead broker, and whatever else waits in the server's own threads, keep nobody from reading."""
    edge_world.writer().index([edge_world.said("a", 1, "snow one")])
    app, broker, hanging = FastAPI(), threading.Event(), threading.Semaphore(0)
    app.include_router(routes(edge_world.reader))

    @app.post("/publish")
    def publish():
        hanging.release()
        broker.wait(120)

    async def work(client):
        publishers = [asyncio.create_task(client.post("/publish")) for _ in range(60)]
        while not hanging.acquire(blocking=False):
            await asyncio.sleep(0.01)
        found = [await client.get("/v1/search", params={"q": "snow"}) for _ in range(3)]
        documents = await client.get("/v1/documents/note/a")
        done = [one for one in publishers if one.done()]
        broker.set()
        await asyncio.gather(*publishers)
        return [len(one.json()["results"]) for one in found], documents.status_code, done

    assert asked_together(app, work) == ([1, 1, 1], 200, [])


def test_searches_that_wait_hold_up_none_that_need_not(edge_world):
    """Those that wait for the index have a line of their own: beyond it they are refused, and all others answer."""
    edge_world.writer().index([edge_world.said("a", 1, "snow one")])
    app, line, taken = FastAPI(), Threads(2, 2), []

    class Line(Threads):
        async def run(self, work):
            taken.append(work)
            return await line.run(work)

    app.include_router(routes(edge_world.reader, Reading(waiting=Line())))
    late = {"text": "snow", "after": ["b/notes/0/0"], "wait": "60s"}

    async def work(client):
        waiting = [asyncio.create_task(client.post("/v1/search", json=late)) for _ in range(4)]
        while len(taken) < 4:
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="no more may wait"):
            await client.post("/v1/search", json=late)
        found = await client.post("/v1/search", json={"text": "snow"})
        still = [one.done() for one in waiting]
        edge_world.progress.settle("notes", 0, 1)
        answers = await asyncio.gather(*waiting)
        return len(found.json()["results"]), still, [one.json()["as_of"] for one in answers]

    assert asked_together(app, work) == (1, [False] * 4, [{"notes/0": 1}] * 4)
