"""A broker's life that is over: what died with it is lost, and nothing else may be missing (law 1)."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lineage.event import Position
from headwater.lineage.landing import Landing
from headwater.lineage.record import fact, run_of
from headwater.lineage.reviews import reviews
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, landings, sample_records
from headwater.lineage.topic import ACTIVATIONS
from headwater.lineage.verify import verify

OLD = "old"
TOLD = sample_records(OLD)
TOLD_NEXT = sample_records(BROKER)
FLOWS = sorted({record.flow for record in TOLD})


def over(records, *, closed=True, then=()):
    """Offences after a life that told these records has ended, and another (which told `then`) has begun."""
    with Store(":memory:", clock=lambda: 1) as store:
        store.land([Landing(OLD, 0, n, [record]) for n, record in enumerate(records)])
        if closed:
            store.lost_with_broker(BROKER)
        store.land(landings(list(then), 100))
        return verify(store, in_flight_ok=False).offences


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_whenever_a_life_ends_nothing_is_missed_that_died_with_it(data):
    """Flows tell in any interleaving, each in its own order, and what was told last is lost: that life is closed without an offence."""
    left = {flow: [record for record in TOLD if record.flow == flow] for flow in FLOWS}
    many = data.draw(st.integers(0, len(TOLD)))
    told = [left[data.draw(st.sampled_from([flow for flow in FLOWS if left[flow]]))].pop(0) for _ in range(many)]
    assert over(told, then=data.draw(st.sampled_from([(), TOLD_NEXT]))) == ()


def test_what_was_told_whole_is_still_asked_for():
    """An outcome that landed had its facts told before it: of a life that is over too, a missing document or dead letter is named."""
    for kind, word in (("document", "no document"), ("dead_letter", "no dead letter")):
        record = next(each for each in TOLD if each.kind == kind)
        for then in ((), TOLD_NEXT):
            [*found] = over([each for each in TOLD if each is not record], then=then)
            assert f"flights/0@{record.first}: ended" in found[0] and word in found[0]


def ended(flow, topic, offset, outcome, activation=""):
    where = Position(OLD, topic, 0, offset)
    record = run_of("outcome", flow, where, offset + 1, 1, 1, outcome)
    return [run_of("consumed", flow, where, offset + 1, 1, 1), msgspec.structs.replace(record, parents=(activation,) if activation else ())]


@pytest.mark.parametrize(
    ("index", "missed"),
    [
        ([], False),  # it told nothing of this topic yet
        (ended("index", "flights", 3, "passed"), False),  # it did not come so far
        (ended("index", "flights", 0, "passed")[:1], False),  # it read it, and died before telling
        (ended("index", "flights", 0, "passed"), True),
    ],
)
def test_a_dead_letter_is_owed_by_who_buries(index, missed):
    """What `detect` could not read `index` buries: if that told nothing of it before it was lost, so is the dead letter."""
    found = over([*ended("detect", "flights", 0, "dead_lettered"), *index])
    assert bool(found) is missed
    assert all("flow detect, flights/0@0: ended dead_lettered, but no dead letter" in each for each in found)


def fired(name, at):
    parents = (str(Position(OLD, "flights", 0, 0)),)
    return fact("activation", "detect", "rules", name, logged=1, parents=parents, at=at, data={"rule": "r", "key": "k"})


@pytest.mark.parametrize(
    ("came", "missed"),
    [
        (ended("decide/a", ACTIVATIONS, 0, "no_action", "one"), False),  # the second died on its way
        (ended("decide/a", ACTIVATIONS, 1, "no_action", "two"), True),
        ([*ended("decide/a", ACTIVATIONS, 0, "no_action")[:1], *ended("decide/a", ACTIVATIONS, 1, "no_action", "two")], False),
        ([], False),
    ],
)
def test_an_activation_is_not_passed_over(came, missed):
    """One that fired before another of its key which came to an agent must have come too, or be among what that agent told nothing of."""
    found = over([fired("one", 1), fired("two", 2), *came])
    assert found == (("flow decide/a: activation one (r/k) fired, but never came to it, though a later one did",) if missed else ())


def test_a_life_that_goes_on_is_asked_for_everything():
    """Not closed, or read again after it was: what fired must have come to every agent, whatever a bridge read of another region since."""
    other = msgspec.structs.replace(next(each for each in TOLD if each.kind == "activation"), id="other", ref="other")
    assert over([*TOLD, other]) == ()
    received = run_of("consumed", "bridge/eu/receive", Position("eu", "flights", 0, 0), 1, 1, 1)
    ended = run_of("outcome", "bridge/eu/receive", Position("eu", "flights", 0, 0), 1, 1, 1, "passed")
    again = Position(OLD, "flights", 0, 13)
    more = [run_of("consumed", "index", again, 14, 1, 1), run_of("outcome", "index", again, 14, 1, 1, "passed")]
    for found in (over([*TOLD, other, received, ended], closed=False), over([*TOLD, other], then=more)):
        assert found == ("flow decide/recover: activation other (cancellations/EWR) fired, but never came to it",)


def test_the_end_of_a_life_is_told_once():
    """A record says which life is over and up to where its lineage was landed; a later start says it again only if it was read since."""
    with Store(":memory:", clock=lambda: 1) as store:
        store.land([Landing(OLD, 0, n, [record]) for n, record in enumerate(TOLD)])
        for broker in (BROKER, BROKER, "third"):
            store.lost_with_broker(broker)
        lives = "SELECT ref, data->>'$.read', data->>'$.next' FROM records WHERE kind = 'life'"
        with store.cursor() as cursor:
            assert cursor.execute(lives).fetchall() == [(OLD, f'{{"0":{len(TOLD)}}}', BROKER)]
        store.land([Landing(OLD, 0, len(TOLD), [fact("note", "a", "note", "n", logged=1)])])
        store.lost_with_broker(BROKER)
        with store.cursor() as cursor:
            assert len(cursor.execute(lives).fetchall()) == 2
        assert verify(store, in_flight_ok=False).ok


@pytest.mark.parametrize(("state", "lives", "expected"), [
    ("waiting", 1, "waiting"), ("waiting", 2, "lost_with_broker"), ("waiting", 3, "waiting"), ("approved", 2, "approved"),
])  # fmt: skip
def test_who_waits_when_its_broker_ends_is_asked_no_more(state, lives, expected):
    """A question is lost with its broker unless it was answered before, or its broker lives again; lists and views say the same."""
    place = str(Position(OLD, ACTIVATIONS, 0, 0))
    told = [
        msgspec.structs.replace(each, data={**each.data, "position": place}) if each.kind in ("review", "decision") else each
        for each in sample_records(OLD, state=state)
    ]
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings(told, 100, OLD))
        if lives > 1:
            store.lost_with_broker(BROKER)
        if lives > 2:
            store.land([Landing(OLD, 0, 99, [run_of("consumed", "index", Position(OLD, "flights", 0, 13), 14, 1, 2)])])
        assert [each.state for each in reviews(store)[0]] == [expected]
        assert reviews(store, state="waiting")[0] == ([] if expected != "waiting" else reviews(store)[0])
        with store.cursor() as cursor:
            assert cursor.execute("SELECT state FROM reviews").fetchall() == [(expected,)]
            assert cursor.execute("SELECT outcome FROM decisions").fetchall() == [(expected,)]
