import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater import Activation, App, Context, Decision, Document, Publish, Threshold, Topic, agent, document
from headwater.agents.case import case_of
from headwater.agents.course import Course
from headwater.agents.effect import effect_records
from headwater.agents.inputs import context_hash, first_difference, inputs
from headwater.agents.journal import Done
from headwater.agents.replay import replay
from headwater.agents.testing import ScriptedModel
from headwater.agents.tool import tool
from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.landing import Landing
from headwater.lineage.store import Store
from headwater.testing import walk


class Reading(BaseModel):
    id: str
    gauge: str
    metres: float


class Alarm(BaseModel):
    response: Literal["warn", "watch"]


readings = Topic("readings", Reading, key="gauge")
alarms = Topic("alarms", Alarm)
high = Threshold("high", of=readings, value=pl.col("metres"), per="gauge", opens_at=1.5, closes_at=1.0, update_step=1.0)
WARN, WATCH = Decision(Alarm(response="warn"), confidence=0.9), Decision(Alarm(response="watch"), confidence=0.8)
asked: list[str] = []


@document(readings)
def level(reading: Reading, facts: Mapping[str, Any]) -> Document:
    return Document(id=reading.gauge, text=f"The gauge at {reading.gauge} stands at {reading.metres} metres.")


@tool(kind="read")
async def keeper(gauge: str) -> str:
    """Who keeps a gauge."""
    asked.append(gauge)
    return f"keeper {len(asked)} of {gauge}"


@agent(wakes_on=[high], publishes=[alarms], tools=[keeper], act_above=0.6)
async def watch(activation: Activation, context: Context) -> Decision[Alarm]:
    evidence = await context.retrieve(f"the gauge at {activation.key}", limit=3)
    who = await context.tool(keeper, gauge=activation.key)
    times = context.recall("times", 0)
    context.remember("times", times + 1)
    decision = await context.choose(Alarm, evidence, situation=f"{who}, asked of {len(evidence)}, {times} times before")
    return decision.with_effects(Publish(alarms, key=activation.key, data=decision.choice))


app = App("lake", documents=[level], triggers=[high], agents=[watch])


@pytest.fixture(scope="module")
def store():
    """What the walk of one high reading left in lineage."""
    given = [(readings, Reading(id=str(n), gauge="pier", metres=metres)) for n, metres in enumerate((0.4, 2.1, 3.4))]
    walked = walk(app, given, model=ScriptedModel(WARN))
    done = [Done(id=decided.id, effects=tuple(effect.id for effect in decided.outbox), at=1) for decided in walked.decisions]
    courses = [Course().applied(each) for each in zip(walked.decisions, done, strict=True)]
    sent = [record for course in courses for record in effect_records(course)]
    with Store(":memory:", clock=lambda: 1) as opened:
        opened.land([Landing("walk", 0, 0, [*walked.records, *sent])])
        yield opened


@pytest.fixture
def case(store):
    [decision] = store.cursor().execute("SELECT id FROM decisions ORDER BY time").fetchall()[0]
    return case_of(store, decision)


def again(case, by=watch, model=None, **how):
    return asyncio.run(replay(case, by, model or ScriptedModel(WARN), lambda: 1, **how))


def test_identical_inputs_give_an_identical_context_and_the_same_answer(case):
    """Nothing changed: the same hash, no difference, the same choice and effects; and neither the index nor a tool was asked again."""
    before = list(asked)
    found = again(case)
    assert found.context_then == found.context_now == case.context and found.difference == ""
    assert found.agrees and found.shift == 0 and found.same_effects is True
    assert asked == before


def test_a_replay_twice_is_the_same_replay(case):
    """Replaying leaves nothing behind that the next would see."""
    assert again(case) == again(case)


def test_another_model_answers_another_way_from_the_same_context(case):
    """What the model says differs; what went in does not, so the change is the model's."""
    found = again(case, model=ScriptedModel(WATCH))
    assert not found.agrees and found.difference == "" and found.shift == pytest.approx(-0.1)
    assert (found.then.summary, found.now.summary) == ("warn", "watch") and found.same_effects is False


def test_a_changed_agent_names_the_first_field_that_differs(case):
    """An agent that tells the model another story differs from there on."""

    async def terse(activation: Activation, context: Context) -> Decision[Alarm]:
        evidence = await context.retrieve(f"the gauge at {activation.key}", limit=3)
        await context.tool(keeper, gauge=activation.key)
        return await context.choose(Alarm, evidence, situation="briefly")

    found = again(case, dataclasses.replace(watch, function=terse, version="2"))
    assert found.difference == "model 1.prompt" and found.context_now != found.context_then
    assert (found.version_then, found.version_now) == ("1", "2")


def test_without_a_chunk(case):
    """A chunk that is left out is not found, and the difference says where."""
    chunk = case.steps[0].data["results"][0]["id"]
    found = again(case, without=[chunk])
    assert found.difference.startswith("retrieval 1.results[0]")


def test_a_search_that_was_not_made_then_is_an_error_of_the_answer(case):
    """An agent that asks for something else gets no invented answer: the replay says what is not on record."""

    async def curious(activation: Activation, context: Context) -> Decision[Alarm]:
        await context.retrieve("something else", limit=3)
        return WARN

    found = again(case, dataclasses.replace(watch, function=curious, attempts=1))
    assert found.now.state == "waiting" and "something else" in found.now.error and "--now" in found.now.error


def test_what_is_known_now_can_be_searched_instead(case):
    """With a search of today the tools are asked again too, and the context is another."""

    class Today:
        def search(self, text, **_):
            from headwater.agents.recorded import Hit, Results

            return Results([Hit("c", "level/pier", 9, 0, "", "The gauge is gone.", 1.0, 1.0, "")], {}, 0.0, 0)

    found = again(case, search=Today())
    assert found.difference.startswith("retrieval 1.results[0]") and asked[-1] == "pier"


def test_only_a_decision_is_a_case(store, case):
    """Other ids are refused, naming what they are; unknown ones are not found."""
    with pytest.raises(Misused, match="activation, no decision"):
        case_of(store, case.activation.id)
    with pytest.raises(NotFound):
        case_of(store, "nothing-of-the-kind")


def test_what_the_agent_remembered_then_it_remembers_again(store):
    """A memory of then is part of the case: the second decision of an episode recalls what the first kept, in its replay too."""
    second = case_of(store, store.cursor().execute("SELECT id FROM decisions WHERE rule = 'high' ORDER BY time DESC").fetchall()[0][0])
    assert second.recalled == {"times": 1}
    found = again(second)
    assert found.difference == "" and found.context_now == second.context


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(VALUES, VALUES)
def test_a_difference_is_named_exactly_where_values_differ(one, other):
    """No difference if and only if the values are equal as JSON, whichever side one looks from."""
    same = first_difference(one, other) == first_difference(other, one) == ""
    wrapped = first_difference({"v": one}, {"v": other})
    assert bool(wrapped) == (not _equal(one, other)) and (same or wrapped.startswith("v"))


def _equal(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    return type(one) is type(other) and one == other


def test_the_hash_follows_the_inputs(case):
    """Another limit, another text, another order of steps: another hash."""
    told = inputs(case.activation, case.steps, case.recalled)
    assert context_hash(told) == case.context
    assert context_hash(inputs(case.activation, tuple(reversed(case.steps)), {})) != case.context
