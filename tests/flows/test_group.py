"""Which requests to a journal share a commit."""

import asyncio
import threading

import pytest

from headwater.agents.journal import Decided
from headwater.flows import group
from headwater.flows.group import Request, Requests

HOUR = 3600.0


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def request_of(loop):
    """Makes a request for a decision in some state."""

    def making(state: str) -> Request:
        decided = Decided(id=state, agent="a", by="a", version="1", digest="", activation="x", key="k", at=1, state=state)
        return Request((), (), loop.create_future(), loop, decided)

    return making


def later(*steps):
    """Runs these in another thread, a moment from now."""
    timer = threading.Timer(0.02, lambda: [step() for step in steps])
    timer.start()
    return timer


def test_questions_to_people_wait_for_each_other(request_of, monkeypatch):
    """A commit of nothing but questions takes those that come for a good while, and is made at once when its owner ends."""
    monkeypatch.setattr(group, "PATIENT_S", HOUR)
    requests, asked = Requests(), [request_of("waiting") for _ in range(3)]
    requests.put(asked[0])
    timer = later(lambda: requests.put(asked[1]), lambda: requests.put(asked[2]), requests.end)
    assert requests.gather() == asked and requests.gather() == []
    timer.join()


def test_what_acts_waits_for_no_question(request_of, monkeypatch):
    """Questions share the commit of a decision that acts as soon as one comes, and do not hold it."""
    monkeypatch.setattr(group, "PATIENT_S", HOUR)
    requests, question, act = Requests(), request_of("waiting"), request_of("acted")
    for _ in range(2):  # the second time nothing is left of the first
        requests.put(question)
        timer = later(lambda: requests.put(act))
        assert requests.gather() == [question, act]
        timer.join()
    requests.put(act)
    requests.put(question)
    assert requests.gather() == [act, question]


def test_what_waits_already_is_committed_at_once(request_of, monkeypatch):
    """Who has waited as long as company is waited for, waits no more; nor does a full group."""
    monkeypatch.setattr(group, "PATIENT_S", HOUR)
    monkeypatch.setattr(group, "LARGEST_GROUP", 3)
    requests, asked = Requests(), [request_of("waiting") for _ in range(5)]
    asked[3].came -= 2 * HOUR
    for each in asked:
        requests.put(each)
    assert requests.gather() == asked[:3] and requests.gather() == asked[3:]
