import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.agent import Agent, Decision, Option
from headwater.agents.authorise import Ruling
from headwater.agents.context import Context, Ports, cut_positions, situation_of
from headwater.agents.testing import SECOND, MemoryHit, MemorySearch, ScriptedModel, activation, scripted
from headwater.agents.trail import Trail
from headwater.lineage.errors import DeadLettered, Forbidden
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
