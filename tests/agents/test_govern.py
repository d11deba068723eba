"""Deciding under reins: breaker, rate, budget, and room for all agents."""

import asyncio
from types import SimpleNamespace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.agent import Agent, Decision
from headwater.agents.authorise import Ruling
from headwater.agents.breaker import Breaker
from headwater.agents.budget import DAY, Budget, Spent
from headwater.agents.context import Ports
from headwater.agents.decide import decide
from headwater.agents.journal import decode, encode
from headwater.agents.reins import Reins
from headwater.agents.room import Room
from headwater.agents.testing import MemorySearch, ScriptedModel, activation, scripted

RULE = SimpleNamespace(name="cancellations")
S = 1_000_000
SURE = Decision("hold")


class World:
    """A clock that moves by sleeping alone, and the ports of one process over it."""

    def __init__(self, **ports):
        self.now = 0
        self.given = ports
        self.restart()

    def restart(self):
        self.ports = Ports(MemorySearch(), ScriptedModel("x"), lambda: self.now, "B", sleep=self.sleep, random=lambda: 0.5, **self.given)

    async def sleep(self, seconds):
        self.now += round(seconds * S)
        await asyncio.sleep(0)

    def decide(self, agent, n=0):
        return asyncio.run(decide(agent, activation(at=n), self.ports, position=f"B/headwater.activations/0/{n}"))


def an_agent(function, name="recover", **fields):
    return Agent(name, function, (RULE,), attempts=fields.pop("attempts", 1), **fields)


def costing(tokens, price=0.0):
    return Decision("hold", cost={"input_tokens": tokens, "output_tokens": 0, "cost": price})


def notes(decided):
    return [record.data["text"] for record in decided.records if record.kind == "note"]


def reason(decided):
    return msgspec.json.decode(decided.outbox[0].data)["reason"]


def test_an_open_circuit_asks_the_fallback_at_once():
    """After n failures in a row the agent is not asked any more: its fallback decides without delay; the decisions tell when it opened."""
    calls = []

    async def fails(woken, context):
        calls.append(1)
        raise ValueError("down")

    world = World()
    rules = an_agent(scripted(SURE), "rules")
    agent = an_agent(fails, fallback=rules, breaker=Breaker(failures=2))
    told = [world.decide(agent, n) for n in range(4)]
    assert len(calls) == 2 and [each.by for each in told] == ["rules"] * 4 and world.now == 0
    assert any("is open now" in note for note in notes(told[1]))
    assert any("recover is not asked: the circuit of recover is open" in note for note in notes(told[2]))
    assert world.ports.reins.of(agent).told(world.now)["circuit"] == "open"


def test_a_circuit_is_tried_again_after_its_rest():
    """After its rest one probe goes through; a success closes the circuit, which the decision tells."""
    world = World()
    agent = an_agent(scripted(ValueError("down"), SURE), breaker=Breaker(failures=1, rest="10s", otherwise="review"))
    assert reason(world.decide(agent, 0)) == "failed"
    refused = world.decide(agent, 1)
    assert (refused.state, reason(refused), refused.attempts) == ("waiting", "breaker", 0)
    assert "recover is open: it keeps failing" in refused.error
    world.now += 10 * S
    healed = world.decide(agent, 2)
    assert healed.state == "acted" and any("half-open before, is closed now" in note for note in notes(healed))


def test_an_activation_waits_for_a_circuit():
    """Without a fallback and with `otherwise="wait"` the activation waits in place until a probe may go, and tells that."""
    world = World()
    agent = an_agent(scripted(ValueError("down"), SURE), breaker=Breaker(failures=1, rest="10s"))
    world.decide(agent, 0)
    decided = world.decide(agent, 1)
    assert decided.state == "acted" and 10 * S <= world.now <= 12 * S
    assert any(note.startswith("waited: the circuit of recover is open") for note in notes(decided))


def test_a_refusal_says_nothing_of_health():
    """What a policy forbids does not open the circuit."""

    async def reads(woken, context):
        await context.retrieve("x")

    def closed(principal, action, resource, context):
        return Ruling(action != "retrieve", "closed", "no reading today")

    world = World(authorise=closed)
    agent = an_agent(reads, breaker=Breaker(failures=1))
    assert [reason(world.decide(agent, n)) for n in range(3)] == ["forbidden"] * 3


def test_decisions_wait_their_turn():
    """Beyond the rate decisions wait, in order, and none is dropped; the agent beside it waits for nothing."""
    world = World()
    agent = an_agent(scripted(SURE), rate="2/10s")
    ends = []
    for n in range(5):
        decided = world.decide(agent, n)
        assert decided.state == "acted"
        ends.append(world.now)
    assert ends == [0, 0, 10 * S, 10 * S, 20 * S]
    assert any("waited for a turn: recover decides 2/10s at most" in note for note in notes(decided))
    before = world.now
    world.decide(an_agent(scripted(SURE), "other"), 9)
    assert world.now == before


def test_beyond_the_budget_a_person_is_asked():
    """What a day's budget does not allow is a review `budget`; on the next UTC day the agent decides again."""
    world = World()
    agent = an_agent(scripted(costing(60)), budget=Budget(tokens=100))
    assert [world.decide(agent, n).state for n in range(2)] == ["acted", "acted"]
    refused = world.decide(agent, 2)
    assert reason(refused) == "budget" and "120 tokens of 100 tokens" in refused.error
    assert refused.spent == {"recover": Spent(0, 120.0, 0.0)}
    world.now = DAY
    assert world.decide(agent, 3).state == "acted"


def test_beyond_the_budget_the_fallback_decides():
    """With a fallback the activation is decided at once, by it; each agent pays from its own budget."""
    world = World()
    rules = an_agent(scripted(costing(1)), "rules", budget=Budget(tokens=1000))
    agent = an_agent(scripted(costing(60)), budget=Budget(tokens=50), fallback=rules)
    told = [world.decide(agent, n) for n in range(3)]
    assert [each.by for each in told] == ["recover", "rules", "rules"]
    assert told[-1].spent == {"recover": Spent(0, 60.0, 0.0), "rules": Spent(0, 2.0, 0.0)}


def test_failed_attempts_are_paid_for():
    """What an attempt asked of a model before it failed counts too."""

    async def asks_and_fails(woken, context):
        await context.choose(str, ())
        raise ValueError("no")

    world = World()
    world.ports = Ports(MemorySearch(), ScriptedModel(costing(7)), lambda: 0, "B", sleep=world.sleep)
    agent = an_agent(asks_and_fails, attempts=3, budget=Budget(tokens=1000))
    assert world.decide(agent).spent["recover"].tokens == 21


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.integers(0, 2)), min_size=1, max_size=15), st.data())
def test_a_budget_survives_restarts(steps, data):
    """Killed at any moment and read back from any snapshot and the journal behind it, as much is spent as the journal's decisions took."""
    world, journal, kept, since = World(), [], {}, 0
    paid = 0
    for n, (tokens, killed, days) in enumerate(steps):
        agent = an_agent(scripted(costing(tokens)), budget=Budget(tokens=10_000))
        world.now += days * DAY
        paid = (0 if days else paid) + tokens
        journal.append(encode(world.decide(agent, n)))
        if data.draw(st.booleans(), label="snapshot"):
            kept, since = world.ports.reins.totals(agent, "recover/0"), len(journal)
        if killed:
            world.restart()
            start = data.draw(st.integers(0, since), label="read from")
            world.ports.reins.recall(agent, "recover/0", kept, [decode(entry) for entry in journal[start:]])
        assert world.ports.reins.of(agent).told(world.now)["budget"]["tokens"]["spent"] == paid


def test_turns_are_recalled():
    """A restart gives no agent its turns anew."""
    world = World()
    agent = an_agent(scripted(SURE), rate="2/10s")
    entries = [world.decide(agent, n) for n in range(2)]
    world.restart()
    world.ports.reins.recall(agent, "recover/0", {}, entries)
    world.decide(agent, 3)
    assert world.now == 10 * S


def test_attempts_of_all_agents_share_one_room():
    """Law 6: over all agents no more attempts are made at once than there are places, and an agent that hangs leaves the others theirs."""
    inside, most = set(), []
    stuck = asyncio.Event()

    async def hangs(woken, context):
        inside.add(woken.at)
        most.append(len(inside))
        await stuck.wait()
        inside.discard(woken.at)
        return Decision(None)

    async def quick(woken, context):
        most.append(len(inside) + 1)
        return Decision(None)

    async def run():
        ports = Ports(MemorySearch(), ScriptedModel("x"), lambda: 0, "B", room=Room(8, ["slow", "quick"]), reins=Reins())
        slow, fast = an_agent(hangs, "slow"), an_agent(quick, "quick")
        tasks = [asyncio.create_task(decide(slow, activation(at=n), ports)) for n in range(20)]
        await asyncio.sleep(0)
        answers = [await asyncio.wait_for(decide(fast, activation(at=n), ports), 5) for n in range(20)]
        assert [each.state for each in answers] == ["no_action"] * 20 and len(inside) == 6
        stuck.set()
        assert {each.state for each in await asyncio.gather(*tasks)} == {"no_action"}
        assert max(most) <= 8 and ports.room.used == {"slow": 0, "quick": 0}

    asyncio.run(run())
