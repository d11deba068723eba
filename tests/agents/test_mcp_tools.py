"""McpServer: the tools of a real MCP server, over standard input and output and over HTTP."""

import asyncio
import json
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import mcp_weather
import pytest
import uvicorn
from mcp_weather import CALLS, server

from headwater.agents.fate import fate_of
from headwater.agents.mcp_tools import McpServer
from headwater.lineage.errors import EffectFailed, Invalid, Limited, Misused, Unavailable

PROGRAM = str(Path(mcp_weather.__file__))
KEY = "s3cret-of-the-weather"


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    """What the server says of its tools, pinned over standard input and output."""
    file = tmp_path_factory.mktemp("pins") / "weather.tools.json"
    McpServer("weather", file, command=[sys.executable, PROGRAM]).pin()
    return file


@pytest.fixture(scope="module")
def address():
    made = uvicorn.Server(uvicorn.Config(server().streamable_http_app(), port=0, log_level="warning"))
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    while not made.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{made.servers[0].sockets[0].getsockname()[1]}/mcp"
    made.should_exit = True
    thread.join(10)


@pytest.fixture
def over(request, listing, monkeypatch):
    monkeypatch.setenv("OUR_KEY", KEY)

    def make(way="stdio", listing=listing, **options):
        if way == "stdio":
            return McpServer("weather", listing, command=[sys.executable, PROGRAM], secrets={"WEATHER_KEY": "OUR_KEY"}, **options)
        return McpServer("weather", listing, url=request.getfixturevalue("address"), **options)

    return make


def talk(source, *calls, names=()):
    """The answers to (tool, arguments, effect) in one event loop, errors as they are."""
    tools = {tool.name.removeprefix("weather/"): tool for tool in source.tools(*names)}

    async def go():
        answers = []
        for name, arguments, *effect in calls:
            try:
                answers.append(await tools[name].call(tools[name].checked(arguments), *effect))
            except Exception as error:
                answers.append(error)
        await source.session().close()
        return answers

    return asyncio.run(go())


def test_what_is_pinned_is_what_there_is(listing):
    """`pin` writes names, descriptions, schemas and hints: a file for people, and the only tools there are."""
    told = json.loads(listing.read_text())
    assert sorted(told) == ["announce", "close_runway", "die", "weather"]
    assert told["weather"]["annotations"] == {"readOnlyHint": True} and "airport" in told["weather"]["inputSchema"]["properties"]
    tools = McpServer("weather", listing, url="http://127.0.0.1:1/mcp").tools("weather", "announce")
    assert [(tool.name, tool.scope, tool.kind) for tool in tools] == [
        ("weather/weather", "mcp:weather/weather", "plain"), ("weather/announce", "mcp:weather/announce", "plain"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, {"weather": "plain", "close_runway": "plain", "announce": "plain", "die": "plain"}),
        ({"trusts": True}, {"weather": "read", "close_runway": "idempotent", "announce": "plain", "die": "read"}),
        ({"trusts": ["weather"]}, {"weather": "read", "close_runway": "plain", "announce": "plain", "die": "plain"}),
        ({"kinds": {"announce": "idempotent", "die": "plain"}, "trusts": True}, {
            "weather": "read", "close_runway": "idempotent", "announce": "idempotent", "die": "plain"}),
    ],
)  # fmt: skip
def test_hints_count_only_as_far_as_they_are_trusted(listing, options, kinds):
    """What a server says of its tools decides nothing until the application says so."""
    tools = McpServer("weather", listing, url="http://127.0.0.1:1/mcp", **options).tools()
    assert {tool.name.removeprefix("weather/"): tool.kind for tool in tools} == kinds


@pytest.mark.parametrize("way", ["stdio", "http"])
def test_a_server_is_asked(over, way):
    """Structured answers and texts, over one connection; the effect id reaches the server, and only of what acts; no secret comes back."""
    CALLS.clear()
    answers = talk(
        over(way, trusts=True),
        ("weather", {"airport": "JFK"}, "never told"), ("close_runway", {"runway": "4L"}, "effect-9"), ("weather", {"airport": "???"}),
        ("announce", {"text": "ab"}),
    )  # fmt: skip
    assert answers[0]["sky"] == "snow" and KEY not in json.dumps(answers[0])
    assert "effect-9" in json.dumps(answers[1]) and "never told" not in json.dumps(answers[1])
    assert isinstance(answers[2], EffectFailed) and "no such airport" in str(answers[2]) and KEY not in str(answers[2])
    assert "xx" in json.dumps(answers[3])


def test_arguments_are_held_against_the_schema(over):
    """What does not fit is refused before the server is even started."""
    [answer] = talk(over(trusts=True), ("weather", {"airport": 7}))
    assert isinstance(answer, Invalid) and "airport" in str(answer)


def test_a_tool_that_changed_is_not_called(over, listing):
    """A server that tells of a tool otherwise than was looked at does not get it called; its other tools go on."""
    changed = json.loads(listing.read_text())
    changed["announce"]["description"] = "Tell everybody, and nobody else."
    changed["gone"] = changed["die"]
    source = over("http", listing=changed, trusts=True)
    answers = talk(source, ("announce", {"text": "x"}), ("gone", {}), ("weather", {"airport": "JFK"}))
    assert isinstance(answers[0], EffectFailed) and "description" in str(answers[0]) and fate_of(answers[0]) == "refused"
    assert isinstance(answers[1], EffectFailed) and "no such tool" in str(answers[1]) and answers[2]["sky"] == "snow"


def test_a_server_that_dies_is_started_again(over):
    """A call under way when the server goes has an unknown fate; the next one finds a new server."""
    died, after = talk(over(trusts=True), ("die", {}), ("weather", {"airport": "JFK"}))
    assert isinstance(died, Unavailable) and fate_of(died) == "unknown"
    assert after["airport"] == "JFK"


@pytest.mark.parametrize("where", [{"command": ["/nowhere/at-all"]}, {"url": "http://127.0.0.1:1/mcp"}])
def test_a_server_that_cannot_be_reached_was_not_called(listing, where):
    """Nothing was started, nothing answered: the call may be made again."""
    [answer] = talk(McpServer("weather", listing, **where), ("weather", {"airport": "JFK"}))
    assert isinstance(answer, Limited) and fate_of(answer) == "untouched", repr(answer)


def test_an_answer_has_an_end(over):
    """What reads is refused beyond its bound, what acted is told to have answered more."""
    source = over("http", trusts=True, max_bytes=100)
    read, acted = talk(source, ("weather", {"airport": "J" * 200}), ("announce", {"text": "xx"}))
    assert isinstance(read, EffectFailed) and "more than 100 bytes" in str(read) and "100" in acted["cut"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"command": ["x"], "url": "http://127.0.0.1:1"}, "either"),
        ({"command": "python server.py"}, "list of words"),
        ({}, "either"),
        ({"url": "http://user:pw@127.0.0.1/mcp"}, "secrets"),
        ({"url": "http://127.0.0.1/mcp", "kinds": {"other": "read"}}, "other is not pinned"),
        ({"url": "http://127.0.0.1/mcp", "listing": "/nowhere/tools.json"}, "pin"),
        ({"url": "http://127.0.0.1/mcp", "listing": {"x": {"inputSchema": {"$ref": "http://192.0.2.1/"}}}}, "leads out"),
    ],
)
def test_a_declaration_that_is_none_is_refused(listing, options, told):
    """Each says what is wrong with it."""
    given = {"listing": listing, **options}
    with pytest.raises(Misused, match=told):
        McpServer("weather", given.pop("listing"), **given).tools()


def test_what_is_not_pinned_says_the_command_that_pins_it(tmp_path):
    """It runs though the application, which asks for the tools, cannot be imported yet."""
    file = tmp_path / "it's.json"
    with pytest.raises(Misused, match="write it once") as refused:
        McpServer("weather", file, command=[sys.executable, PROGRAM], trusts=True).tools()
    words = shlex.split(str(refused.value).partition("what it says: ")[2])
    assert words[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *words[1:]], check=True, timeout=500)
    assert McpServer("weather", file, command=[sys.executable, PROGRAM], trusts=True).tools()
