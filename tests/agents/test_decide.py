import asyncio
import enum
import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Literal

import msgspec
import numpy as np
import pytest
from pydantic import BaseModel

from headwater.agents import answer as answer_module
from headwater.agents.agent import Agent, Decision, Option, Publish, decision_id, effect_id
from headwater.agents.authorise import Ruling
from headwater.agents.budget import Budget
from headwater.agents.context import Chosen, Ports
from headwater.agents.course import Course
from headwater.agents.decide import decide, plain, summary
from headwater.agents.effect import effect_records
from headwater.agents.journal import Done, decode, encode
from headwater.agents.review import review_id
from headwater.agents.testing import MemoryHit, MemorySearch, ScriptedModel, activation, scripted
from headwater.lineage.errors import Forbidden
from headwater.lineage.topic import REVIEWS, Topic


class Plan(BaseModel):
    response: Literal["hold", "rebook"]


class Crew(BaseModel):
    name: str
    urgent: bool = False


RULE = SimpleNamespace(name="cancellations")
PLANS, CREWS = Topic("plans", Plan), Topic("crews", Crew, key="name")
WOKEN = activation(at=42)
ID = decision_id("recover", WOKEN.id)
HOLD = Decision(Plan(response="hold"), confidence=0.8, options=(Option("hold", 0.8), Option("rebook", 0.2)), evidence=("a",)).with_effects(
    Publish(PLANS, Plan(response="hold"), key="EWR")
)


def an_agent(function, **fields):
    given = {"publishes": (PLANS,), "act_above": 0.7, **fields}
    return Agent("recover", function, (RULE,), **given)


def run(agent, **ports):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    ticks = iter(range(1_000, 10_000))
    given = {"search": MemorySearch(), "chooser": ScriptedModel("x"), "clock": lambda: next(ticks), "broker": "B", "sleep": sleep, **ports}
    decided = asyncio.run(decide(agent, WOKEN, Ports(**given), position="B/headwater.activations/0/7", woken=999))
    return decided, slept


def kinds(decided):
    return [record.kind for record in decided.records]


def test_a_sure_decision_is_acted_on():
    """At or above the threshold a decision acts; its effects carry deterministic ids, the activation's time and its causes."""
    decided, slept = run(an_agent(scripted(HOLD)))
    assert (decided.id, decided.state, decided.summary, decided.choice) == (ID, "acted", "hold", {"response": "hold"})
    (effect,) = decided.effects
    assert (effect.id, effect.topic, effect.key, effect.time) == (effect_id(ID, 0), "plans", "EWR", 42)
    assert (effect.causationid, effect.correlationid, effect.actor) == (ID, WOKEN.episode, "agent/recover@1")
    assert bytes(effect.data) == b'{"response":"hold"}'
    assert decided.position == "B/headwater.activations/0/7" and decided.attempts == 1 and not slept
    assert kinds(decided) == ["ruling", "ruling", "decision"]


def test_an_unsure_decision_asks_a_person():
    """Below the threshold nothing is sent but one question, with a deterministic id, that shows what would be sent."""
    unsure = Decision(HOLD.choice, options=HOLD.options, confidence=0.69).with_effects(*HOLD.effects)
    decided, _ = run(an_agent(scripted(unsure)))
    assert decided.state == "waiting" and len(decided.effects) == 1
    question = decided.review
    assert (question.topic, question.id, question.type) == (REVIEWS, review_id(ID), "headwater.review.requested")
    data = msgspec.json.decode(question.data)
    assert data["reason"] == "unsure" and data["effects"][0]["data"] == {"response": "hold"} and "0.69" in data["question"]
    assert kinds(decided)[-1] == "review" and decided.records[-1].parents == (ID,)


def test_nothing_to_do_is_a_decision():
    """choice=None ends as no_action, at any confidence, with nothing to send."""
    decided, _ = run(an_agent(scripted(Decision(None, rationale="all is well", confidence=0.1))))
    assert (decided.state, decided.effects, decided.review, decided.choice, decided.summary) == ("no_action", (), None, None, "")


def test_failures_are_tried_again_in_place():
    """Attempts follow each other with growing, jittered pauses; the first answer counts and every failure is noted."""
    decided, slept = run(an_agent(scripted(ValueError("no idea"), ValueError("none"), HOLD), attempts=3), random=lambda: 0.5)
    assert (decided.state, decided.attempts) == ("acted", 3)
    assert slept == [0.1, 0.2]
    assert "no idea" in decided.error and kinds(decided).count("note") == 2


def test_a_fallback_decides_when_attempts_end():
    """After the last attempt the fallback is asked, under its own threshold and topics; the decision stays the woken agent's."""
    rules = Agent("rules", scripted(HOLD), (), publishes=(PLANS,), version="9")
    decided, _ = run(an_agent(scripted(RuntimeError("down")), fallback=rules))
    assert (decided.state, decided.id, decided.agent, decided.by, decided.version, decided.attempts) == (
        "acted",
        ID,
        "recover",
        "rules",
        "9",
        3,
    )
    assert decided.effects[0].id == effect_id(ID, 0)


def test_without_a_fallback_a_person_is_asked():
    """When all attempts fail and there is no fallback the question says what failed."""
    decided, _ = run(an_agent(scripted(RuntimeError("the model is down"))))
    assert (decided.state, decided.confidence) == ("waiting", 0.0)
    data = msgspec.json.decode(decided.review.data)
    assert data["reason"] == "failed" and "the model is down" in data["question"] and data["error"]


def test_a_slow_attempt_ends():
    """An attempt takes at most the agent's timeout."""

    async def slow(activation, context):
        await asyncio.sleep(60)

    decided, _ = run(an_agent(slow, timeout="5ms", attempts=1))
    assert decided.state == "waiting" and "longer than 5ms" in decided.error


def test_a_cancelled_wait_of_the_agent_is_a_failure():
    """A CancelledError that comes from inside the agent holds nothing up: it is a failed attempt."""

    async def waits(activation, context):
        raise asyncio.CancelledError

    decided, _ = run(an_agent(waits))
    assert (decided.state, decided.attempts) == ("waiting", 2)


class Unsayable:
    def __str__(self):
        raise ValueError("no words")


class Wordless(Exception):
    def __str__(self):
        raise ValueError("no words")


CYCLE: dict = {}
CYCLE["again"] = CYCLE


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("hold", "not a Decision"),
        (Decision("hold", confidence=math.nan), "confidence nan"),
        (Decision("hold", confidence=1.1), "between 0 and 1"),
        (Decision(None).with_effects(*HOLD.effects), "chose nothing"),
        (Decision("hold").with_effects(Publish(PLANS, Crew(name="x"))), "does not fit the topic plans"),
        (Decision("hold").with_effects(Publish(CREWS, {"nam": "x"})), "does not fit the topic crews"),
        (Decision("hold", confidence="high"), "confidence 'high'; a finite number"),
        (Decision("hold", confidence=True), "confidence True"),
        (Decision("hold", cost={"tokens": math.inf}), "cost tokens inf"),
        (Decision("hold", cost={"tokens": None}), "cost tokens None"),
        (Decision("hold", cost={"tokens": -5.0}), "cost tokens -5.0; nothing costs less than 0"),
        (Decision("hold", cost={"tokens": 10**400}), "OverflowError"),
        (Decision("hold", cost=None), "cost None; a mapping"),
        (Decision("hold", rationale=None), "rationale None; a text"),
        (Decision("hold", rationale="half \ud800"), "cannot be written"),
        (Decision("hold", evidence="a"), "evidence 'a'; a tuple"),
        (Decision("hold", evidence=(1,)), "evidence 1; a text"),
        (Decision("hold", options=("hold",)), "options 'hold'; an Option"),
        (Decision("hold", options=(Option("hold", math.nan),)), "options: confidence nan"),
        (Decision("hold", without={"a": 1}), "without a 1; an Option"),
        (Decision("hold", effects=("plans",)), "effects 'plans'; a Publish"),
        (Decision("hold", effects=(Publish("plans", {}),)), "a Publish on a Topic"),
        (Decision("hold", effects=(Publish(PLANS, HOLD.choice, key=7),)), "effects: key 7; a text"),
        (Decision("hold", effects=(Publish(PLANS, HOLD.choice, key="\udfff"),)), "cannot be written"),
        (Decision({"half": "\ud800"}), "UnicodeEncodeError"),
        (Decision(CYCLE), "RecursionError"),
        (Decision(Unsayable()), "ValueError"),
    ],
)
def test_what_is_no_decision_fails(answer, says):
    """An answer that is none, or whose effects break their topic, is a failed attempt and never goes out."""

    async def function(activation, context):
        return answer

    decided, _ = run(an_agent(function, publishes=(PLANS, CREWS)))
    assert decided.state == "waiting" and not decided.effects and says in decided.error
    assert encode(decode(encode(decided))) == encode(decided)


class Hue(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "answer",
    [
        Decision("hold", confidence=np.float32(0.75), cost={"tokens": 3, "share": np.float64(0.5)}, evidence=["a"]),
        Decision({1: "a", "b": math.nan}, options=[Option(Hue.RED, 1)], rationale=Hue.RED),
        Decision(Hue.RED, without={Hue.RED: Option("x", 0)}),
    ],
)
def test_what_means_the_same_is_made_plain(answer):
    """Numbers of other libraries, texts of enumerations and lists are what they stand for, and come back from the journal as they are."""
    decided, _ = run(an_agent(scripted(answer)))
    assert decided.state == "acted"
    assert type(decided.confidence) is float and all(type(option.name) is str for option in decided.options)
    again = decode(encode(decided))
    assert encode(again) == encode(decided) and (again.choice, again.cost) == (decided.choice, decided.cost)
    assert (again.options, again.without, again.rationale) == (decided.options, decided.without, decided.rationale)


def test_an_answer_too_large_asks_a_person():
    """An effect that the journal cannot hold fails the attempt; it is not sent, and the question fits."""
    large = Decision("hold").with_effects(Publish(CREWS, Crew(name="x" * 3000)))
    decided, _ = run(an_agent(scripted(large), publishes=(CREWS,)), largest=10_000)
    assert decided.state == "waiting" and not decided.effects and "at most 2500 go into the journal" in decided.error
    assert len(encode(decided)) <= 10_000


def test_records_too_large_are_cut():
    """What an agent saw and said beyond what the journal holds is cut from its records, which say so; the decision is as it was."""

    async def talks(activation, context):
        context.note("short")
        for n in range(3):
            context.note(str(n) * 6_000)
        return HOLD

    whole, _ = run(an_agent(talks))
    decided, _ = run(an_agent(talks), largest=20_000)
    assert len(encode(decided)) <= 20_000 < len(encode(whole))
    assert (decided.state, decided.effects, [r.id for r in decided.records]) == ("acted", whole.effects, [r.id for r in whole.records])
    notes = [record.data for record in decided.records if record.kind == "note"]
    assert notes[0] == {"text": "short"} and notes[3] == {"text": "2" * 6_000}
    assert notes[1] == {"text": "0" * 500, "cut": ["text"]}


def test_many_records_too_large_are_cut_in_one_pass():
    """However many records there are, the entry is encoded a few times, not once for each."""
    encoded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_module, "encode", lambda entry: encoded.append(1) or encode(entry))

        async def talks(activation, context):
            for _ in range(900):
                context.note("long " * 200)
            return HOLD

        decided, _ = run(an_agent(talks), largest=900_000)
    assert len(encode(decided)) <= 900_000 and len(encoded) < 10
    assert sum("cut" in record.data for record in decided.records) < 900


def test_an_attempt_that_says_too_much_fails():
    """What is kept beside a decision is bounded: an agent that notes without end fails, and a person is asked."""

    async def talks(activation, context):
        for n in range(100_000):
            context.note(f"thought {n}")
        return HOLD

    decided, _ = run(an_agent(talks, attempts=1))
    assert decided.state == "waiting" and "more than 1000 times in one attempt" in decided.error
    assert sum(record.kind == "note" for record in decided.records) == 1001  # and that the attempt failed


@pytest.mark.parametrize("cost", [{"input_tokens": -300.0}, {"input_tokens": math.nan}, {"input_tokens": "many"}])
def test_what_a_question_cost_is_a_number(cost):
    """A model of one's own that tells no amount fails the attempt; no budget counts it."""

    async def asks(activation, context):
        async def question():
            return Chosen(Decision("hold", cost=cost), "mine", "?", "hold")

        await context.consult(question)
        return HOLD

    agent = an_agent(asks, attempts=1, budget=Budget(tokens=1000))
    decided, _ = run(agent)
    assert decided.state == "waiting" and "came with cost input_tokens" in decided.error
    assert decode(encode(decided)).spent["recover"].tokens == 0


class Panic(BaseException):
    """As extension modules raise it."""


@pytest.mark.parametrize(
    "error",
    [ValueError("half \ud800"), ValueError("x" * 10_000_000), Wordless(), SystemExit(1), Forbidden("half \udfff"), Panic("no such index")],
)
def test_whatever_an_agent_raises_is_told(error):
    """No error of an agent gets past the decision, nor what it says into the journal unreadable."""
    decided, _ = run(an_agent(scripted(error)))
    assert decided.state == "waiting" and decode(encode(decided)).error == decided.error and len(encode(decided)) < 100_000


def test_what_fails_alike_is_told_once():
    """Three attempts that fail the same way are one sentence of the question, and say so."""
    decided, _ = run(an_agent(scripted(*[ConnectionError("down")] * 3), attempts=3))
    question = msgspec.json.decode(decided.review.data)["question"]
    assert decided.error == "recover@1: ConnectionError: down (3 times)" and question.count("down") == 1


def test_ctrl_c_outside_the_main_thread_is_the_agents_own():
    """No key reaches the thread that agents run in: KeyboardInterrupt there is a failure like others; in the main thread it is Ctrl-C."""
    agent = an_agent(scripted(KeyboardInterrupt()))
    with ThreadPoolExecutor(1) as pool:
        decided, _ = pool.submit(run, agent).result()
    assert (decided.state, decided.attempts) == ("waiting", 2) and "KeyboardInterrupt" in decided.error
    with pytest.raises(KeyboardInterrupt):
        run(agent)


def test_a_plain_function_is_told_to_be_async():
    """An agent that is no coroutine function fails with the line to write."""
    decided, _ = run(an_agent(lambda activation, context: HOLD))
    assert "async def recover" in decided.error


def test_forbidden_effects_hold_back_all():
    """Law 7: one effect outside `publishes` and none goes out; each ruling is recorded and a person is asked."""
    both = HOLD.with_effects(Publish(CREWS, Crew(name="ann")))
    decided, _ = run(an_agent(scripted(both)))
    assert decided.state == "waiting" and decided.review.topic == REVIEWS
    assert msgspec.json.decode(decided.review.data)["reason"] == "forbidden"
    rulings = {record.data["resource"]: record.data["allowed"] for record in decided.records if record.kind == "ruling"}
    assert rulings == {"cancellations": True, "plans": True, "crews": False}


def test_a_refused_agent_is_not_asked():
    """Law 7: an agent that may not decide is not run."""

    async def never(activation, context):
        raise AssertionError("it ran")

    decided, _ = run(an_agent(never), authorise=lambda *question: Ruling(False, "freeze", "no agent acts today"))
    assert (decided.state, decided.attempts, decided.error) == ("waiting", 0, "no agent acts today")


def test_forbidden_is_not_tried_again():
    """A refusal inside the agent ends its attempts: trying again cannot help."""
    calls = []

    async def reads(activation, context):
        calls.append(1)
        await context.retrieve("x")

    def closed(principal, action, resource, context):
        return Ruling(action != "retrieve", "closed", "the index is closed")

    decided, slept = run(an_agent(reads, attempts=3), authorise=closed)
    assert decided.state == "waiting" and calls == [1] and not slept
    assert msgspec.json.decode(decided.review.data)["reason"] == "forbidden"


async def considered(activation, context):
    evidence = await context.retrieve("cancelled", limit=2)
    context.note("two is enough")
    return await context.choose(Plan, evidence)


def test_the_decision_record_names_its_path():
    """Law 9: from the decision's record to the activation, the retrievals, and the id of every record it used."""
    hits = [MemoryHit(id="a", document="d/a", text="cancelled")]
    decided, _ = run(an_agent(considered, publishes=()), search=MemorySearch(hits), chooser=ScriptedModel(HOLD))
    record = next(record for record in decided.records if record.kind == "decision")
    assert record.parents == (WOKEN.id, f"{ID}:r0") and record.outcome == decided.state and record.at == 42
    assert record.data["used"] == [other.id for other in decided.records if other.id != record.id and other.kind != "review"]
    assert record.data["choice"] == {"response": "hold"} and record.data["woken"] == 999


def content(decided):
    shown = [
        (r.kind, r.ref, {k: v for k, v in r.data.items() if k not in ("woken", "decided", "cost", "waited_ms")}) for r in decided.records
    ]
    return shown, decided.effects, decided.review, decided.choice, decided.options


def test_equal_inputs_give_equal_decisions():
    """Two runs at different times differ in wall-clock values only, record ids included."""
    hits = [MemoryHit(id="a", document="d/a", text="cancelled")]
    runs = []
    for start in (0, 5_000_000):
        ticks = iter(range(start, start + 10_000, 7))
        decided, _ = run(an_agent(considered), search=MemorySearch(hits), chooser=ScriptedModel(HOLD), clock=lambda: next(ticks))  # noqa: B023
        runs.append((content(decided), [record.id for record in decided.records]))
    assert runs[0] == runs[1]


def test_costs_of_all_questions_count():
    """The cost is that of every question in every attempt, and the seconds it took."""
    costly = Decision(HOLD.choice, cost={"input_tokens": 10.0})

    async def twice(activation, context):
        await context.choose(Plan, [])
        return await context.choose(Plan, [])

    decided, _ = run(an_agent(twice), chooser=ScriptedModel(costly))
    assert decided.cost["input_tokens"] == 20.0 and decided.cost["seconds"] > 0


def test_effects_leave_records():
    """Each effect that went out has a record under its decision, with the token of its position."""
    decided, _ = run(an_agent(scripted(HOLD)))
    done = Done(id=ID, effects=(decided.effects[0].id,), at=5)
    (record,) = effect_records(Course(decided).applied([done.placed(["B/plans/0/17"])]))
    assert (record.kind, record.step, record.ref, record.parents) == ("effect", "effects", effect_id(ID, 0), (ID,))
    assert record.data["position"] == "B/plans/0/17" and record.data["target"] == "plans" and record.data["data"] == {"response": "hold"}
    assert effect_records(Course(decided).applied([done]))[0].id == record.id


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (None, ""),
        ("hold", "hold"),
        (Plan(response="rebook"), "rebook"),
        (Crew(name="ann", urgent=True), "ann · urgent: True"),
        (True, "True"),
    ],
)
def test_a_choice_in_a_few_words(choice, text):
    """The summary is the value, or the values of its fields; JSON keeps the whole."""
    assert summary(choice) == text
    assert msgspec.json.decode(msgspec.json.encode(plain(choice))) == plain(choice)
