"""Calls in a walk: made to what a test gives, told where it gives nothing."""

import polars as pl
import pytest
from pydantic import BaseModel

from headwater import App, Call, Decision, Publish, Threshold, Topic, agent, tool
from headwater.lineage.errors import EffectFailed, Misused
from headwater.testing import walk


class Reading(BaseModel):
    gauge: str
    metres: float


readings, alarms = Topic("readings", Reading), Topic("alarms", Reading)
high = Threshold("high", of=readings, value=pl.col("metres"), per="gauge", opens_at=2, closes_at=1)


@tool(kind="plain")
async def siren(gauge: str, loud: bool = True) -> str:
    raise AssertionError("a walk never calls the tool itself")


@tool(kind="idempotent")
async def close_gate(gauge: str, effect: str) -> str:
    raise AssertionError("a walk never calls the tool itself")


@agent(wakes_on=[high], publishes=[alarms], tools=[siren, close_gate])
async def warden(activation, context):
    warned = Reading(gauge=activation.key, metres=activation.value)
    calls = (Call(siren, {"gauge": activation.key}), Call(close_gate, {"gauge": activation.key}))
    return Decision("warn").with_effects(*calls, Publish(alarms, warned))


app = App("lake", triggers=[high], agents=[warden])
HIGH = [(readings, Reading(gauge="pier", metres=3))]


def test_what_a_test_gives_is_called_in_the_tools_place():
    """Each call is made once, with its arguments, defaults filled in, and its effect id; answers and records tell of it."""
    called = []

    def gate(gauge, effect):
        called.append((gauge, effect))
        return {"closed": gauge}

    async def loud(gauge, loud):
        called.append((gauge, loud))

    found = walk(app, HIGH, tools={"siren": loud, "close_gate": gate})
    rung, closed = found.calls
    assert called == [("pier", True), ("pier", closed.id)]
    assert (rung.tool, rung.state, closed.state, closed.answer) == ("siren", "done", "done", {"closed": "pier"})
    assert [each.topic for each in found.effects] == ["alarms"]
    assert [record.ref for record in found.records if record.kind == "effect"] == [rung.id, closed.id]


def test_what_is_not_given_is_told_and_not_called():
    """Without `tools` nothing outside is touched: the walk says what would have been called, and goes on."""
    found = walk(app, HIGH)
    assert [(each.tool, each.state, dict(each.arguments)) for each in found.calls] == [
        ("siren", "not_made", {"gauge": "pier", "loud": True}),
        ("close_gate", "not_made", {"gauge": "pier"}),
    ]
    assert [each.topic for each in found.effects] == ["alarms"]


def test_a_refusal_ends_it():
    """A tool that refuses: what follows does not happen, and the activation is a dead letter."""

    def refuses(gauge, loud):
        raise EffectFailed("no power")

    found = walk(app, HIGH, tools={"siren": refuses})
    assert [(each.tool, each.state) for each in found.calls] == [("siren", "failed")] and found.effects == []
    [(_, error)] = found.failed
    assert isinstance(error, EffectFailed) and "no power" in str(error)


def test_an_unknown_fate_asks_a_person():
    """A plain tool whose answer is lost is never called again: a review, and nothing that follows happens."""
    calls = []

    def lost(gauge, loud):
        calls.append(gauge)
        raise TimeoutError

    found = walk(app, HIGH, tools={"siren": lost})
    assert calls == ["pier"] and [each.state for each in found.calls] == ["unknown"] and found.effects == []
    assert [record.data["reason"] for record in found.records if record.kind == "review"] == ["unknown"]


def test_an_idempotent_tool_is_asked_until_it_answers():
    """What may be sent again is, under one effect id, in no real time."""
    ids = []

    def late(gauge, effect):
        ids.append(effect)
        if len(ids) < 3:
            raise TimeoutError
        return "closed"

    found = walk(app, HIGH, tools={"close_gate": late})
    assert len(ids) == 3 and len(set(ids)) == 1 and [each.state for each in found.calls] == ["not_made", "done"]


def test_a_tool_that_nobody_declares_is_refused():
    """A wrong name is told, with those there are."""
    with pytest.raises(Misused, match="no agent declares a tool of this name; they declare close_gate, siren"):
        walk(app, HIGH, tools={"sirens": lambda: None})
