import asyncio
import time
from types import SimpleNamespace

import pytest

from headwater.agents.agent import Agent
from headwater.agents.blot import blotted
from headwater.agents.context import Ports
from headwater.agents.decide import decide
from headwater.agents.journal import encode
from headwater.agents.testing import MemorySearch, ScriptedModel, activation
from headwater.agents.tool import Tool

SECRET = "hunter2-and-more"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"headers {{'authorization': 'Basic {SECRET}'}}",
        f"got bearer {SECRET}",
        f"password={SECRET} is wrong",
        f"https://host/path?api_key={SECRET}&page=2",
        f'{{"client_secret": "{SECRET}", "n": 1}}',
        f"cannot connect to postgres://ada:{SECRET}@host/db",
        "Incorrect API key provided: sk-proj-" + SECRET * 2,
        "header eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + SECRET,
        f"OPENAI_API_KEY='{SECRET}'",
    ],
)
def test_what_looks_like_a_secret_is_blotted_out(text):
    """Headers, settings, JSON, addresses and the keys of well-known issuers."""
    assert SECRET not in blotted(text) and "********" in blotted(text)


@pytest.mark.parametrize(
    "text",
    [
        "agent warn has spent its budget: 1,050 tokens of 1,000", "max_tokens=4096 is too many", "effect 0: token: Field required",
        "input_tokens nan; a finite number is needed", "the key of EWR is EWR", "see https://host:8080/a@b", "no secret here", "",
    ],
)  # fmt: skip
def test_ordinary_words_stay(text):
    """What merely speaks of tokens, keys and secrets is left as it is."""
    assert blotted(text) == text


def test_values_of_secret_variables_are_blotted_out(monkeypatch):
    """Whatever they look like, wherever they stand; those of other variables, and short ones, are words like any other."""
    for name, value in {"SHOP_TOKEN": "plain words here", "MY_KEY": "short", "LOGNAME_X": "a longer value"}.items():
        monkeypatch.setenv(name, value)
    assert blotted("say plain words here, short, a longer value") == "say ********, short, a longer value"


def test_a_secret_in_an_error_reaches_neither_journal_nor_records():
    """What an agent and a tool raise is kept without the secrets in it."""

    async def look() -> str:
        raise ValueError(f"api_key={SECRET}")

    tool = Tool("look", look, "read")

    async def function(activation, context):
        await context.tool(tool)

    ports = Ports(MemorySearch(), ScriptedModel("x"), lambda: time.time_ns() // 1000, "B")
    agent = Agent("asks", function, (SimpleNamespace(name="cancellations"),), attempts=1, tools=(tool,))
    entry = encode(asyncio.run(decide(agent, activation(at=1), ports))).decode()
    assert SECRET not in entry and entry.count("api_key=********") > 3
