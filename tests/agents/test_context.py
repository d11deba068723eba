import asyncio
import dataclasses
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.agent import Agent, Decision, Option
from headwater.agents.authorise import Ruling
from headwater.agents.context import Chosen, Context, Ports, cut_positions, situation_of
from headwater.agents.testing import SECOND, MemoryHit, MemorySearch, ScriptedModel, activation, scripted
from headwater.agents.tool import tool
from headwater.agents.trail import Trail
from headwater.lineage.errors import AgentFailed, DeadLettered, Forbidden, Invalid, Misused, Unavailable
from headwater.lineage.event import Position

AGENT = Agent("recover", scripted(Decision(None)), (SimpleNamespace(name="cancellations"),), timeout="100ms")
HITS = [
    MemoryHit(id="a", document="files/rebooking", text="rebook passengers when flights are cancelled", time=5 * SECOND),
    MemoryHit(id="b", document="flights/1", text="flight 1 is cancelled", time=9 * SECOND),
    MemoryHit(id="c", document="flights/2", text="flight 2 is cancelled", time=11 * SECOND),
]


def a_context(woken, search, model=None, **ports):
    trail = Trail("recover", "D", woken.id, lambda: 77)
    given = {"search": search, "chooser": model or ScriptedModel("x"), "clock": lambda: 77, "broker": "B", **ports}
    return Context(AGENT, woken, Ports(**given), trail), trail


def test_retrieves_as_of_the_activation():
    """Law 9: the search is that at the activation's event time, and its record keeps the texts."""
    woken = activation(at=10 * SECOND)
    context, trail = a_context(woken, MemorySearch(HITS))
    evidence = asyncio.run(context.retrieve("cancelled flight", limit=2))
    assert [found.id for found in evidence] == ["b", "a"]
    (ruling, record) = trail.records
    assert (ruling.kind, record.kind, record.step, record.ref, record.parents) == ("ruling", "retrieval", "retrieve", "D:r0", (woken.id,))
    assert record.data["at"] == 10 * SECOND and record.data["too_new"] == 1 and record.at == 10 * SECOND
    assert [shown["text"] for shown in record.data["results"]] == [found.text for found in evidence]


def test_sees_what_woke_it():
    """The search demands the last position of every partition in the activation's cut, under the current broker."""
    woken = activation(cut={"flights/0": 3, "flights/1": 0, "wea/ther/2": 1})
    assert cut_positions(woken, "B") == (Position("B", "flights", 0, 2), Position("B", "wea/ther", 2, 0))
    assert cut_positions(woken, "B", frozenset({"flights"})) == (Position("B", "flights", 0, 2),)
    search = MemorySearch(HITS, progress={"flights/0": 3, "wea/ther/2": 1})
    context, _ = a_context(woken, search)
    asyncio.run(context.retrieve("x"))
    assert [asked["after"] for asked in search.asked] == [cut_positions(woken, "B")]


def test_waits_for_the_index():
    """An index that is behind and catches up is waited for; nothing is then missing."""
    search = MemorySearch(HITS, progress={"flights/0": 0})

    async def catch_up(seconds):
        search.progress["flights/0"] += 1

    context, trail = a_context(activation(at=20 * SECOND, cut={"flights/0": 3}), search, sleep=catch_up)
    assert len(asyncio.run(context.retrieve("cancelled"))) == 3
    assert "missing" not in trail.records[-1].data
    assert trail.records[-1].data["as_of"] == {"flights/0": 3}


def test_goes_on_when_patience_ends():
    """An index that stays behind is not waited for beyond the agent's patience; the record says what was missing."""
    context, trail = a_context(activation(at=20 * SECOND, cut={"flights/0": 3}), MemorySearch(HITS, progress={"flights/0": 1}))
    assert len(asyncio.run(context.retrieve("cancelled"))) == 3
    assert "flights/0@2" in trail.records[-1].data["missing"]


def test_a_dead_letter_is_not_waited_for():
    """A position that will never be searchable is left out; the others are still demanded."""

    class Dead(MemorySearch):
        def search(self, text, *, limit, where, after, wait_s, as_of):
            if any(position.offset == 2 for position in after):
                raise DeadLettered("B/flights/0/2 is a dead letter", position="B/flights/0/2")
            return super().search(text, limit=limit, where=where, after=after, wait_s=wait_s, as_of=as_of)

    search = Dead(HITS)
    context, trail = a_context(activation(cut={"flights/0": 3, "flights/1": 9}), search)
    asyncio.run(context.retrieve("cancelled"))
    assert search.asked[-1]["after"] == (Position("B", "flights", 1, 8),)
    assert "dead letter" in trail.records[-1].data["missing"]


def test_choice_leaves_a_record():
    """A choice's record keeps model, prompt, answer and options; its cost is added up over questions."""
    decision = Decision("hold", options=(Option("hold", 0.8), Option("watch", 0.2)), confidence=0.8, cost={"input_tokens": 5.0})
    model = ScriptedModel(decision)
    woken = activation(count=12, total=41)
    context, trail = a_context(woken, MemorySearch(HITS), model)
    assert asyncio.run(context.choose(str, [])) is decision
    asyncio.run(context.choose(str, [], situation="all is well"))
    record = trail.records[1]
    assert (record.kind, record.step, record.ref) == ("model", "choose", "D:m0")
    assert record.data["options"] == [{"name": "hold", "confidence": 0.8}, {"name": "watch", "confidence": 0.2}]
    assert trail.spent == {"input_tokens": 10.0}
    assert [situation for situation, _ in model.asked] == [situation_of(woken), "all is well"]
    assert "12 of 41" in situation_of(woken) and "EWR" in situation_of(woken)


def test_what_a_policy_refuses_does_not_happen():
    """Law 7: a refused retrieval is no search, but a recorded ruling."""
    search = MemorySearch(HITS)
    context, trail = a_context(activation(), search, authorise=lambda *question: Ruling(False, "closed", "the index is closed"))
    with pytest.raises(Forbidden, match="closed"):
        asyncio.run(context.retrieve("x"))
    assert not search.asked
    assert [(record.kind, record.data["allowed"], record.data["policy"]) for record in trail.records] == [("ruling", False, "closed")]


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=6))
def test_every_attempt_keeps_its_own(queries):
    """Records of one decision never share an id, however often the same is asked."""
    context, trail = a_context(activation(), MemorySearch(HITS))

    async def ask():
        for query in queries:
            await context.retrieve(query)
            context.note(query)

    asyncio.run(ask())
    assert len({record.id for record in trail.records}) == len(trail.records)
    assert [record.ref for record in trail.records if record.kind == "retrieval"] == [f"D:r{n}" for n in range(len(queries))]


@tool(kind="read")
async def weather(airport: str, hours: int = 1) -> dict:
    """How the weather is."""
    if airport == "LGA":
        await asyncio.sleep(5)
    if airport == "???":
        raise LookupError("no such airport")
    return {"airport": airport, "snow": hours > 0}


@tool()
async def send(text: str) -> None:
    """Tell everybody."""


WITH_TOOLS = dataclasses.replace(AGENT, tools=(weather, send))


def with_tools(agent=WITH_TOOLS, **ports):
    trail = Trail("recover", "D", "a", lambda: 77)
    given = {"search": MemorySearch(), "chooser": ScriptedModel("x"), "clock": lambda: 77, "broker": "B", **ports}
    return Context(agent, activation(), Ports(**given), trail), trail


def test_a_tool_that_reads_is_called_and_told_of():
    """Its arguments, defaults filled in, its answer and its seconds are a record, beside the ruling that allowed it."""
    context, trail = with_tools()
    assert asyncio.run(context.tool(weather, airport="JFK")) == {"airport": "JFK", "snow": True}
    ruling, called = trail.records
    assert (ruling.data["action"], ruling.data["resource"], ruling.data["allowed"]) == ("call", "weather", True)
    assert (called.kind, called.step, called.ref) == ("tool", "call", "D:t0")
    assert called.data == {
        "tool": "weather", "scope": "weather", "arguments": {"airport": "JFK", "hours": 1}, "answer": {"airport": "JFK", "snow": True},
        "seconds": 0.0,
    }  # fmt: skip


def test_a_tool_that_acts_is_no_reading():
    """A tool of any other kind is refused before it is asked for, and the error names the effect to make of it."""
    context, trail = with_tools()
    with pytest.raises(Misused, match=r"with_effects\(Call\(send"):
        asyncio.run(context.tool(send, text="x"))
    assert trail.records == []


def test_a_tool_that_is_not_declared_is_not_called():
    """Law 7: what the agent does not declare it may not call; the refusal is a record."""
    context, trail = with_tools(AGENT)
    with pytest.raises(Forbidden, match="call weather"):
        asyncio.run(context.tool(weather, airport="JFK"))
    assert [(record.kind, record.data["allowed"]) for record in trail.records] == [("ruling", False)]


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"airport": 7}, Invalid, "airport"),
        ({"airport": "JFK", "days": 1}, Invalid, "days"),
        ({"airport": "???"}, LookupError, "no such airport"),
        ({"airport": "LGA"}, Unavailable, "longer than 20ms"),
    ],
)
def test_what_goes_wrong_with_a_tool_is_told(arguments, error, told):
    """Wrong arguments never reach the tool; what it raises, and that it took too long, is in its record."""
    slow = dataclasses.replace(weather, timeout="20ms", parameters={})
    context, trail = with_tools(dataclasses.replace(AGENT, tools=(slow,)))
    with pytest.raises(error, match=told):
        asyncio.run(context.tool(slow, **arguments))
    called = [record.data["error"] for record in trail.records if record.kind == "tool"]
    assert (called == []) if error is Invalid else (told in called[0])


def test_a_question_of_ones_own_is_asked_for_and_paid_for():
    """`consult` records like `choose`, with whatever else is told; a question that fails says what it cost."""
    decision = Decision("hold", cost={"output_tokens": 3.0})

    async def well():
        return Chosen(decision, "mine", "prompt", "hold", {"output": 3}, {"instructions": "be brief"})

    async def badly():
        raise AgentFailed("it stutters", asked=await well())

    context, trail = with_tools()
    assert asyncio.run(context.consult(well)) is decision
    with pytest.raises(AgentFailed, match="stutters"):
        asyncio.run(context.consult(badly))
    asked = [record.data for record in trail.records if record.kind == "model"]
    assert [data["instructions"] for data in asked] == ["be brief"] * 2 and asked[1]["error"] == "it stutters"
    assert trail.spent == {"output_tokens": 6.0}
