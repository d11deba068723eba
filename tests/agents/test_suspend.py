"""Suspension: an agent waits for hours, holds nothing but a line in the journal, and goes on once, wherever it runs then."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.agent import Agent, Decision
from headwater.agents.context import Ports
from headwater.agents.decide import decide
from headwater.agents.decider import Decider, Item
from headwater.agents.journal import decode, encode
from headwater.agents.memory import Memories
from headwater.agents.reins import journal_name
from headwater.agents.testing import MemoryJournal, MemoryLog, MemorySearch, ScriptedModel, activation
from headwater.lineage.duration import duration

ASKS, ANSWERED, OTHER = (SimpleNamespace(name=name) for name in ("asks", "answered", "other"))
HOUR = duration("1h")


async def asks_and_waits(woken, context):
    if context.resumes is None:
        context.remember("asked", woken.at)
        return context.suspend(ANSWERED, expires="4h")
    return Decision({"asked": context.recall("asked"), "answered": woken.at, "first": context.resumes.at})


def an_agent(function=asks_and_waits, **fields):
    given = {"awaits": (ANSWERED,), "attempts": 1, **fields}
    return Agent("clerk", function, (ASKS,), **given)


class World:
    def __init__(self):
        self.now = 0
        self.restart()

    def restart(self):
        self.ports = Ports(MemorySearch(), ScriptedModel("x"), lambda: self.now, "B", memories=Memories())

    def decide(self, agent, n, rule="asks", key="EWR", **fields):
        position = f"B/headwater.activations/0/{n}"
        woken = activation(key, at=n, rule=rule, **fields)
        decided = decode(encode(asyncio.run(decide(agent, woken, self.ports, position=position))))
        self.ports.memories.keep(journal_name(agent, position), [decided])
        return decided

    def waits(self, n, rule="answered", key="EWR", **fields):
        return self.ports.memories.suspended("clerk/0", activation(key, at=n, rule=rule, **fields), self.now)


def test_it_goes_on_with_what_it_remembers():
    """The awaited rule's next firing for the same key wakes it with its memory, in the same correlation; then nothing is waited for."""
    world, agent = World(), an_agent()
    first = world.decide(agent, 1)
    assert (first.state, first.rationale) == ("no_action", "suspended until answered, at most 4h")
    assert not world.waits(2, key="JFK") and not world.waits(2, rule="asks") and world.waits(2)
    world.now = 3 * HOUR
    second = world.decide(agent, 2, "answered")
    assert second.choice == {"asked": 1, "answered": 2, "first": 1} and second.id != first.id
    told = {record.kind: record for record in second.records}
    assert first.id in told["decision"].parents and first.id in told["note"].data["text"]
    assert not world.waits(3)


def test_an_update_meanwhile_ends_no_waiting():
    """What wakes the agent otherwise is decided as ever, and what it waits for is still waited for; it may wait again after it went on."""
    calls = []

    async def function(woken, context):
        calls.append((woken.at, context.resumes.at if context.resumes else None))
        context.remember("n", len(calls))
        return context.suspend(ANSWERED) if len(calls) in (1, 3) else Decision("ok")

    world, agent = World(), an_agent(function)
    for n, rule, fields in [(1, "asks", {"episode": "e"}), (2, "asks", {"episode": "e"}), (3, "answered", {}), (4, "answered", {})]:
        world.decide(agent, n, rule, **fields)
    assert calls == [(1, None), (2, None), (3, 1), (4, 3)] and not world.waits(5)


def test_the_one_that_waited_longest_goes_on():
    """Of several that wait for the same rule and key the one of the same correlation goes on, else that which has waited longest."""
    world, agent = World(), an_agent()
    for n in (1, 2, 3):
        world.decide(agent, n)
    third = world.waits(9, correlation=activation("EWR", at=3, rule="asks").correlationid)
    assert third.suspended.activation.at == 3
    assert [world.decide(agent, n, "answered").choice["first"] for n in (10, 11, 12)] == [1, 2, 3]


def test_a_suspension_lapses():
    """After `expires` nothing is waited for; that is told once, by the decision that suspended."""
    world, agent = World(), an_agent()
    first = world.decide(agent, 1)
    assert world.ports.memories.next_lapse("clerk/0") == 4 * HOUR and world.ports.memories.lapsed("clerk/0", 4 * HOUR - 1) == []
    world.now = 4 * HOUR
    assert world.waits(2) is None
    assert [each.decision for each in world.ports.memories.lapsed("clerk/0", world.now)] == [first.id]
    assert world.ports.memories.lapsed("clerk/0", world.now) == [] and world.ports.memories.next_lapse("clerk/0") is None


@pytest.mark.parametrize(("rules", "says"), [((OTHER,), "may not await other"), ((), "suspends for nothing")])
def test_what_is_not_declared_is_not_waited_for(rules, says):
    """Law 7: only rules of `awaits`; a refusal asks a person and nothing is waited for."""

    async def function(woken, context):
        return context.suspend(*rules)

    world = World()
    decided = world.decide(an_agent(function), 1)
    assert decided.state == "waiting" and says in decided.error and decided.memory is None


def test_a_failure_on_going_on_ends_the_waiting():
    """If it fails when it goes on, a person is asked, once; its memory is as it was."""

    async def function(woken, context):
        if context.resumes is not None:
            context.remember("x", 2)
            raise ValueError("no")
        context.remember("x", 1)
        return context.suspend(ANSWERED)

    world, agent = World(), an_agent(function)
    world.decide(agent, 1)
    assert world.decide(agent, 2, "answered").state == "waiting" and not world.waits(3)
    assert [bytes(memory.values) for memory in world.ports.memories.kept("clerk/0", 0)] == [b'{"x":1}']


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["asks", "answered"]), st.sampled_from("ab"), st.booleans(), st.booleans()), max_size=20), st.data()
)
def test_no_kill_loses_or_doubles_it(moves, data):
    """Killed after any decision, and read back from any snapshot and from anywhere before it in the journal: every firing of the awaited
    rule wakes exactly the oldest that waits for its key, and nobody if none does."""
    world, agent, journal, kept, at = World(), an_agent(), [], [], 0
    waiting = {"a": [], "b": []}
    for n, (rule, key, snapshot, killed) in enumerate(moves):
        if rule == "asks":
            journal.append(encode(world.decide(agent, n, key=key)))
            waiting[key].append(n)
        else:
            found = world.waits(n, key=key)
            assert (found.suspended.activation.at if found else None) == (waiting[key][0] if waiting[key] else None)
            if found:
                decided = world.decide(agent, n, "answered", key)
                assert decided.choice == {"asked": waiting[key][0], "answered": n, "first": waiting[key].pop(0)}
                journal.append(encode(decided))
        if snapshot:
            kept, at = world.ports.memories.kept("clerk/0", 0), len(journal)
        if killed:
            world.restart()
            start = data.draw(st.integers(0, at))
            world.ports.memories.keep("clerk/0", [*kept, *map(decode, journal[start:])])


def test_the_decider_wakes_who_waits():
    """Through the runner: an awaited activation that nobody waits for is passed; one that is waited for is decided, once, and ends so again
    when it is submitted again, before and after a crash."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    world, agent, log = World(), an_agent(), MemoryLog()

    def items(n, rule):
        return Item(activation("EWR", at=n, rule=rule), f"B/headwater.activations/0/{n}")

    def run(decider, *submitted):
        for item in submitted:
            decider.submit(item)
        finished, until = [], time.monotonic() + 60
        while len(finished) < len(submitted):
            assert time.monotonic() < until
            finished += decider.poll()
            time.sleep(0.001)
        return [done.outcome for done in sorted(finished, key=lambda done: done.item.activation.at)]

    try:
        decider = Decider(agent, world.ports, MemoryJournal(log), log.book(), loop)
        given_items = [items(1, "answered"), items(2, "asks"), items(3, "answered"), items(4, "answered"), items(5, "other")]
        ended = ["passed", "no_action", "acted", "passed", "passed"]
        assert run(decider, *given_items) == ended
        assert run(decider, items(3, "answered"), items(4, "answered")) == ["acted", "passed"]
        decider.close(0)
        world.restart()
        world.ports.memories.keep("clerk/0", [entry for entry in log.read() if hasattr(entry, "memory")])
        assert run(Decider(agent, world.ports, MemoryJournal(log), log.book(), loop), *given_items) == ended
        assert len([entry for entry in log.read() if hasattr(entry, "memory")]) == 2
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
