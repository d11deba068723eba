"""Memory: as durable as the decision it is written with."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.agent import Agent, Decision
from headwater.agents.context import Ports
from headwater.agents.decide import decide
from headwater.agents.journal import decode, encode
from headwater.agents.memory import MOST_BYTES, Draft, Memories
from headwater.agents.reins import journal_name
from headwater.agents.testing import MemorySearch, ScriptedModel, activation
from headwater.lineage.errors import AgentFailed

RULE = SimpleNamespace(name="cancellations")
S = 1_000_000


def ports(memories=None, clock=lambda: 0):
    async def at_once(seconds):
        await asyncio.sleep(0)

    return Ports(MemorySearch(), ScriptedModel("x"), clock, "B", sleep=at_once, memories=memories or Memories())


def an_agent(function, **fields):
    return Agent("recover", function, (RULE,), attempts=fields.pop("attempts", 1), **fields)


def run(agent, world, n=0, episode="e", key="EWR"):
    woken = activation(key, at=n, episode=episode)
    position = f"B/headwater.activations/0/{n}"
    decided = decode(encode(asyncio.run(decide(agent, woken, world, position=position))))
    world.memories.keep(journal_name(agent, position), [decided])
    return decided


async def counts(woken, context):
    context.remember("times", context.recall("times", 0) + 1)
    return Decision(context.recall("times"))


def test_what_is_remembered_is_recalled_under_the_same_correlation_id():
    """A later decision of the agent on the same key and correlation id recalls it, another does not; the records say what was."""
    world, agent = ports(), an_agent(counts)
    told = [run(agent, world, n, episode, key).choice for n, (episode, key) in enumerate([("e", "EWR")] * 3 + [("f", "EWR"), ("e", "JFK")])]
    assert told == [1, 2, 3, 1, 1]
    decided = run(agent, world, 9)
    record = next(record for record in decided.records if record.kind == "decision")
    assert record.data["recalled"] == {"times": 3} and record.data["remembered"] == {"times": 4}


def test_a_failed_attempt_leaves_nothing():
    """What an attempt wanted to keep before it failed is not kept: the next one begins where the last decision ended."""
    calls = []

    async def fails_first(woken, context):
        calls.append(context.recall("seen"))
        context.remember("seen", len(calls))
        if len(calls) % 2:
            raise ValueError("no")
        return Decision("ok")

    world, agent = ports(), an_agent(fails_first, attempts=2)
    run(agent, world, 0)
    run(agent, world, 1)
    assert calls == [None, None, 2, 2]

    async def fails(woken, context):
        context.remember("seen", "lost")
        raise ValueError("no")

    assert run(an_agent(fails), world, 2).memory is None


def test_forgotten_and_outlived():
    """What is forgotten is gone, and what was not changed for `remembers` is gone too, from snapshots as well."""
    now = [0]
    world, agent = ports(clock=lambda: now[0]), an_agent(counts, remembers="1h")
    run(agent, world, 0)
    now[0] = 3599 * S
    assert run(agent, world, 1).choice == 2
    now[0] += 3600 * S
    assert world.memories.kept("recover/0", now[0]) == [] and run(agent, world, 2).choice == 1

    async def forgets(woken, context):
        context.forget("times")
        context.forget("never")
        return Decision(context.recall("times", "nothing"))

    assert run(an_agent(forgets), world, 3).choice == "nothing"
    assert world.memories.kept("recover/0", now[0]) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("", 1, "1 to 200"),
        (7, 1, "1 to 200"),
        ("x", object(), "no JSON"),
        ("x", "half \ud800", "no JSON"),
        ("x", "y" * MOST_BYTES, "are left to it"),
    ],
)
def test_what_cannot_be_kept_fails_clearly(name, value, says):
    """What is no JSON or too large fails the attempt, with the name and what to do."""

    async def remembers(woken, context):
        context.remember(name, value)
        return Decision("ok")

    decided = run(an_agent(remembers), ports())
    assert decided.state == "waiting" and says in decided.error and decided.memory is None


def test_all_memories_of_a_partition_are_bounded(monkeypatch):
    """Many correlation ids together keep no more than the bound, and letting go makes room again."""
    monkeypatch.setattr("headwater.agents.memory.MOST_IN_ALL", 250)

    async def remembers(woken, context):
        context.remember("x", "y" * 40)
        return Decision("ok")

    world, agent = ports(), an_agent(remembers)
    states = [run(agent, world, n, f"e{n}").state for n in range(4)]
    assert states == ["acted", "acted", "waiting", "waiting"]

    async def forgets(woken, context):
        context.forget("x")
        return Decision("ok")

    run(an_agent(forgets), world, 5, "e0")
    assert run(agent, world, 6, "e9").state == "acted"


def test_a_value_is_a_copy():
    """Changing what was recalled changes nothing until it is remembered."""
    draft = Draft({"list": [1]})
    draft.recall("list").append(2)
    assert draft.recall("list") == [1] and not draft.changed
    draft.remember("list", [1])
    assert not draft.changed
    with pytest.raises(AgentFailed):
        draft.remember("list", {1: object()})


steps = st.tuples(
    st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]), st.one_of(st.none(), st.integers(0, 9)), st.booleans(), st.booleans()
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=1, max_size=20), st.data())
def test_no_kill_loses_a_memory(moves, data):
    """Killed after any decision, and read back from any snapshot and from anywhere before it in the journal, each memory is what the
    decisions in log order made of it."""
    world, journal, kept, at, truth = ports(), [], [], 0, {}
    for n, (episode, name, value, snapshot, killed) in enumerate(moves):

        async def moves_on(woken, context, name=name, value=value, expected=truth.get(episode, {})):
            assert {each: context.recall(each) for each in "xy"} == {each: expected.get(each) for each in "xy"}
            context.forget(name) if value is None else context.remember(name, value)
            return Decision("ok")

        decided = run(an_agent(moves_on), world, n, episode)
        assert decided.state == "acted", decided.error
        journal.append(encode(decided))
        found = {**truth.get(episode, {}), name: value}
        truth[episode] = {each: found[each] for each in found if found[each] is not None}
        if snapshot:
            kept, at = world.memories.kept("recover/0", 0), len(journal)
        if killed:
            world = ports()
            start = data.draw(st.integers(0, at))
            world.memories.keep("recover/0", [*kept, *map(decode, journal[start:])])
