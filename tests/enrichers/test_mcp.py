"""The MCP server in process, by both generations of the protocol, over a real index."""

import asyncio
import threading

import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client, MCPError

import headwater.enrichers.reading as reading
from headwater.enrichers.mcp import PAGE, _Served, address, server
from headwater.enrichers.offer import Argument, Listed, Offer, Prompt, Shelf, Told, Tool
from headwater.enrichers.threads import Threads
from headwater.enrichers.web import Search
from headwater.lineage.errors import Behind, DeadLettered, Forbidden, Gone, Misused, NotFound, Unavailable

GENERATIONS = ["legacy", "2026-07-28"]


class Nothing(pydantic.BaseModel):
    """No arguments."""


def run(offer, work, mode="2026-07-28"):
    """What `work` gives for a client of the offer."""

    async def go():
        async with Client(server(offer, name="test", version="1", threads=Threads(2, 2)), mode=mode) as client:
            try:
                return await work(client)
            except MCPError as error:  # raised inside, it would leave as a group
                return error

    answer = asyncio.run(go())
    if isinstance(answer, MCPError):
        raise answer
    return answer


def call(offer, name, arguments, mode="2026-07-28"):
    return run(offer, lambda client: client.call_tool(name, arguments), mode)


def refusing(error):
    def refuse(asked, request):
        raise error

    return Offer("", [Tool("refuse", "Refuse", "Refuses", Nothing, {}, refuse)])


@pytest.fixture
def notes(edge_world):
    edge_world.writer().index([
        edge_world.said("a/b %c", 1, "snow one"),
        edge_world.said("a/b %c", 2, "snow two", place="JFK", urgent=True),
        edge_world.said("b", 2, "snow three"),
    ])  # fmt: skip
    edge_world.progress.settle("notes", 0, 3)
    listed = [Listed("note/a/b %c", "a", ""), Listed("note/b", "b", "")]
    shelf = reading.shelf(edge_world.reader, lambda skip, many: listed[skip : skip + many])
    return Offer("about", reading.tools(edge_world.reader), [shelf])


@pytest.mark.parametrize("mode", GENERATIONS)
def test_search_answers_data_and_text(notes, mode):
    """Both forms of an answer carry the results and how fresh they are, to clients of either generation."""
    answer = call(notes, "search", {"text": "snow two", "where": {"place": "JFK"}, "after": ["b/notes/0/2"], "limit": 3}, mode)
    assert not answer.is_error
    assert [one["text"] for one in answer.structured_content["results"]] == ["snow two"]
    assert answer.structured_content["as_of"] == {"notes/0": 3} and answer.structured_content["staleness_ms"] is None
    text = answer.content[0].text
    assert all(part in text for part in ("note/a/b %c", "snow two", "place=JFK", "notes/0@3", "not known"))


def test_what_comes_with_a_result_is_told_in_its_order(monkeypatch, notes):
    """Neighbours stand before and after their chunk as in the document; what is missing from the answer is named."""
    hit = {"document": "note/x", "n": 1, "text": "middle", "neighbours": [{"n": 0, "text": "first"}, {"n": 2, "text": "last"}]}
    fresh = {"as_of": {"notes/0": 3}, "broker": "b", "staleness_ms": 4.0, "retrying": ["notes/0@1"], "too_new": 2}
    monkeypatch.setattr(reading, "answer", lambda retriever, asked: {"results": [hit], **fresh})
    text = call(notes, "search", {"text": "x"}).content[0].text
    assert text.index("first") < text.index("middle") < text.index("last")
    assert "notes/0@1" in text and "2 documents were left out" in text and "4 ms" in text


def test_every_option_of_the_http_search_is_an_argument(notes):
    """The tool's arguments are the model of POST /v1/search itself, each described."""
    [search] = [tool for tool in run(notes, lambda client: client.list_tools()).tools if tool.name == "search"]
    assert search.input_schema["properties"].keys() == Search.model_fields.keys()
    assert all(reading.ABOUT[name] for name in ("text", "limit", "where", "types", "after", "wait", "max_staleness", "as_of"))
    assert search.input_schema["required"] == ["text"]


def test_answers_keep_to_their_schemas(notes):
    """What is answered, and what is refused, is valid by the tool's own output schema."""
    schemas = {tool.name: tool.output_schema for tool in run(notes, lambda client: client.list_tools()).tools}
    asked = [("search", {"text": "snow"}), ("get_document", {"id": "note/b"}), ("search", {}), ("get_document", {"id": "no"})]
    for name, arguments in asked:
        jsonschema.validate(call(notes, name, arguments).structured_content, schemas[name])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"results": []}, schemas["search"])


def test_a_document_tells_its_versions_and_freshness(notes):
    """get_document: current text, versions before it, how fresh; it waits for a token like a search."""
    answer = call(notes, "get_document", {"id": "note/a/b %c", "after": ["b/notes/0/1"]})
    assert [version["version"] for version in answer.structured_content["versions"]] == [2, 1]
    assert answer.structured_content["as_of"] == {"notes/0": 3}
    assert answer.content[0].text.index("snow two") < answer.content[0].text.index("Before that") < answer.content[0].text.index("snow one")
    late = call(notes, "get_document", {"id": "note/b", "after": ["b/notes/0/3"], "wait": "0s"})
    assert late.is_error and late.structured_content["type"] == "urn:headwater:behind"


REFUSED = [
    ({"text": "snow", "after": ["b/notes/0/99"], "wait": "0s"}, "behind"),
    ({"text": "snow", "after": ["c/notes/0/0"]}, "gone"),
    ({"text": "snow", "after": ["nonsense"]}, "misused"),
    ({"text": "snow", "wait": "1h"}, "misused"),
    ({"text": " "}, "misused"),
    ({"text": "snow", "limit": "many"}, "misused"),
    ({"text": "snow", "colour": "red"}, "misused"),
    ({}, "misused"),
]


@pytest.mark.parametrize("mode", GENERATIONS)
def test_a_refusal_is_the_tools_answer(notes, mode):
    """Whatever is wrong with a call is told to the model as data and in words, never as an error of the protocol."""

    async def work(client):
        return [await client.call_tool("search", arguments) for arguments, _ in REFUSED]

    for answer, (arguments, cause) in zip(run(notes, work, mode), REFUSED, strict=True):
        assert answer.is_error and answer.structured_content["type"] == f"urn:headwater:{cause}", arguments
        assert answer.structured_content["detail"] in answer.content[0].text


@pytest.mark.parametrize(
    ("error", "then"),
    [
        (Behind("late", retry_after=5), "retry_after"),
        (Gone("of another life"), "leave it out"),
        (DeadLettered("dead", id="x"), "`why`"),
        (NotFound("no such"), "`search`"),
        (Misused("wrong"), "Mend"),
        (Unavailable("down", retry_after=7), "in 7 s"),
        (Forbidden("no"), "forbidden"),
    ],
)
def test_a_refusal_says_what_next(error, then):
    """Every kind of error names the next step; its details come along."""
    answer = call(refusing(error), "refuse", {})
    assert then in answer.content[0].text
    assert error.details.items() <= answer.structured_content.items()


def test_a_defect_tells_nothing_of_the_inside():
    """What we did not foresee is an answer without trace or text of the exception."""
    answer = call(refusing(RuntimeError("secret at line 7")), "refuse", {})
    assert answer.is_error and answer.structured_content["status"] == 500
    assert "secret" not in msgspec.json.encode(answer.model_dump(mode="json")).decode()


def test_unknown_names_are_errors_of_the_protocol(notes):
    """A tool, prompt, address or cursor that is not there: invalid params, and what there is."""
    for work, told in (
        (lambda client: client.call_tool("nothing", {}), "search, get_document"),
        (lambda client: client.get_prompt("nothing", {}), "no prompt"),
        (lambda client: client.read_resource("headwater://documents/note/none"), "not found"),
        (lambda client: client.read_resource("headwater://nothing/note"), "headwater://documents/ID"),
        (lambda client: client.read_resource("file:///etc/passwd"), "headwater://documents/ID"),
        (lambda client: client.list_resources(cursor="documents:-1"), "no cursor"),
        (lambda client: client.list_resources(cursor="documents:99999999999999999999999"), "no cursor"),
    ):
        with pytest.raises(MCPError, match=told) as raised:
            run(notes, work)
        assert raised.value.code == -32602


@pytest.mark.parametrize("mode", GENERATIONS)
def test_listed_documents_can_be_read(notes, mode):
    """Every address that a list gives leads to the thing, as text and as JSON, whatever characters its id has."""

    async def work(client):
        listed = (await client.list_resources()).resources
        return {one.name: await client.read_resource(one.uri) for one in listed}

    read = run(notes, work, mode)
    assert read.keys() == {"note/a/b %c", "note/b"}
    for name, answer in read.items():
        text, data = answer.contents
        assert (text.mime_type, data.mime_type) == ("text/plain", "application/json")
        assert msgspec.json.decode(data.text)["id"] == name and name in text.text


@given(st.text(min_size=1))
def test_addresses_lead_back_to_their_ids(id):
    """Any id, written as an address, is read as itself."""
    shelf = Shelf("things", "", "", lambda id: Told({}, id), lambda skip, many: [])
    _, found = _Served(Offer("", shelves=[shelf]), Threads())._place(address("things", id))
    assert found == id


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3 * PAGE), min_size=1, max_size=3))
def test_pages_tell_everything_once(sizes):
    """However many things lie on how many shelves: page after page, each once, in order, no page above its size."""

    def shelf(number, size):
        ids = [f"{number}-{n}" for n in range(size)]
        listed = [Listed(id, "", "") for id in ids]
        return Shelf(f"s{number}", "", "", lambda id: Told({}, id), lambda skip, many: listed[skip : skip + many])

    offer = Offer("", shelves=[shelf(number, size) for number, size in enumerate(sizes)])

    async def work(client):
        names, cursor = [], None
        while True:
            page = await client.list_resources(cursor=cursor)
            assert len(page.resources) <= PAGE
            names += [one.name for one in page.resources]
            cursor = page.next_cursor
            if cursor is None:
                return names

    assert run(offer, work) == [f"{number}-{n}" for number, size in enumerate(sizes) for n in range(size)]


def test_prompts_are_written_for_their_arguments():
    """A prompt's texts are the user's messages; a missing argument is refused by name, a refusal inside as well."""

    def write(given):
        if given["about"] == "nothing":
            raise NotFound("nothing at all")
        return [f"tell me of {given['about']}", "now"]

    named = [Argument("about", "of what"), Argument("more", "", required=False)]
    offer = Offer("", prompts=[Prompt("tell", "Tell", "Tells", named, write)])
    messages = run(offer, lambda client: client.get_prompt("tell", {"about": "snow"})).messages
    assert [(one.role, one.content.text) for one in messages] == [("user", "tell me of snow"), ("user", "now")]
    for given_, told in (({}, "needs about"), ({"about": " "}, "needs about"), ({"about": "nothing"}, "nothing at all")):
        with pytest.raises(MCPError, match=told):
            run(offer, lambda client, given_=given_: client.get_prompt("tell", given_))


def test_more_calls_than_may_wait_are_refused():
    """Beyond its threads and its line a call is refused at once, and those before it are answered."""
    go = threading.Event()

    def slow(asked, request):
        go.wait(30)
        return Told({"notes": []}, "done")

    offer = Offer("", [Tool("slow", "", "", Nothing, {}, slow)])

    async def work(client):
        held = [asyncio.create_task(client.call_tool("slow", {})) for _ in range(5)]
        [refused], held = await asyncio.wait(held, timeout=25, return_when=asyncio.FIRST_COMPLETED)  # before any of the others may go
        assert refused.result().structured_content["type"] == "urn:headwater:unavailable"
        go.set()
        return [one.is_error for one in await asyncio.gather(*held)]

    assert run(offer, work) == [False] * 4


def test_long_answers_are_cut_with_a_note(edge_world):
    """A document too long for a model's window is cut, and says so in both forms."""
    edge_world.writer().index([edge_world.said(str(n), 1, "snow " + "deep " * 400) for n in range(60)])
    edge_world.progress.settle("notes", 0, 60)
    answer = call(Offer("", reading.tools(edge_world.reader)), "search", {"text": "snow", "limit": 500})
    assert len(answer.content[0].text) < 90_000 and len(msgspec.json.encode(answer.structured_content)) < 120_000
    assert answer.structured_content["notes"] and answer.structured_content["notes"][0] in answer.content[0].text
