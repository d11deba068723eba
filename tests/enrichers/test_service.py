"""Http: many questions at once within bounds, answers kept, no host but the declared one, and failures told apart."""

import json
import threading

import pytest
from pydantic import BaseModel

from headwater.enrichers.asking import Asking
from headwater.enrichers.enrich import enrich
from headwater.enrichers.service import Http
from headwater.lineage.decode import Received
from headwater.lineage.errors import EnricherFailed, EnricherUnavailable, Misused, Unavailable
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic


class Plane(BaseModel):
    id: str
    tail: str | None


def received(*tails):
    return [
        Received(Position("b", "planes", 0, n), Event(id=f"e{n}", source="s", type="t", time=1), Plane(id=str(n), tail=tail), 1)
        for n, tail in enumerate(tails)
    ]


@pytest.fixture
def planes(service):
    """Makes the enricher under test over the local service, and lets go of it."""
    made = []

    def make(path="/planes/{tail}", **options):
        made.append(Http(service.url + path, on="tail", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def echo(method, path, body, headers):
    return 200, json.dumps({"path": path}).encode(), {}


def test_each_address_is_asked_once_and_kept(service, planes):
    """Events of a batch with the same value share a question, later ones the kept answer; lineage hears the declared address."""
    service.answer = echo
    topic = Topic("planes", Plane, enrich={"plane": planes()})
    enriched, failures = enrich(topic, received("N1", "N2", "N1", None, ""))
    assert failures == []
    assert [one.facts["plane"] for one in enriched] == [{"path": "/planes/N1"}, {"path": "/planes/N2"}, {"path": "/planes/N1"}, None, None]
    assert enriched[0].reads == {"plane": service.url + "/planes/{tail}"}
    enrich(topic, received("N2", "N1"))
    assert sorted(service.asked) == ["/planes/N1", "/planes/N2"]


@pytest.mark.parametrize("value", ["../admin", "a/b?c=d#e", "@evil.example/", "\\\\evil", "ü ", "a\r\nhost: x", "%2e%2e", "\ud800"])
def test_a_value_stays_in_its_place(service, planes, value):
    """Whatever an event says, the declared host is asked, at the declared path, with the value as one piece of it."""
    service.answer = echo
    planes().facts_of(received(value))
    [path] = service.asked
    assert path.startswith("/planes/") and path.count("/") == 2
    assert not set(path) & set("?#@\\ \r\n")


@pytest.mark.parametrize("value", [".", ".."])
def test_a_value_that_means_another_path_is_refused(service, planes, value):
    """Dots that a server would resolve are never sent."""
    [answer] = planes().facts_of(received(value))
    assert isinstance(answer, EnricherFailed) and service.asked == []


@pytest.mark.parametrize(("status", "kind"), [
    (500, EnricherUnavailable), (503, EnricherUnavailable), (429, EnricherUnavailable), (408, EnricherUnavailable),
    (404, EnricherFailed), (400, EnricherFailed), (302, EnricherFailed),
])  # fmt: skip
def test_failures_pass_or_stay(service, planes, status, kind):
    """5xx, 408, 425 and 429 are tried again by the ladder; other refusals are dead letters. A redirect is a refusal, not followed."""
    service.answer = lambda *told: (status, b"", {"location": service.url + "/elsewhere"})
    topic = Topic("planes", Plane, enrich={"plane": planes()})
    enriched, [(_, error)] = enrich(topic, received("N1"))
    assert enriched == [] and type(error) is kind and error.cause == "enricher_failed"
    assert service.asked == ["/planes/N1"]


def test_what_is_no_json_or_too_large_is_refused(service, planes):
    """An answer that cannot be used fails for good, and is not read beyond its bound."""
    service.answer = lambda method, path, *told: (200, b"<html>" if "html" in path else b'"' + b"x" * 5000 + b'"', {})
    answers = planes(max_bytes=1000).facts_of(received("html", "large"))
    assert [type(answer) for answer in answers] == [EnricherFailed] * 2
    assert "not JSON" in str(answers[0]) and "1000 bytes" in str(answers[1])


def test_no_such_thing_and_no_answer_may_be_none(service, planes):
    """Statuses in `unknown` are the answer None; with on_error="none" every failure is."""
    service.answer = lambda method, path, *told: (404 if "gone" in path else 500, b"", {})
    [known] = planes(unknown=(404,)).facts_of(received("gone"))
    assert known.facts is None
    assert [known.facts for known in planes(on_error="none").facts_of(received("gone", "broken", ".."))] == [None] * 3


def test_no_more_than_at_once_are_under_way(service, planes):
    """Questions beyond the bound wait for their turn, and all are answered."""
    most, now, lock, full = 0, 0, threading.Lock(), threading.Event()

    def answer(method, path, body, headers):
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                full.set()
        full.wait(30)
        with lock:
            now -= 1
        return echo(method, path, body, headers)

    service.answer = answer
    answers = planes(at_once=3, timeout="60s").facts_of(received(*(f"N{n}" for n in range(12))))
    assert [known.facts["path"] for known in answers] == [f"/planes/N{n}" for n in range(12)]
    assert most == 3


def test_two_flows_that_ask_the_same_share_the_question(service, planes):
    """While a question is under way whoever asks it again waits for its answer."""
    asked, go = threading.Event(), threading.Event()

    def answer(*told):
        asked.set()
        go.wait(30)
        return echo(*told)

    service.answer = answer
    one = planes(timeout="60s")
    found = []
    threads = [threading.Thread(target=lambda: found.extend(one.facts_of(received("N1")))) for _ in range(2)]
    threads[0].start()
    assert asked.wait(30)
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert [known.facts for known in found] == [{"path": "/planes/N1"}] * 2 and service.asked == ["/planes/N1"]


def test_a_silent_service_rests_and_kept_answers_are_given_meanwhile(service):
    """After a batch without any answer the service is left in peace, longer each time. Answers age, and so many are kept."""
    now = [0.0]
    asking = Asking(
        headers={}, timeout_s=30, ttl_s=100, most=2, at_once=4, max_bytes=1000, unknown=frozenset(), clock=lambda: now[0]
    )
    service.answer = echo
    asking.ask([f"{service.url}/a"])
    service.answer = lambda *told: (503, b"", {})
    assert isinstance(asking.ask([f"{service.url}/b"])[0], Unavailable)
    kept, rested = asking.ask([f"{service.url}/a", f"{service.url}/b"])
    assert kept == {"path": "/a"} and isinstance(rested, Unavailable) and service.asked == ["/a", "/b"]
    now[0] += 1
    asking.ask([f"{service.url}/b"])
    now[0] += 1
    asking.ask([f"{service.url}/b"])
    assert service.asked == ["/a", "/b", "/b"]
    now[0] += 1
    service.answer = echo
    assert asking.ask([f"{service.url}/b", f"{service.url}/c"]) == [{"path": "/b"}, {"path": "/c"}]
    asking.ask([f"{service.url}/a"])
    assert service.asked[-1] == "/a"  # two were used since
    now[0] += 200
    asking.ask([f"{service.url}/a"])
    assert service.asked[-2:] == ["/a", "/a"]
    asking.close()


def test_a_dead_service_is_unavailable(service, planes):
    """A refused connection and a time-out may pass."""
    go = threading.Event()
    service.answer = lambda *told: (go.wait(30), (200, b"{}", {}))[1]
    slow = planes(timeout="50ms").facts_of(received("N1"))
    go.set()
    service.close()
    dead = planes().facts_of(received("N1"))
    assert [type(answer) for answer in (*slow, *dead)] == [Unavailable] * 2


def test_secrets_are_sent_and_never_told(service, planes, monkeypatch):
    """A header with a secret names its variable; without it the error says what to set, and no repr shows the value."""
    sent = []
    service.answer = lambda method, path, body, headers: (sent.append(headers["authorization"]), (403, b"", {}))[1]
    one = planes(secrets={"authorization": "PLANES_KEY"})
    with pytest.raises(Misused, match="PLANES_KEY"):
        one.facts_of(received("N1"))
    monkeypatch.setenv("PLANES_KEY", "open sesame")
    [answer] = one.facts_of(received("N1"))
    assert sent == ["open sesame"] and "sesame" not in f"{answer!r} {one!r}"


@pytest.mark.parametrize(("url", "on", "why"), [
    ("ftp://h/{tail}", "tail", "https://"),
    ("http://{tail}/x", "tail", "which host"),
    ("http://h{tail}.example/", "tail", "which host"),
    ("http://user:secret@h/{tail}", "tail", "secrets="),
    ("http://h/{tail.x}", "tail", "braces"),
    ("http://h/{tail!r}", "tail", "braces"),
    ("http://h/{}", "tail", "braces"),
    ("http://h/{tail}", "id", "exactly the fields"),
    ("http://h/x", "tail", "exactly the fields"),
])  # fmt: skip
def test_an_address_that_cannot_be_kept_to_is_misused(url, on, why):
    """What an event might lead astray is refused when it is declared."""
    with pytest.raises(Misused, match=why):
        Http(url, on=on)
