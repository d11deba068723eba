import asyncio
import pickle
import threading
import time
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.agents.agent import Agent, Decision, Publish, decision_id, effect_id
from headwater.agents.book import Book
from headwater.agents.context import Ports
from headwater.agents.decider import Decider, Item
from headwater.agents.journal import Decided
from headwater.agents.testing import Died, MemoryJournal, MemoryLog, MemorySearch, ScriptedModel, activation
from headwater.lineage.errors import Unavailable
from headwater.lineage.topic import Topic


class Plan(BaseModel):
    attempt: int


RULE, OTHER = SimpleNamespace(name="cancellations"), SimpleNamespace(name="delays")
PLANS = Topic("plans", Plan)


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def item(n, key="EWR", **fields):
    return Item(activation(key, at=n, **fields), f"B/headwater.activations/0/{n}", woken=n)


def ports():
    return Ports(MemorySearch(), ScriptedModel("x"), lambda: 1, "B", random=lambda: 0.0)


def an_agent(function, **fields):
    return Agent("recover", function, (RULE,), publishes=(PLANS,), attempts=1, **fields)


def counting():
    """An agent whose every call decides something else: two calls for one activation would show."""
    calls = Counter()

    async def function(woken, context):
        await asyncio.sleep(0)
        calls[woken.id] += 1
        choice = Plan(attempt=calls.total())
        return Decision(choice).with_effects(Publish(PLANS, choice, key=woken.key), Publish(PLANS, choice, key=woken.key))

    return an_agent(function), calls


def idle(calls):
    """One that finds nothing to do."""

    async def function(woken, context):
        calls[woken.id] += 1
        return Decision(None)

    return function


def drain(decider, n):
    """Poll until n have finished."""
    finished = []
    for _ in range(20_000):
        finished += decider.poll()
        if len(finished) >= n:
            return finished
        time.sleep(0.001)
    raise AssertionError(f"{len(finished)} of {n} finished; in flight {len(decider.in_flight())}")


def test_each_item_is_finished_once(loop):
    """Every submitted item comes back once, acted on, its effects published under their ids, and nothing stays in flight."""
    agent, calls = counting()
    log = MemoryLog()
    decider = Decider(agent, ports(), MemoryJournal(log), Book(), loop)
    items = [item(n, key=f"k{n % 7}") for n in range(60)]
    for one in items:
        decider.submit(one)
    finished = drain(decider, 60)
    assert Counter(done.item.position for done in finished) == Counter(one.position for one in items)
    assert {done.outcome for done in finished} == {"acted"} and set(calls.values()) == {1}
    ids = [decision_id("recover", one.activation.id) for one in items]
    assert sorted(event.id for event in log.published) == sorted(effect_id(name, n) for name in ids for n in (0, 1))
    assert decider.in_flight() == [] and decider.poll() == []


def test_decided_is_committed_before_effects(loop):
    """Law 2: in the log `decided` stands before the first effect of that decision is sent; both take one commit."""
    log = MemoryLog()
    seen = []

    class Watching(MemoryJournal):
        def _step(self):
            book = log.book()
            seen.append(([book.state(event.causationid) for event in log.published], len(log.entries)))

    decider = Decider(counting()[0], ports(), Watching(log), Book(), loop)
    decider.submit(item(1))
    (finished,) = drain(decider, 1)
    assert [states for states, entries in seen if not entries] == [[]]
    assert [states for states, entries in seen if entries == 1] == [[], [], ["decided"], ["decided"] * 2]
    assert log.book().state(finished.decision) == "done" and len(log.entries) == 2
    effects = [record for record in finished.records if record.kind == "effect"]
    assert [record.data["position"] for record in effects] == ["memory/plans/0/0", "memory/plans/0/1"]


def test_decisions_of_a_key_keep_their_order(loop):
    """Law 5: one key's decisions are made one after the other; other keys do not wait for them."""
    gate, order = asyncio.Event(), []

    async def function(woken, context):
        if woken.key == "slow" and woken.at == 0:
            await gate.wait()
        order.append((woken.key, woken.at))
        return Decision(None)

    decider = Decider(an_agent(function), ports(), MemoryJournal(MemoryLog()), Book(), loop)
    for n in range(3):
        decider.submit(item(n, key="slow"))
    for n in range(3, 6):
        decider.submit(item(n, key="fast"))
    drain(decider, 3)
    assert order == [("fast", 3), ("fast", 4), ("fast", 5)]
    assert [held.activation.at for held in decider.in_flight()] == [0, 1, 2]
    loop.call_soon_threadsafe(gate.set)
    drain(decider, 3)
    assert order[3:] == [("slow", 0), ("slow", 1), ("slow", 2)]


def test_no_more_than_the_bound_at_once(loop):
    """Law 6: at most `max_in_flight` decisions are being made; a hot key takes one place of them, and memory has an end."""
    gate = asyncio.Event()
    running = Counter()

    async def function(woken, context):
        running[True] += 1
        running["most"] = max(running["most"], running[True])
        await gate.wait()
        running[True] -= 1
        return Decision(None)

    decider = Decider(an_agent(function), ports(), MemoryJournal(MemoryLog()), Book(), loop, max_in_flight=20)
    assert decider.room() == 20
    for n in range(10):
        decider.submit(item(n, key="hot"))
    assert decider.room() == 19
    for n in range(10, 40):
        decider.submit(item(n, key=f"k{n}"))
    assert decider.room() == 0
    loop.call_soon_threadsafe(gate.set)
    drain(decider, 40)
    assert running["most"] <= 20 and decider.room() == 20
    for n in range(100, 180):
        decider.submit(item(n, key="hot"))
    drain(decider, 80)


def test_parked_items_have_an_end(loop):
    """Law 6: even of one hot key alone no more is held than four times the bound."""

    async def never(woken, context):
        await asyncio.Event().wait()

    decider = Decider(an_agent(never), ports(), MemoryJournal(MemoryLog()), Book(), loop, max_in_flight=10)
    taken = 0
    while decider.room():
        decider.submit(item(taken))
        taken += 1
    assert taken == 40
    decider.close(0)


def test_who_is_not_woken_ends_at_once(loop):
    """Another rule's activation is passed, a phase that does not wake is no_action; neither is decided."""
    agent, calls = counting()
    log = MemoryLog()
    decider = Decider(agent, ports(), MemoryJournal(log), Book(), loop)
    decider.submit(item(1, rule="delays"))
    decider.submit(item(2, phase="closed"))
    finished = sorted(drain(decider, 2), key=lambda done: done.item.position)
    assert [(done.outcome, done.records, done.decision) for done in finished] == [("passed", (), ""), ("no_action", (), "")]
    assert not calls and not log.entries


def test_an_activation_sent_twice_is_decided_once(loop):
    """Law 2: the same activation at another position is passed; at the same position it ends as before."""
    agent, calls = counting()
    log = MemoryLog()
    decider = Decider(agent, ports(), MemoryJournal(log), Book(), loop)
    first = item(1)
    twin = Item(first.activation, "B/headwater.activations/0/99")
    for one in (first, twin):
        decider.submit(one)
    assert [done.outcome for done in drain(decider, 2)] == ["acted", "passed"]
    decider.submit(first)
    decider.submit(twin)
    assert [done.outcome for done in drain(decider, 2)] == ["acted", "passed"]
    later = Decider(agent, ports(), MemoryJournal(log), log.book(), loop)
    later.submit(twin)
    later.submit(first)
    assert [done.outcome for done in drain(later, 2)] == ["passed", "acted"]
    assert calls.total() == 1 and len(log.published) == 2


def test_a_failing_agent_holds_only_its_item(loop):
    """A decision that fails ends as waiting, with one question sent, and its key goes on."""

    async def function(woken, context):
        if woken.at == 0:
            raise ValueError("no")
        return Decision(None)

    log = MemoryLog()
    decider = Decider(an_agent(function), ports(), MemoryJournal(log), Book(), loop)
    decider.submit(item(0))
    decider.submit(item(1))
    assert [done.outcome for done in drain(decider, 2)] == ["waiting", "no_action"]
    assert [event.type for event in log.published] == ["headwater.review.requested"]


@pytest.mark.parametrize("acting", [True, False])
def test_a_journal_that_does_not_answer_is_asked_again(loop, acting):
    """Unavailable holds the key until the journal answers; nothing is lost and nothing decided again."""
    agent, calls = counting()
    agent = agent if acting else an_agent(idle(calls))
    log = MemoryLog()
    refusals = iter([True, True, False])

    class Slow(MemoryJournal):
        async def append(self, entries):
            self.refuse()
            await super().append(entries)

        async def perform(self, effects, done, decided=None):
            self.refuse()
            return await super().perform(effects, done, decided)

        def refuse(self):
            if next(refusals):
                raise Unavailable("the broker does not answer")

    async def at_once(seconds):
        await asyncio.sleep(0)

    given = Ports(MemorySearch(), ScriptedModel("x"), lambda: 1, "B", sleep=at_once)
    decider = Decider(agent, given, Slow(log), Book(), loop)
    decider.submit(item(1))
    assert [done.outcome for done in drain(decider, 1)] == ["acted" if acting else "no_action"]
    assert calls.total() == 1 and len(log.published) == 2 * acting and next(refusals, None) is None


def test_a_broken_journal_is_told_to_the_caller(loop):
    """What breaks the journal for good is raised by poll, takes away all room, and everything stays in flight."""
    decider = Decider(counting()[0], ports(), MemoryJournal(MemoryLog(), lives=0), Book(), loop)
    decider.submit(item(1))
    with pytest.raises(Died):
        drain(decider, 1)
    assert decider.room() == 0 and decider.in_flight() == [item(1)]


def test_close_gives_a_grace_and_keeps_the_rest(loop):
    """After close what was not finished is in flight still, in order, and can be pickled into a snapshot."""

    async def function(woken, context):
        if woken.key == "stuck":
            await asyncio.Event().wait()
        return Decision(None)

    decider = Decider(an_agent(function), ports(), MemoryJournal(MemoryLog()), Book(), loop)
    stuck = [item(n, key="stuck") for n in range(3)]
    for one in [*stuck, item(9, key="free")]:
        decider.submit(one)
    drain(decider, 1)
    decider.close(grace_s=0.02)
    assert decider.poll() == [] and decider.room() == 0
    assert pickle.loads(pickle.dumps(decider.in_flight())) == stuck


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4), st.booleans())
def test_killed_at_any_step(loop, deaths, keys, snapshots):
    """Law 2: killed at any step any number of times and resumed from in-flight items and log, each activation has one decision,
    the first in the log; each effect goes out under one id with one content; none is lost, and every item finishes alike."""
    agent, _ = counting()
    log = MemoryLog()
    items = [item(n, key=key) for n, key in enumerate(keys)]
    outcomes = defaultdict(list)
    snapshot = items
    for lives in [*deaths, None]:
        decider = Decider(agent, ports(), MemoryJournal(log, lives=lives), log.book(), loop)
        for one in snapshot:
            decider.submit(one)
        try:
            for _ in range(20_000):
                for done in decider.poll():
                    outcomes[done.item.position].append(done)
                if not decider.in_flight():
                    break
                time.sleep(0.0005)
            else:
                raise AssertionError("it hangs")
        except Died:
            decider.close(0)
        snapshot = decider.in_flight() if snapshots else items
    entries = log.read()
    for one in items:
        decision = decision_id("recover", one.activation.id)
        first = next(entry for entry in entries if isinstance(entry, Decided) and entry.id == decision)
        assert log.book().state(decision) == "done"
        for n in (0, 1):
            sent = [event for event in log.published if event.id == effect_id(decision, n)]
            assert sent and all(event == first.effects[n] for event in sent)
        assert outcomes[one.position], "lost"
        for done in outcomes[one.position]:
            assert done.outcome == "acted" and done.decision == decision
            assert [record.id for record in done.records] in ([], [record.id for record in outcomes[one.position][0].records])
        assert len(outcomes[one.position][0].records) == len(first.records) + 2
    order = [entry.at for entry in entries if isinstance(entry, Decided) and entry.key == "a"]
    assert list(dict.fromkeys(order)) == sorted(set(order)), "a key's decisions keep their order"
