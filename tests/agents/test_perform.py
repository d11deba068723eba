import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.agents.agent import Agent, Decision, Publish
from headwater.agents.context import Ports
from headwater.agents.course import End, Wait
from headwater.agents.decide import decide
from headwater.agents.effect import effect_records
from headwater.agents.journal import Decided, Judged, Started
from headwater.agents.perform import Performer
from headwater.agents.review import review_id
from headwater.agents.testing import Died, MemoryJournal, MemoryLog, MemorySearch, ScriptedModel, activation, scripted
from headwater.agents.tool import Call, Tool
from headwater.lineage.errors import EffectFailed, Limited
from headwater.lineage.topic import Topic

SECOND = 1_000_000
CYCLE: dict = {}
CYCLE["again"] = CYCLE


class Plan(BaseModel):
    n: int


RULE = SimpleNamespace(name="cancellations")
PLANS = Topic("plans", Plan)


class World:
    """The clock, a receiver that counts, and a process that dies after so many steps of it and its journal together."""

    def __init__(self, lives=None, behaviour=()):
        self.now, self.lives = 0, lives
        self.happened, self.calls = Counter(), Counter()
        self.answers = {}
        self.behaviour = list(behaviour)
        self.order = []

    def step(self):
        if self.lives is not None:
            if self.lives <= 0:
                raise Died("killed")
            self.lives -= 1

    async def sleep(self, seconds):
        self.now += max(1, round(seconds * SECOND))
        await asyncio.sleep(0)

    def ports(self):
        return Ports(MemorySearch(), ScriptedModel("x"), lambda: self.now, "B", sleep=self.sleep, random=lambda: 0.5)

    def tool(self, kind):
        async def function(n: int, effect: str) -> dict:
            self.step()
            self.calls[effect] += 1
            said = self.behaviour.pop(0) if self.behaviour else "ok"
            if said in ("ok", "lost"):
                if kind == "plain" or effect not in self.answers:
                    self.happened[effect] += 1
                    self.order.append(kind)
                self.answers[effect] = {"n": n}
            self.step()
            if said != "ok":
                raise {"lost": ConnectionResetError("gone"), "later": Limited("later"), "no": EffectFailed("no such booking")}[said]
            return self.answers[effect]

        async def reconcile(effect: str) -> dict | None:
            self.step()
            return self.answers.get(effect)

        return Tool(kind, function, kind, reconcile=reconcile if kind == "reconcilable" else None)


class Journal(MemoryJournal):
    """One whose steps are the world's."""

    def __init__(self, log, world):
        super().__init__(log)
        self._world = world

    def _step(self):
        self._world.step()


def an_agent(world, kinds):
    tools = {kind: world.tool(kind) for kind in ("idempotent", "reconcilable", "plain")}
    effects = [Publish(PLANS, Plan(n=n), key="k") if kind == "publish" else Call(tools[kind], {"n": n}) for n, kind in enumerate(kinds)]
    decision = Decision(Plan(n=1)).with_effects(*effects)
    return Agent("recover", scripted(decision), (RULE,), publishes=(PLANS,), tools=tuple(tools.values()), attempts=1)


def decided_by(agent, world):
    return asyncio.run(decide(agent, activation(at=1), world.ports(), position="B/headwater.activations/0/1"))


def performed(agent, world, log):
    """What a new owner makes of the log."""
    book = log.book()
    decided = next(entry for entry in log.read() if isinstance(entry, Decided))
    course = book.course(decided.id)
    return asyncio.run(Performer(agent, world.ports(), Journal(log, world), book).perform(course)), course


def start(kinds, behaviour=()):
    world, log = World(behaviour=behaviour), MemoryLog()
    agent = an_agent(world, kinds)
    decided = decided_by(agent, world)
    asyncio.run(MemoryJournal(log).append([decided]))
    return world, log, agent, decided


def test_effects_run_in_order():
    """A decision's effects happen in the order in which it names them, events among calls, and each leaves a record that says how."""
    world, log, agent, decided = start(["plain", "publish", "idempotent", "publish", "reconcilable"])
    step, course = performed(agent, world, log)
    assert step == End("acted") and world.order == ["plain", "idempotent", "reconcilable"]
    kinds = [next(iter(entry.effects), "") if entry.__class__.__name__ == "Done" else type(entry).__name__ for entry in log.read()]
    effects = [effect.id for effect in decided.effects]
    assert kinds == ["Decided", "Started", "Answered", effects[0], "Answered", effects[1], "Started", "Answered"]
    records = effect_records(course)
    assert sorted((r.data["ordinal"], r.data["effect"], r.data["state"]) for r in records) == [
        (0, "call", "done"), (1, "publish", "done"), (2, "call", "done"), (3, "publish", "done"), (4, "call", "done"),
    ]  # fmt: skip
    assert {r.data["ordinal"]: r.data["answer"] for r in records if r.data["effect"] == "call"} == {n: {"n": n} for n in (0, 2, 4)}


def test_started_is_committed_before_a_plain_call():
    """Law 2: at most once: what is about to be called for the only time stands in the log before it is called."""
    world, log, agent, _ = start(["plain"])
    seen = []
    tool = agent.tools[2]
    inner = tool.function

    async def looking(n: int, effect: str):
        seen.append(any(isinstance(entry, Started) and entry.effect == effect for entry in log.read()))
        return await inner(n=n, effect=effect)

    object.__setattr__(tool, "function", looking)
    performed(agent, world, log)
    assert seen == [True]


@pytest.mark.parametrize("kind", ["idempotent", "reconcilable", "plain"])
def test_what_did_not_happen_is_called_again(kind):
    """A receiver that says that nothing happened yet is asked again, whatever the kind, until it answers."""
    world, log, agent, _ = start([kind], ["later"] * 12)
    step, _ = performed(agent, world, log)
    assert step == End("acted") and world.calls.total() == 13 and set(world.happened.values()) == {1}


@pytest.mark.parametrize("kind", ["idempotent", "reconcilable", "plain"])
def test_refused_is_final(kind):
    """A refusal is not repeated, what comes after it does not happen, and the decision is a dead letter that says why."""
    world, log, agent, _ = start([kind, "publish"], ["no"])
    step, course = performed(agent, world, log)
    assert step.outcome == "dead_lettered" and "no such booking" in step.error
    assert world.calls.total() == 1 and not log.published
    assert [record.data["state"] for record in effect_records(course)] == ["failed"]


@pytest.mark.parametrize("kind", ["idempotent", "reconcilable"])
def test_lost_answers_are_found_again(kind):
    """Law 2: once: a call whose answer is lost is repeated or asked about, and has happened once."""
    world, log, agent, _ = start([kind], ["lost"] * 3)
    step, _ = performed(agent, world, log)
    assert step == End("acted") and set(world.happened.values()) == {1}


def test_a_plain_call_without_answer_waits_for_a_person():
    """A plain call whose answer is lost is never made again: a review asks, and what follows waits for its verdict."""
    world, log, agent, decided = start(["publish", "plain", "publish"], ["lost"])
    step, course = performed(agent, world, log)
    call = decided.calls[0]
    assert step == Wait(review_id(call.id)) and world.calls.total() == 1
    assert [event.topic for event in log.published] == ["plans", "headwater.reviews"]
    states = {record.kind: record.data.get("state", record.data.get("reason")) for record in effect_records(course)}
    assert states == {"effect": "unknown", "review": "unknown"}
    judged = Judged(id=decided.id, review=step.review, verdict="approved", at=1)
    asyncio.run(MemoryJournal(log).append([judged]))
    assert performed(agent, world, log)[0] == End("approved")
    assert world.calls.total() == 1 and [event.topic for event in log.published] == ["plans", "headwater.reviews", "plans"]


def test_a_reconcilable_call_waits_out_its_lease():
    """A new owner asks only after the lease of the former one is over: until then the call may be on its way."""
    world, log, agent, decided = start(["reconcilable"])
    asyncio.run(MemoryJournal(log).append([Started(id=decided.id, effect=decided.calls[0].id, at=5 * SECOND)]))
    world.now = 6 * SECOND
    asked = []
    tool = agent.tools[1]
    inner = tool.reconcile

    async def reconcile(effect):
        asked.append(world.now)
        return await inner(effect)

    object.__setattr__(tool, "reconcile", reconcile)
    assert performed(agent, world, log)[0] == End("acted")
    assert asked[0] >= 35 * SECOND and set(world.happened.values()) == {1}


def test_an_owner_that_stood_still_does_not_send():
    """An owner that was stopped between `started` and the call, for longer than the lease, asks before it sends."""
    world, log, agent, _ = start(["reconcilable"])
    seen = []

    class Pausing(Journal):
        async def append(self, entries):
            await super().append(entries)
            if isinstance(entries[0], Started) and not seen:
                seen.append(entries[0].effect)
                world.answers[entries[0].effect] = {"n": 0}  # another owner did it meanwhile
                world.now += 40 * SECOND

    book = log.book()
    course = next(iter(book._courses.values()))
    step = asyncio.run(Performer(agent, world.ports(), Pausing(log, world), book).perform(course))
    assert step == End("acted") and not world.calls


def test_a_defective_tool_is_looked_at():
    """A tool that raises what is no trouble of the network is not called for ever: a person looks."""
    world, log, agent, _ = start(["idempotent"])

    async def broken(n: int, effect: str):
        raise KeyError("seat")

    object.__setattr__(agent.tools[0], "function", broken)
    step, course = performed(agent, world, log)
    assert isinstance(step, Wait)
    (answered,) = course.answered.values()
    assert (answered.state, answered.attempts) == ("unknown", 5) and "seat" in answered.error


class Panic(BaseException):
    """As extension modules raise it."""


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), Panic("out of bounds")])
@pytest.mark.parametrize("kind", ["idempotent", "plain"])
def test_whatever_a_tool_raises_is_told(kind, error):
    """No error of a tool ends its owner or leaves its key hanging: a person looks."""
    world, log, agent, _ = start([kind])
    tool = next(each for each in agent.tools if each.name == kind)

    async def broken(n: int, effect: str):
        raise error

    object.__setattr__(tool, "function", broken)
    step, course = performed(agent, world, log)
    assert isinstance(step, Wait)
    (answered,) = course.answered.values()
    assert answered.state == "unknown" and type(error).__name__ in answered.error


@pytest.mark.parametrize("answer", [{"half": "\ud800"}, {1, object()}, CYCLE])
@pytest.mark.parametrize("kind", ["idempotent", "reconcilable", "plain"])
def test_what_was_done_is_done_whatever_is_said_of_it(kind, answer):
    """An answer that cannot be written is told in words; the call is not made again, nor asked about."""
    world, log, agent, _ = start([kind])
    tool = next(each for each in agent.tools if each.name == kind)

    async def function(n: int, effect: str):
        world.calls[effect] += 1
        return answer

    object.__setattr__(tool, "function", function)
    step, course = performed(agent, world, log)
    assert step == End("acted") and set(world.calls.values()) == {1}
    (answered,) = course.answered.values()
    assert answered.state == "done" and answered.answer


def test_what_is_found_to_have_happened_is_done_whatever_is_said_of_it():
    """A reconcile that answers what is no JSON has said that it happened."""
    world, log, agent, decided = start(["reconcilable"])
    tool = next(each for each in agent.tools if each.name == "reconcilable")

    async def reconcile(effect: str):
        return {1, object()}

    object.__setattr__(tool, "reconcile", reconcile)
    asyncio.run(MemoryJournal(log).append([Started(id=decided.id, effect=decided.calls[0].id, at=1)]))
    assert performed(agent, world, log)[0] == End("acted") and not world.calls


def test_a_tool_that_became_plain_is_plain():
    """Deny first: a call that was decided as idempotent and is declared plain now is not repeated."""
    world, log, agent, decided = start(["idempotent"])
    plain = Tool("idempotent", agent.tools[0].function, "plain")
    changed = Agent("recover", agent.function, (RULE,), tools=(plain,))
    asyncio.run(MemoryJournal(log).append([Started(id=decided.id, effect=decided.calls[0].id, at=1)]))
    assert isinstance(performed(changed, world, log)[0], Wait) and not world.calls


def test_a_tool_that_is_gone_fails():
    """A call whose tool is no longer declared, and was never started, is a dead letter that names it."""
    world, log, agent, _ = start(["plain"])
    step, _ = performed(Agent("recover", agent.function, (RULE,)), world, log)
    assert step.outcome == "dead_lettered" and "no tool plain any more" in step.error


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["publish", "idempotent", "reconcilable", "plain"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["ok", "lost", "later"]), max_size=4),
    st.lists(st.integers(0, 25), max_size=4),
)
def test_killed_at_any_step(kinds, behaviour, deaths):
    """Law 2: killed anywhere, in the journal, before, during and after a call, any number of times: what is idempotent or reconcilable
    happened once, what is plain at most once, with every plain call whose answer did not come in a review, and no event is missing."""
    world, log, agent, decided = start(kinds, behaviour)
    for lives in [*deaths, None]:
        world.lives = lives
        try:
            step, course = performed(agent, world, log)
        except Died:
            continue
        while isinstance(step, Wait):
            asyncio.run(MemoryJournal(log).append([Judged(id=decided.id, review=step.review, verdict="approved", at=1)]))
            step, course = performed(agent, world, log) if lives is None else (None, None)
    assert step.outcome in ("acted", "approved")
    published = Counter(event.id for event in log.published)
    assert set(published) >= {event.id for event in decided.effects}
    for call in decided.calls:
        if call.kind == "plain":
            assert world.calls[call.id] <= 1 or set(behaviour) & {"later"}
            assert world.happened[call.id] <= 1
            known = course.answered[call.id].state
            assert known == "unknown" or world.happened[call.id] == 1
            assert (review_id(call.id) in published) == (known == "unknown")
        else:
            assert world.happened[call.id] == 1
