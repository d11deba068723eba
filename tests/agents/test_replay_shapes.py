"""Decisions of every shape are replayed from the same context: retried, fallen back, held back, suspended and gone on with, unsure, …"""

import asyncio
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel

from headwater import Activation, App, Breaker, Budget, Context, Decision, Publish, Threshold, Topic, agent
from headwater.agents.case import Case, case_of
from headwater.agents.inputs import in_order_of
from headwater.agents.replay import replay
from headwater.agents.rethrown import as_then, told_of
from headwater.agents.testing import ScriptedModel
from headwater.agents.tool import tool
from headwater.lineage.errors import Forbidden, HeadwaterError, Unavailable
from headwater.lineage.landing import Landing
from headwater.lineage.store import Store
from headwater.testing import walk


class Scan(BaseModel):
    parcel: str
    hours: float


class Order(BaseModel):
    order: str


class NoSuchShelf(Exception):
    def __init__(self, shelf: int, row: int) -> None:
        super().__init__(f"shelf {shelf}, row {row}")


scans, answers, orders = Topic("scans", Scan, key="parcel"), Topic("answers", Scan, key="parcel"), Topic("orders", Order)
late = Threshold("late", of=scans, value=pl.col("hours"), per="parcel", opens_at=48, closes_at=24)
answered = Threshold("answered", of=answers, value=pl.col("hours"), per="parcel", opens_at=0, closes_at=-1)
WAIT, REFUND = Order(order="wait"), Order(order="refund")
calls: list[str] = []


@tool(kind="read", timeout="3s")
async def shelf(parcel: str) -> dict[str, Any]:
    """Fails in the way that the parcel's name says; each further call answers otherwise."""
    calls.append(parcel)
    match parcel:
        case "torn":
            raise NoSuchShelf(3, 4)
        case "unknown":
            raise KeyError("no such parcel")
        case "late":
            await asyncio.sleep(60)
        case "refused":
            raise Forbidden("not yours")
        case "mended" if calls.count("mended") == 1:
            raise ConnectionError("down")
        case "second":
            await asyncio.sleep(0.02)
    return {"call": len(calls)}


def on_late(**declared: Any) -> Any:
    return agent(wakes_on=[late], publishes=[orders], **declared)


@on_late()
async def by_hand(activation: Activation, context: Context) -> Decision[Order]:
    await context.retrieve("by hand")
    return Decision(WAIT).with_effects(Publish(orders, WAIT, key=activation.key))


@on_late(tools=[shelf], attempts=1)
async def careful(activation: Activation, context: Context) -> Decision[Order]:
    """Catches what its tool raises."""
    try:
        await context.tool(shelf, parcel=activation.key)
    except (NoSuchShelf, KeyError, Unavailable) as error:
        return Decision(WAIT, rationale=f"{type(error).__name__} {error}")
    except HeadwaterError:
        return Decision(REFUND, rationale="not ours")
    return Decision(REFUND)


@on_late(tools=[shelf], attempts=3)
async def stubborn(activation: Activation, context: Context) -> Decision[Order]:
    """Its tool fails at first; so does it, when the tool has answered for the first time."""
    await context.retrieve("where is it")
    found = await context.tool(shelf, parcel="mended")
    if calls.count("mended") == 2:
        calls.append("mended")
        raise ConnectionError("the model is away")
    return Decision(REFUND, confidence=0.9, rationale=str(found))


@on_late(attempts=2, fallback=by_hand)
async def sinking(activation: Activation, context: Context) -> Decision[Order]:
    await context.retrieve("sinking")
    raise ConnectionError("gone")


@on_late(attempts=2)
async def sunk(activation: Activation, context: Context) -> Decision[Order]:
    await context.retrieve("sunk")
    raise ConnectionError("gone")


@on_late(budget=Budget(tokens=100), fallback=by_hand)
async def dear(activation: Activation, context: Context) -> Decision[Order]:
    return Decision(REFUND, cost={"input_tokens": 100.0})


@on_late(budget=Budget(tokens=100))
async def spent(activation: Activation, context: Context) -> Decision[Order]:
    await context.retrieve("spent")
    return Decision(REFUND, cost={"input_tokens": 100.0})


@on_late(attempts=3, breaker=Breaker(failures=1, rest="1m", otherwise="wait"))
async def patient(activation: Activation, context: Context) -> Decision[Order]:
    await context.retrieve("patient")
    raise ConnectionError("gone")


@agent(wakes_on=[late], awaits=[answered], publishes=[orders])
async def clerk(activation: Activation, context: Context) -> Decision[Order]:
    if context.resumes is None:
        context.remember("hours", activation.value)
        return context.suspend(answered, expires="3d")
    await context.retrieve(f"what became of {context.resumes.id}")
    return Decision(REFUND, rationale=f"{context.recall('hours')} hours")


@on_late()
async def forbidden(activation: Activation, context: Context) -> Decision[Order]:
    return Decision(REFUND).with_effects(Publish(answers, Scan(parcel=activation.key, hours=1)))


@on_late(act_above=0.9)
async def unsure(activation: Activation, context: Context) -> Decision[Order]:
    return await context.choose(Order, await context.retrieve("what to do"))


@on_late(tools=[shelf])
async def hasty(activation: Activation, context: Context) -> Decision[Order]:
    """Of its two calls the one that is made first is answered last."""
    second, first = await asyncio.gather(context.tool(shelf, parcel="second"), context.tool(shelf, parcel="first"))
    return Decision(REFUND, rationale=f"{first} {second}")


def cases(by: Any, *given: tuple[Topic[Any], Scan]) -> list[Case]:
    """The cases of what an agent decides about these events, in order, as lineage gives them back."""
    calls.clear()
    walked = walk(App("depot", triggers=[late, answered], agents=[by]), list(given), model=ScriptedModel(Decision(REFUND, confidence=0.5)))
    with Store(":memory:", clock=lambda: 1) as store:
        store.land([Landing("walk", 0, 0, walked.records)])
        return [case_of(store, decided.id) for decided in walked.decisions]


def scan(parcel: str) -> tuple[Topic[Any], Scan]:
    return scans, Scan(parcel=parcel, hours=50)


SHAPES = {
    "a tool of the application's error": (careful, [scan("torn")]), "a tool's KeyError": (careful, [scan("unknown")]),
    "a tool too late": (careful, [scan("late")]), "a tool's refusal": (careful, [scan("refused")]),
    "retried": (stubborn, [scan("one")]), "fallen back": (sinking, [scan("one")]), "failed": (sunk, [scan("one")]),
    "held back for another": (dear, [scan("one"), scan("two")]), "held back": (spent, [scan("one"), scan("two")]),
    "a circuit waited for": (patient, [scan("one")]), "forbidden": (forbidden, [scan("one")]), "unsure": (unsure, [scan("one")]),
    "suspended, gone on with": (clerk, [scan("one"), (answers, Scan(parcel="one", hours=1))]), "at once": (hasty, [scan("one")]),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_replayed_from_the_same_context(shape):
    """Same context hash, same answer by the same agent with the same reasons; no tool is called."""
    by, given = SHAPES[shape]
    recorded = cases(by, *given)
    before = list(calls)
    for case in recorded:
        found = asyncio.run(asyncio.wait_for(replay(case, by, ScriptedModel(Decision(REFUND, confidence=0.5)), lambda: 1), 60))
        assert (found.difference, found.context_now) == ("", case.context), found
        assert found.agrees and found.now.by == found.then.by and found.now.rationale == found.then.rationale, found
    assert len(recorded) == (1 if len(given) == 1 else 2) and calls == before


def test_the_attempt_that_answered_is_what_is_replayed():
    """What failed attempts saw is kept beside it, and no part of the context: trouble that is over need not come again."""
    [case] = cases(stubborn, scan("one"))
    assert [step.kind for step in case.steps] == ["retrieval", "tool"] and "answer" in case.steps[1].data
    assert [step.kind for step in case.earlier] == ["retrieval", "tool", "retrieval", "tool"] and "error" in case.earlier[1].data


def test_who_is_asked_instead_is_not_held_back_by_what_held_the_agent():
    """A hold of then holds the agent of then; another one is asked, whatever it has in common."""
    held = cases(spent, scan("one"), scan("two"))[1]
    assert held.held == {"spent": "budget"} and not held.steps
    found = asyncio.run(replay(held, dear, ScriptedModel(Decision(REFUND)), lambda: 1))
    assert (found.then.state, found.now.state, found.now.by) == ("waiting", "acted", "dear") and not found.agrees


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"), ValueError("b: c"), NoSuchShelf(1, 2), Forbidden("no"), UnicodeDecodeError("utf-8", b"x", 0, 1, "y"),
        OSError(2, "z"), asyncio.CancelledError(), ExceptionGroup("all", [ValueError("d")]),
    ],
)  # fmt: skip
def test_what_a_tool_raised_is_raised_again(error):
    """Of the same class with the same words, whatever its `__init__` wants; told again, it reads the same."""
    again = as_then(told_of(error))
    assert told_of(again)["error"] == told_of(error)["error"]
    assert isinstance(again, type(error)) or isinstance(error, ExceptionGroup)  # what it held is not on record


def test_a_record_cannot_name_what_ends_the_process_or_import_anything():
    """A file of cases is data: a class that is not loaded, or ends the process, is an error of its name only."""
    for told in ({"error": "SystemExit: 1", "raised": "builtins.SystemExit"}, {"error": "X: 1", "raised": "antigravity.X"}):
        again = as_then(told)
        assert isinstance(again, Exception) and str(again) == "1"


def test_steps_that_were_under_way_together_have_no_order():
    """The order of then is taken over where the steps are the same, and only there."""
    [case] = cases(hasty, scan("one"))
    assert in_order_of(case.steps, tuple(reversed(case.steps))) == case.steps
    fewer = case.steps[1:]
    assert in_order_of(case.steps, fewer) == fewer
