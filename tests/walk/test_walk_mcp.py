"""The MCP doors of a running application: `/mcp` by both generations of the protocol, and standard input and output."""

import asyncio
import os
import sys

import httpx
import msgspec
import pytest
from mcp import Client, MCPError, StdioServerParameters

from headwater.flows.limits import Rate
from headwater.lineage.ask import QUESTIONS

GENERATIONS = {"legacy": "2025-11-25", "auto": "2026-07-28"}
HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def talk(lake, work, mode="2026-07-28", server=None):
    """What `work` gives for a client of the running application."""

    async def go():
        async with Client(server or f"{lake.up.address}/mcp", mode=mode) as client:
            try:
                return await work(client)
            except MCPError as error:  # raised inside, it would leave as a group
                return error

    answer = asyncio.run(go())
    if isinstance(answer, MCPError):
        raise answer
    return answer


def stdio(lake):
    arguments = ["-m", "headwater", "mcp", "--home", str(lake.up.settings.home)]
    return StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))


async def told(client, gauge, number):
    """Publish a reading and search with its token: the text of what is found."""
    reading = {"id": f"mcp-{number}", "gauge": gauge, "metres": 0.5}
    published = await client.call_tool("publish_event", {"topic": "readings", "data": reading})
    assert not published.is_error, published.content[0].text
    question = {"text": gauge, "after": [published.structured_content["token"]], "where": {"gauge": gauge}}
    answer = await client.call_tool("search", question)
    assert answer.structured_content["as_of"] and "staleness_ms" in answer.structured_content
    return [one["text"] for one in answer.structured_content["results"]]


@pytest.mark.parametrize("mode", GENERATIONS)
def test_what_a_model_publishes_it_finds(lake, mode):
    """Read-your-writes over MCP: published, searched for with the token, found, every time."""
    gauge = lake.gauge()

    async def work(client):
        assert client.protocol_version == GENERATIONS[mode]
        return [await told(client, gauge, number) for number in range(10)]

    for number, texts in enumerate(talk(lake, work, mode)):
        assert len(texts) == 1 and texts[0].endswith(f"says mcp-{number}.")


@pytest.mark.parametrize("mode", GENERATIONS)
def test_standard_input_and_output_hand_on_everything(lake, mode):
    """`headwater mcp` serves what /mcp serves, to clients of both generations: tools, resources, prompts, refusals."""
    gauge = lake.gauge()

    async def work(client):
        assert client.protocol_version == GENERATIONS[mode]
        names = [tool.name for tool in (await client.list_tools()).tools]
        texts = await told(client, gauge, 0)
        gone = await client.call_tool("search", {"text": "x", "after": ["other/readings/0/0"]})
        read = await client.read_resource(f"headwater://documents/level/{gauge}")
        listed = [one.uri for one in (await client.list_resources()).resources]
        templates = [one.uri_template for one in (await client.list_resource_templates()).resource_templates]
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        brief = await client.get_prompt("brief_me", {"about": gauge})
        with pytest.raises(MCPError, match="no tool"):
            await client.call_tool("nothing", {})
        return client.instructions, names, texts, gone, read, listed, templates, prompts, brief

    instructions, names, texts, gone, read, listed, templates, prompts, brief = talk(lake, work, mode, stdio(lake))
    assert "publish_event" in instructions
    assert names == ["search", "get_document", "why", "ask", "publish_event"]
    assert len(texts) == 1
    assert gone.is_error and gone.structured_content["status"] == 410
    assert gauge in read.contents[0].text and msgspec.json.decode(read.contents[1].text)["id"] == f"level/{gauge}"
    assert "headwater://topics/readings" in listed and "headwater://documents/{+id}" in templates
    assert prompts == ["explain_decision", "brief_me"]
    assert gauge in brief.messages[1].content.text


def test_an_id_counts_once_over_mcp_too(lake):
    """The same id and data again: the same token; other data under it: a conflict; both as over HTTP."""
    gauge = lake.gauge()
    event = {"topic": "readings", "id": f"once-{gauge}", "data": {"id": "a", "gauge": gauge, "metres": 0.1}}

    async def work(client):
        first, again = [await client.call_tool("publish_event", event) for _ in range(2)]
        other = await client.call_tool("publish_event", {**event, "data": {**event["data"], "metres": 0.2}})
        return first, again, other

    first, again, other = talk(lake, work)
    assert first.structured_content == again.structured_content
    assert other.is_error and other.structured_content["type"] == "urn:headwater:conflict"


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        ({"topic": "readings", "data": {"id": "x", "gauge": "g", "metres": -1}}, "invalid"),
        ({"topic": "nothing", "data": {}}, "not_found"),
        ({"topic": "headwater.activations", "data": {}}, "not_found"),
        ({"topic": "readings", "data": {"id": "x", "gauge": "g", "metres": 1}, "time": "2999-01-01T00:00:00Z"}, "invalid"),
        ({"topic": "readings", "data": {"id": "x", "gauge": "g", "metres": 1}, "time": "soon"}, "invalid"),
        ({"topic": "readings", "data": [1]}, "misused"),
        ({"topic": "readings"}, "misused"),
    ],
)
def test_what_may_not_be_published_is_refused(lake, event, cause):
    """The gateway's checks hold for models: nothing is published, and the model is told why."""
    answer = talk(lake, lambda client: client.call_tool("publish_event", event))
    assert answer.is_error and answer.structured_content["type"] == f"urn:headwater:{cause}", answer.content[0].text


def test_the_limits_of_the_http_door_hold(lake, monkeypatch):
    """One address may publish so much, by whichever door; beyond it the tool says when to come again."""
    monkeypatch.setattr(lake.up._desk, "rate", Rate(0.001, 2, lambda: 0))
    event = {"topic": "readings", "data": {"id": "x", "gauge": lake.gauge(), "metres": 0.1}}

    async def work(client):
        return [await client.call_tool("publish_event", event) for _ in range(3)]

    *taken, refused = talk(lake, work)
    assert not any(one.is_error for one in taken)
    assert refused.structured_content["type"] == "urn:headwater:limited" and refused.structured_content["retry_after"] > 1
    assert lake.http.post("/v1/events/readings", json=event["data"]).status_code == 429


def test_why_and_decisions_for_a_model(lake, eventually):
    """From a published event to the decision it led to: why by its token, the decision by its address, a prompt with its record."""
    gauge = lake.gauge()
    token = lake.publish(id="mcp-high", gauge=gauge, metres=3.2)
    [row] = eventually(lambda: lake.sql(f"select id from decisions where key = '{gauge}' and agent = 'warn' and outcome = 'acted'"))

    async def work(client):
        path = await client.call_tool("why", {"id": token})
        read = await client.read_resource(f"headwater://decisions/{row['id']}")
        uris, cursor = [], None
        while True:
            page = await client.list_resources(cursor=cursor)
            uris += [one.uri for one in page.resources]
            cursor = page.next_cursor
            if cursor is None:
                break
        return path, read, uris, await client.get_prompt("explain_decision", {"id": row["id"]})

    path, read, uris, explain = talk(lake, work)
    assert row["id"] in {one["id"] for one in path.structured_content["decisions"]}
    assert all(part in read.contents[0].text for part in ("warn@1", "by the level", "says mcp-high."))
    assert msgspec.json.decode(read.contents[1].text)["kind"] == "decision"
    assert {f"headwater://decisions/{row['id']}", f"headwater://documents/level/{gauge}", "headwater://topics/alarms"} <= set(uris)
    assert row["id"] in explain.messages[0].content.text and explain.messages[1].content.text == read.contents[0].text
    for id, told_ in ((token, "no decision"), ("nothing-of-the-kind", "no record")):
        with pytest.raises(MCPError, match=told_):
            talk(lake, lambda client, id=id: client.read_resource(f"headwater://decisions/{id}"))


def test_every_named_question_is_answered_for_a_model(lake, eventually):
    """All of them over MCP, with the rows that HTTP gives; what is wrong is told as the tool's answer, with what to do."""
    gauge = lake.gauge()
    lake.publish(id="mcp-asked", gauge=gauge, metres=3.3)
    [row] = eventually(lambda: lake.sql(f"select id from decisions where key = '{gauge}' and agent = 'warn' and outcome = 'acted'"))
    of = {"trace": [row["id"]], "history": [f"level/{gauge}"], "compare": [row["id"], row["id"][:13]]}
    wrong = [("trace", []), ("history", ["nobody"]), ("compare", [row["id"]]), ("cost", ["x"]), ("nonsense", []), ("trace", ["' or 1=1"])]

    async def work(client):
        [tool] = [tool for tool in (await client.list_tools()).tools if tool.name == "ask"]
        answers = {name: await client.call_tool("ask", {"question": name, "ids": of.get(name, [])}) for name in QUESTIONS}
        return tool, answers, [await client.call_tool("ask", {"question": name, "ids": ids}) for name, ids in wrong]

    tool, answers, refused = talk(lake, work)
    assert tool.input_schema["properties"]["question"]["enum"] == list(QUESTIONS) and tool.annotations.read_only_hint
    for name, answer in answers.items():
        assert not answer.is_error and answer.structured_content["count"] == len(answer.structured_content["rows"]) > 0, name
    for name, ids in of.items():
        asked = lake.http.get(f"/v1/ask/{name}", params={"id": ids}).json()["rows"]
        assert answers[name].structured_content["rows"] == asked
    assert "3.3" in answers["history"].content[0].text
    assert all(one.is_error and one.content[0].text for one in refused)


def test_a_topic_tells_what_its_events_look_like(lake):
    """The address of a topic gives the JSON Schema that publish_event is held to."""
    text, data = talk(lake, lambda client: client.read_resource("headwater://topics/readings")).contents
    assert msgspec.json.decode(data.text)["schema"]["properties"]["metres"]["minimum"] == 0 and "keyed by gauge" in text.text


def test_strangers_are_refused(lake):
    """Another Host (421) or a foreign page's Origin (403) reaches nothing; what is too large is not read; no stream stands open."""

    def post(body=b"{}", **headers):
        return httpx.post(f"{lake.up.address}/mcp", content=body, headers={**HEADERS, **headers}, timeout=30)

    assert post(host="evil.example").status_code == 421
    assert post(origin="https://evil.example").status_code == 403
    assert post(b" " * (lake.up.settings.http_max_bytes + 1)).status_code == 413
    assert post(b"no json").status_code == 400
    answers = [httpx.request(method, f"{lake.up.address}/mcp", headers=HEADERS, timeout=30) for method in ("GET", "DELETE")]
    assert [answer.status_code for answer in answers] == [405, 405]
    assert lake.http.get("/healthz").status_code == 200
