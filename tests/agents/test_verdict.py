import asyncio
import threading
import time
from collections import Counter
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.agents.agent import Agent, Decision, Publish, decision_id
from headwater.agents.authorise import Ruling, authorise
from headwater.agents.book import Book
from headwater.agents.context import Ports
from headwater.agents.decider import Decider, Item
from headwater.agents.review import review_id
from headwater.agents.testing import Died, MemoryJournal, MemoryLog, MemorySearch, ScriptedModel, activation
from headwater.agents.tool import Call, tool
from headwater.agents.verdict import Verdict, Waiting, verdict_event, verdict_of
from headwater.lineage.errors import Invalid
from headwater.lineage.event import Event
from headwater.lineage.topic import Topic


class Plan(BaseModel):
    response: str


RULE = SimpleNamespace(name="cancellations")
PLANS = Topic("plans", Plan)
CALLED = Counter()


@tool(kind="idempotent")
async def rebook(booking: str, effect: str) -> str:
    CALLED[effect] += 1
    return "rebooked"


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def unsure(woken, context):
    plan = Plan(response="hold")
    publish = Publish(PLANS, plan, key=woken.key)
    return Decision(plan, confidence=0.2).with_effects(publish, Call(rebook, {"booking": woken.key}), Publish(PLANS, Plan(response="tell")))


AGENT = Agent("recover", unsure, (RULE,), publishes=(PLANS,), tools=(rebook,), act_above=0.5, expires="1h")
HOUR = 3_600_000_000


def ports(rule=authorise, now=1):
    return Ports(MemorySearch(), ScriptedModel("x"), lambda: now, "B", random=lambda: 0.0, authorise=rule)


def item(n, key="EWR"):
    return Item(activation(key, at=n), f"B/headwater.activations/0/{n}", woken=n)


def asked(one):
    return review_id(decision_id("recover", one.activation.id))


def verdict(one, said="approved", n=1, **more):
    decision = decision_id("recover", one.activation.id)
    position = f"B/headwater.reviews/0/{n}"
    given = {"by": "Ada", "reason": "looks right", "at": 5, "position": position, **more}
    return Verdict(review=review_id(decision), decision=decision, agent="recover", partition=0, verdict=said, **given)


def drain(decider, n):
    finished = []
    for _ in range(20_000):
        finished += decider.poll()
        if len(finished) >= n:
            return finished
        time.sleep(0.001)
    raise AssertionError(f"{len(finished)} of {n} finished")


def waiting_decider(loop, log, items, **given):
    decider = Decider(AGENT, given.pop("ports", ports()), MemoryJournal(log), log.book(), loop, **given)
    for one in items:
        decider.submit(one)
    done = drain(decider, len(items))
    assert {each.outcome for each in done} == {"waiting"}
    return decider


def test_approved_effects_happen_once(loop):
    """An approved review performs the effects that were held back, under their ids, and ends its activation as approved."""
    log, one = MemoryLog(), item(1)
    decider = waiting_decider(loop, log, [one])
    assert [event.topic for event in log.published] == ["headwater.reviews"]
    decider.submit(verdict(one))
    (done,) = drain(decider, 1)
    assert (done.outcome, done.position, done.activation) == ("approved", one.position, one.activation.id)
    assert [msgspec.json.decode(event.data)["response"] for event in log.published[1:]] == ["hold", "tell"]
    assert sorted(record.kind for record in done.records) == ["effect", "effect", "effect", "verdict"]
    assert next(r for r in done.records if r.kind == "verdict").data["by"] == "Ada"
    assert decider.waiting() == [] and decider.in_flight() == []


def test_declined_effects_never_happen(loop):
    """A declined review leaves everything as it was, and says who declined and why."""
    log, one = MemoryLog(), item(1)
    decider = waiting_decider(loop, log, [one])
    decider.submit(verdict(one, "declined"))
    (done,) = drain(decider, 1)
    assert done.outcome == "declined" and len(log.published) == 1
    assert [(r.kind, r.data["verdict"], r.data["reason"]) for r in done.records] == [("verdict", "declined", "looks right")]


def test_a_review_is_judged_once(loop):
    """The first verdict counts; every other one, before or after it is carried out, is recorded as refused and ends nothing."""
    log, one = MemoryLog(), item(1)
    decider = waiting_decider(loop, log, [one])
    decider.submit(verdict(one, "declined"))
    decider.submit(verdict(one, n=2))
    first, second = drain(decider, 2)
    decider.submit(verdict(one, n=3))
    (third,) = drain(decider, 1)
    assert (first.outcome, second.position, third.position) == ("declined", "", "")
    for late in (second, third):
        (record,) = late.records
        assert record.data["accepted"] is False and "judged once" in record.data["refused"]
    assert len(log.published) == 1


def test_an_unknown_review_is_refused(loop):
    """A verdict on a review that nobody asked for is recorded as refused."""
    decider = Decider(AGENT, ports(), MemoryJournal(MemoryLog()), Book(), loop)
    decider.submit(verdict(item(9)))
    (done,) = drain(decider, 1)
    assert done.position == "" and "no review of this id" in done.records[0].data["refused"]


def test_a_review_does_not_hold_its_key(loop):
    """Law 5: while a review waits, later activations of the key are decided."""
    decider = waiting_decider(loop, MemoryLog(), [item(n) for n in range(3)])
    assert len(decider.waiting()) == 3 and decider.in_flight() == []


def test_reviews_expire(loop):
    """After its time a review ends as expired, once; what it held back never happens."""
    log, one = MemoryLog(), item(1)
    decider = waiting_decider(loop, log, [one])
    decider.expire(HOUR)
    assert decider.in_flight() == []
    for _ in range(2):
        decider.expire(HOUR + 1)
    (done,) = drain(decider, 1)
    assert done.outcome == "expired" and len(log.published) == 1
    decider.expire(2 * HOUR)
    assert decider.in_flight() == [] and decider.waiting() == []


def test_another_choice_takes_its_place(loop):
    """A verdict may change the choice: the events that carry the choice carry the new one, the others stay."""
    log, one = MemoryLog(), item(1)
    decider = waiting_decider(loop, log, [one])
    decider.submit(verdict(one, n=1, choice={"wrong": 1}))
    (refused,) = drain(decider, 1)
    assert "does not fit the topic plans" in refused.records[-1].data["refused"]
    decider.submit(verdict(one, n=2, choice={"response": "rebook all"}))
    (done,) = drain(decider, 1)
    assert done.outcome == "approved"
    assert [msgspec.json.decode(event.data)["response"] for event in log.published[1:]] == ["rebook all", "tell"]


def test_an_approval_does_not_overrule_a_policy(loop):
    """Law 7: what a policy forbids stays forbidden when a person approves: the verdict is refused with the ruling, the review waits on."""
    log, one = MemoryLog(), item(1)

    def no_calls(principal, action, resource, context):
        return Ruling(False, "p", "no calls today") if "approved_by" in context and action == "call" else Ruling(True, "p", "")

    decider = waiting_decider(loop, log, [one], ports=ports(no_calls))
    decider.submit(verdict(one))
    (done,) = drain(decider, 1)
    assert done.position == "" and len(log.published) == 1
    assert {record.kind for record in done.records} == {"ruling", "verdict"} and "no calls today" in done.records[-1].data["refused"]
    assert len(decider.waiting()) == 1
    decider.submit(verdict(one, "declined", n=2))
    assert drain(decider, 1)[0].outcome == "declined"


@given(st.text(max_size=9), st.none() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))
def test_a_verdict_survives_its_event(reason, choice):
    """verdict_event, then verdict_of, is the identity."""
    given = verdict(item(1), reason=reason, choice=choice)
    assert verdict_of(verdict_event(given, "id"), given.position) == given


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"review": 1}'])
def test_what_is_no_verdict_is_refused(data):
    """Invalid, with words, and nothing else."""
    with pytest.raises(Invalid, match="carries no verdict"):
        verdict_of(Event(id="v", source="s", type="t", time=1, data=data), "p")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 14), min_size=1, max_size=5), st.booleans(), st.sampled_from(["approved", "declined"]), st.booleans())
def test_killed_at_any_step(loop, deaths, snapshots, said, early):
    """Laws 1 and 2: killed at any step of asking and judging, from a snapshot or from the beginning, with the verdict read before its
    activation or after it: one verdict counts, its effects happen once under their ids, and every activation ends."""
    log = MemoryLog()
    items = [item(n, key=f"k{n % 2}") for n in range(3)]
    verdicts = [verdict(one, said, n=n) for n, one in enumerate(items)]
    held, waiting = [*items], []
    CALLED.clear()
    ended = {}
    for lives in [*deaths, None]:
        decider = Decider(AGENT, ports(), MemoryJournal(log, lives=lives), log.book(), loop, waiting=waiting)
        questions = {event.id for event in log.published}
        ready = [each for each in verdicts if each.review in questions and each not in held]
        for one in [*ready, *held] if early else [*held, *ready]:
            decider.submit(one)
        sent = {each.place for each in ready}
        try:
            for _ in range(20_000):
                for done in decider.poll():
                    if done.position:
                        ended.setdefault(done.position, []).append(done.outcome)
                for each in verdicts if lives is None else ():
                    if each.place not in sent and any(event.id == each.review for event in log.published):
                        sent.add(each.place)
                        decider.submit(each)
                if not decider.in_flight() and (lives is not None or not decider.waiting()):
                    break
                time.sleep(0.0005)
            else:
                raise AssertionError(f"it hangs: {decider.in_flight()} {decider.waiting()}")
        except Died:
            decider.close(0)
        if snapshots:
            state = msgspec.json.encode((decider.in_flight(), decider.waiting()))
            left, waiting = decider.in_flight(), msgspec.json.decode(msgspec.json.encode(decider.waiting()), type=list[Waiting])
            assert state
            held = [each for each in left if isinstance(each, Item)] + [each for each in left if isinstance(each, Verdict)]
        else:
            held, waiting = [*items], []
    assert {position: outcomes[-1] for position, outcomes in ended.items()} == {one.position: said for one in items}
    assert all(set(outcomes) <= {"waiting", said} for outcomes in ended.values())
    published = Counter(event.id for event in log.published)
    decisions = [decision_id("recover", one.activation.id) for one in items]
    held_back = {event.id for entry in log.read() if entry.__class__.__name__ == "Decided" for event in entry.effects}
    assert all(published[review_id(decision)] for decision in decisions)
    assert bool(held_back & set(published)) == (said == "approved") and len(CALLED) == (3 if said == "approved" else 0)
