import asyncio
import datetime
from typing import Literal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater import Tool, tool
from headwater.agents.agent import Agent, Decision
from headwater.agents.authorise import authorise, principal_of
from headwater.agents.fate import fate_of
from headwater.agents.testing import scripted
from headwater.lineage.errors import EffectFailed, Invalid, Limited, Misused, Unavailable


class Seat(BaseModel):
    row: int
    letter: Literal["A", "B"]


@tool(kind="idempotent", timeout="1s")
async def rebook(booking: str, seat: Seat, on: datetime.date = datetime.date(2013, 2, 8), *, effect: str) -> dict:
    """Put a passenger onto another flight."""
    return {"booking": booking, "seat": seat, "on": on, "effect": effect}


async def nothing(effect: str) -> None: ...


async def found(effect: str) -> str | None:
    return None


def test_arguments_pass_through_the_journal():
    """A call's arguments are JSON values with defaults filled in, and come to the function as the types it declares."""
    arguments = rebook.checked({"booking": "X", "seat": Seat(row=3, letter="A")})
    assert arguments == {"booking": "X", "seat": {"row": 3, "letter": "A"}, "on": "2013-02-08"}
    assert rebook.checked(arguments) == arguments
    answer = asyncio.run(rebook.call(arguments, "e1"))
    assert answer == {"booking": "X", "seat": {"row": 3, "letter": "A"}, "on": "2013-02-08", "effect": "e1"}
    assert rebook.description == "Put a passenger onto another flight."


def test_effect_is_no_argument():
    """The effect id is given by the journal alone: it is not in the schema, and an agent cannot set it."""
    assert set(rebook.parameters["properties"]) == {"booking", "seat", "on"}
    with pytest.raises(Invalid, match="effect"):
        rebook.checked({"booking": "X", "seat": {"row": 3, "letter": "A"}, "effect": "mine"})


def test_wrong_arguments_are_named():
    """What does not fit the signature or the schema is refused, by the name of the argument."""
    with pytest.raises(Invalid, match=r"rebook: seat\.row"):
        rebook.checked({"booking": "X", "seat": {"row": "first", "letter": "A"}})
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}

    async def run(**given):
        return given

    other = Tool("api:count", run, parameters=schema)
    with pytest.raises(Invalid, match="api:count: n: 'x' is not of type 'integer'"):
        other.checked({"n": "x"})
    with pytest.raises(Invalid, match="'n' is a required property"):
        other.checked({})
    assert asyncio.run(other.call(other.checked({"n": 1}), "e7")) == {"n": 1, "effect": "e7"}


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3))
def test_arguments_never_surprise(arguments):
    """Any arguments either are refused as Invalid, or come out equal when they are checked again."""
    try:
        once = rebook.checked(arguments)
    except Invalid:
        return
    assert rebook.checked(once) == once


def test_undeclared_is_plain():
    """What is not declared safe to repeat is never repeated."""
    assert Tool("send", nothing).kind == "plain"


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"kind": "reconcilable"}, "reconcile="),
        ({"kind": "plain", "reconcile": found}, "takes no"),
        ({"kind": "twice"}, "none of read, idempotent"),
        ({"name": "a b"}, "letters"),
        ({"kind": "reconcilable", "reconcile": found, "lease": "5s"}, "longer than timeout"),
        ({"function": lambda effect: None}, "coroutine"),
        ({"timeout": "soon"}, "no duration"),
    ],
)
def test_misdeclared_tools_are_refused(declared, told):
    """A tool that cannot keep what its kind promises is refused where it is declared."""
    with pytest.raises(Misused, match=told):
        Tool(**{"name": "send", "function": nothing, **declared})


def test_idempotent_tools_hand_on_the_effect():
    """A tool whose function cannot be told the effect id cannot be idempotent."""

    async def deaf(booking: str) -> None: ...

    with pytest.raises(Misused, match="effect: str"):
        Tool("deaf", deaf, "idempotent")


def test_a_call_ends_within_its_timeout():
    """A tool that does not answer is given up after its timeout."""

    async def dead() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(Tool("dead", dead, timeout="10ms").call({}))


def test_agents_may_call_what_they_name():
    """Law 7: an agent may call the scopes of its own tools, and no others."""
    who = principal_of(Agent("recover", scripted(Decision(None)), (), tools=(rebook,)))
    assert authorise(who, "call", "rebook", {}).allowed
    assert not authorise(who, "call", "refund", {}).allowed


def test_two_tools_of_one_name_are_refused():
    """An agent's tools have names of their own, for the journal keeps the names."""
    with pytest.raises(Misused, match="one name"):
        Agent("recover", scripted(Decision(None)), (), tools=(Tool("send", nothing), Tool("send", nothing)))


def _status(code):
    request = httpx.Request("POST", "http://127.0.0.1/")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(code, request=request))


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (EffectFailed("no such booking"), "refused"),
        (_status(404), "refused"),
        (_status(422), "refused"),
        (_status(409), "unknown"),
        (_status(408), "unknown"),
        (_status(500), "unknown"),
        (_status(503), "unknown"),
        (_status(429), "untouched"),
        (Limited("later"), "untouched"),
        (httpx.ConnectError("refused"), "untouched"),
        (httpx.ReadTimeout("slow"), "unknown"),
        (httpx.RemoteProtocolError("gone"), "unknown"),
        (Unavailable("no answer"), "unknown"),
        (TimeoutError(), "unknown"),
        (KeyError("x"), "unknown"),
    ],
)
def test_fate_is_unknown_unless_known(error, fate):
    """Only an error that proves that nothing happened lets a call be made again or counted as refused."""
    assert fate_of(error) == fate
