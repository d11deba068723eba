"""The ladder by itself: budgets, and every order of failures, crashes and restarts; no broker."""

import itertools

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.flows.attempt import FIRST_FAILURE, OURS, FirstFailure, attempt_of, originals, retried
from headwater.flows.deadletter import bury
from headwater.flows.ladder import JITTER, Ladder, delays_of, outcome_of
from headwater.lineage.decode import Failure
from headwater.lineage.errors import (
    Behind,
    DocumentUnavailable,
    EnricherFailed,
    EnricherUnavailable,
    Invalid,
    Misused,
    Unavailable,
    retryable,
)
from headwater.lineage.event import Message, Position
from headwater.lineage.record import run_of
from headwater.lineage.store import Landing, Store
from headwater.lineage.topic import RETRY, rung_of
from headwater.lineage.verify import verify

DELAYS = (1_000_000, 10_000_000, 60_000_000)


def failure(error, headers=(), offset=0, topic="t"):
    message = Message(topic, 0, offset, 1_700_000_000_000, b"k", b"v", list(headers))
    return Failure(message, Position("b", topic, 0, offset), error)


def sorted_by(ladder, error, attempt=None, now=0, largest=10**6, headers=()):
    one = failure(error, headers)
    return ladder.sort([(one, attempt or attempt_of(one.position, one.message))], now, largest)


@pytest.mark.parametrize("error", [Invalid("x"), EnricherFailed("x")])
def test_what_is_terminal_is_dead_at_once(error):
    """Terminal errors never climb."""
    dead, moving = sorted_by(Ladder(DELAYS), error)
    assert len(dead) == 1 and not moving


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 2))
def test_a_delay_is_its_rungs_and_up_to_a_fifth_more(chance, rung):
    """Jittered, never early."""
    ladder = Ladder(DELAYS, run="r", chance=lambda: chance)
    place = Position("b", f"{RETRY}{rung}" if rung else "t", 0, 3)
    one = failure(EnricherUnavailable("x"))
    attempt = attempt_of(one.position, one.message)
    _, [moving] = ladder.sort([(one, type(attempt)(place=place, position=one.position, origin="o", number=1, appended=0))], 7, 10**6)
    told = retried(Position("b", moving.message.topic, 0, 0), Message(*("", 0, 0, 0), b"", b"", moving.message.headers))
    assert moving.message.topic == f"{RETRY}{rung + 1}"
    assert 7 + DELAYS[rung] <= told.due <= 7 + DELAYS[rung] * (1 + JITTER) + 1
    assert (told.number, told.moved_from, told.moved_by, told.position) == (2, str(place), "r", one.position)


def test_what_no_message_holds_is_dead():
    """A message that would be too large with the ladder's headers is a dead letter, which may be cut."""
    dead, moving = sorted_by(Ladder(DELAYS), EnricherUnavailable("x"), largest=100)
    assert len(dead) == 1 and not moving


@given(st.lists(st.tuples(st.sampled_from(["a", "ce_id", "headwater-attempt", "headwater-origin", FIRST_FAILURE]), st.binary(max_size=20))))
def test_headers_survive_and_nonsense_is_as_if_not_there(headers):
    """Whatever a stranger writes into our headers: a first try or a count, never an error; the event's own headers travel on unchanged."""
    one = failure(DocumentUnavailable("x"), headers)
    attempt = attempt_of(one.position, one.message)
    assert attempt.number >= 0 and attempt.first is None
    _, [moving] = Ladder(DELAYS).sort([(one, attempt)], 0, 10**6)
    assert originals(moving.message.headers) == [pair for pair in headers if pair[0] not in OURS]
    [letter], _ = bury("index", [one], 0, [attempt])
    assert originals(letter.headers) == originals(moving.message.headers)


def test_delays_as_people_write_them():
    """Durations, or none; anything else is refused."""
    assert delays_of("1s, 10s,1m") == DELAYS and delays_of("none") == ()
    for wrong in ("", "1s,", "soon"):
        with pytest.raises(Misused):
            delays_of(wrong)


def test_which_errors_may_pass():
    """Ours, Python's, and the transport errors of HTTP clients; not what an application does wrong."""
    for error in (Behind("x"), Unavailable("x"), ConnectionResetError(), TimeoutError(), httpx.ConnectTimeout("x"), httpx.ReadError("x")):
        assert retryable(error), error
    answered = httpx.HTTPStatusError("x", request=None, response=None)
    for error in (ValueError(), KeyError(), OSError(), Invalid("x"), httpx.InvalidURL("x"), answered):
        assert not retryable(error), error


def test_rungs_have_numbers():
    """A topic is a rung, or none."""
    assert [rung_of(topic) for topic in ("t", f"{RETRY}1", f"{RETRY}12", f"{RETRY}x", RETRY)] == [0, 1, 12, 0, 0]


class World:
    """`index` and its ladder as logs and offsets, with crashes: what was written stays, what was not in a snapshot is done again.

    A topic is a list of messages; `snapshot` holds from where each is read after a crash; records reach the store in the order sent.
    """

    def __init__(self, failing, delays):
        self.failing = dict(failing)  # event → how often its next tries fail
        self.delays, self.runs = delays, itertools.count()
        self.logs = {topic: [] for topic in ("t", "dead", *(f"{RETRY}{n + 1}" for n in range(len(delays))))}
        self.logs["t"] = [Message("t", 0, n, 1_700_000_000_000, b"k", b"v", [("ce_id", str(n).encode())]) for n in self.failing]
        self.snapshot = dict.fromkeys(self.logs, 0)
        self.store = Store(":memory:", clock=lambda: 1)
        self.landed = 0
        self.crash()

    def crash(self):
        self.ladder = Ladder(self.delays, run=f"run{next(self.runs)}", chance=lambda: 0.5)
        self.at = dict(self.snapshot)

    def report(self, records):
        self.store.land([Landing("b", 0, self.landed, records, self.ladder.run)])
        self.landed += 1

    def step(self, topic, stop):
        """The next message of a topic; `stop` ends the process after so many writes."""
        if self.at[topic] >= len(self.logs[topic]):
            return
        message = self.logs[topic][self.at[topic]]
        place = Position("b", topic, 0, message.offset)
        attempt = attempt_of(place, message) if topic == "t" else retried(place, message)
        records = [run_of("consumed", "index", place, message.offset + 1, 1, 1)]
        event = attempt.position.offset
        if self.failing[event] == 0:
            records.append(outcome_of("index", attempt, place, "passed", 1))
        else:
            self.failing[event] -= 1
            failed = Failure(message._replace(topic="t", offset=event), attempt.position, EnricherUnavailable("no"))
            dead, moving = self.ladder.sort([(failed, attempt)], 1, 10**6)
            for each in moving:
                log = self.logs[each.message.topic]
                log.append(Message(each.message.topic, 0, len(log), 0, each.message.key, each.message.value, each.message.headers))
                records.append(outcome_of("index", attempt, place, "moved", 1, f"b/{each.message.topic}/0/{len(log) - 1}"))
            for each, tried in dead:
                [letter], told = bury("index", [each], 1, [tried])
                self.logs["dead"].append(letter)
                records += [*told, outcome_of("index", tried, place, "dead_lettered", 1)]
        if stop == 1:
            return self.crash()  # written, but nobody was told
        self.report(records)
        if stop == 2:
            return self.crash()  # told, but not in a snapshot
        self.at[topic] += 1
        self.snapshot[topic] = self.at[topic]
        return None


@settings(max_examples=12)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 0, 1, 2])), max_size=40),
)
def test_whatever_fails_and_whenever_it_is_killed(failing, rungs, schedule):
    """Every position ends once, a moved one has one successor, no budget is exceeded, one dead letter per life: after any kills."""
    world = World(enumerate(failing), DELAYS[:rungs])
    topics = ["t", *(f"{RETRY}{n + 1}" for n in range(rungs))]
    for which, stop in schedule:
        world.step(topics[which % len(topics)], stop)
    for _ in range(10):
        for topic in topics:
            while world.at[topic] < len(world.logs[topic]):
                world.step(topic, 0)
    with world.store:
        verdict = verify(world.store, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        consumed = sum(verdict.consumed.values())
        assert sum(verdict.totals["index"].values()) == consumed == sum(len(world.logs[topic]) for topic in topics)
        with world.store.cursor() as cursor:
            buried = cursor.execute("SELECT count(*), count(DISTINCT id), max(attempt) FROM dead_letters").fetchall()[0]
        assert buried[0] == buried[1] and (buried[2] or 0) <= rungs + 1
        assert all(int(dict(m.headers)["headwater-attempt"]) <= rungs + 1 for topic in topics[1:] for m in world.logs[topic])


def test_a_first_failure_is_told_by_the_first():
    """What failed later does not change it."""
    ladder = Ladder(DELAYS)
    _, [first] = sorted_by(ladder, EnricherUnavailable("one"), now=5)
    again = retried(Position("b", f"{RETRY}1", 0, 0), Message("", 0, 0, 0, b"", b"", first.message.headers))
    _, [second] = ladder.sort([(failure(DocumentUnavailable("two")), again)], 9, 10**6)
    told = retried(Position("b", f"{RETRY}2", 0, 0), Message("", 0, 0, 0, b"", b"", second.message.headers))
    assert told.first == FirstFailure(5, "enricher_failed", "one") and told.number == 3


def test_what_failed_for_too_long_has_expired_and_no_rung_is_left_at_the_end():
    """`expired` after `expires` since the first failure, whatever rungs are left; after the last rung the last failure's cause."""
    for now, rung, cause in ((9, 1, "expired"), (8, 1, None), (1, 3, "enricher_failed")):
        one = failure(EnricherUnavailable("x"))
        attempt = attempt_of(one.position, one.message)
        place = Position("b", f"{RETRY}{rung}", 0, 0)
        given = type(attempt)(place=place, position=one.position, origin="o", number=2, appended=0, first=FirstFailure(1, "c", "e"))
        dead, moving = Ladder(DELAYS, expires=7).sort([(one, given)], now, 10**6)
        assert [each.error.cause for each, _ in dead] == ([cause] if cause else []) and len(moving) == (cause is None)
