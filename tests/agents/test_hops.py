"""Hops: what an event says of the decisions behind it, through rules and decisions, and where it ends."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater import Topic
from headwater.agents.detect import Detector
from headwater.agents.hops import HOPS, KEPT, NONE, VIA, Hops, bounded, hops_of, longest, told_of
from headwater.agents.rules import Rate, Threshold
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import TooManyHops
from headwater.lineage.event import Event, Position

S = 1_000_000
names = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.lists(names, max_size=KEPT), names)
def test_each_decision_adds_its_agent(via, agent):
    """What an agent publishes says what woke it, and its own name behind; an event from outside says nothing."""
    told = hops_of({VIA: told_of(via, agent)}, "c")
    assert told == Hops((*via, agent)[-KEPT:], "c")
    assert hops_of({}, "c") == NONE


@given(st.integers(1, 2 * KEPT))
def test_what_is_kept_is_bounded_and_still_refused(many):
    """However long a chain someone claims, the newest are kept, and no limit lets them through."""
    via = hops_of({VIA: ",".join(f"a{n}" for n in range(many))}, None).via
    assert via[-1] == f"a{many - 1}" and len(via) == min(many, KEPT)
    assert (bounded("r", "k", via, KEPT) is not None) == (many >= KEPT)


def test_a_name_with_a_comma_is_one_name():
    """An agent's name cannot pass for two."""
    assert hops_of({VIA: told_of((), "a,b")}, None).via == ("a;b",)


def test_the_refusal_names_the_chain_and_the_remedy():
    """Rule, key, limit and every agent are in the dead letter's text."""
    error = bounded("pinged", "EWR", ("ping", "pong") * (HOPS // 2), HOPS)
    assert isinstance(error, TooManyHops) and error.cause == "too_many_hops"
    for word in ("pinged for EWR", str(HOPS), "ping → pong → ping", "HEADWATER_AGENTS__HOPS", "redrive"):
        assert word in str(error)
    assert bounded("pinged", "EWR", ("ping",) * (HOPS - 1), HOPS) is None


def test_the_longest_of_several_counts():
    """Where branches merge, the one with most decisions behind it bounds the rest."""
    assert longest([NONE, Hops(("a",), "x"), Hops(("a", "b"), "y"), Hops(("c", "d"), "z")]) == Hops(("a", "b"), "y")
    assert longest([]) == NONE


def fired(rule, *story, restart=False):
    """The activations of (second, via) events in one partition, then the end; `restart`: with a snapshot after every event."""
    detector = Detector(rule.of, [rule], idle=False)
    state, found = detector.start(0), []
    marks = [(10**6, None)]
    for offset, (second, via) in enumerate([*story, *marks]):
        told = {} if not via else {VIA: via}
        event = Event(id=f"e{offset:03}", source="t", type="t" if via is not None else MARK, time=round(second * S), extensions=told,
                      correlationid="cascade" if via else None)  # fmt: skip
        received = Received(Position("b", rule.of.name, 0, offset), event, None if via is None else rule.of.decode(b'{"n": 5}'), 0)
        found += detector.step(state, detector.signals([received]), 0).activations
        if restart:
            state = detector.restore(detector.snapshot(state), 0)
    return found


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("within", [None, "10s"])
def test_an_activation_inherits_the_hops_of_its_events(numbers, within, restart):
    """The longest chain behind it and that one's correlation; what closes because a window emptied follows from what opened it."""
    rule = Threshold("high", of=numbers, value=pl.col("n"), opens_at=3, closes_at=1, within=within, at_least=2 if within else 1)
    [first, *rest] = fired(rule, (0, "a"), (1, "a,b"), restart=restart)
    assert first.via == (("a", "b") if within else ("a",)) and first.correlation == first.correlationid == "cascade"
    assert [(each.phase, each.via, each.correlation) for each in rest] == ([("closed", ("a", "b"), "cascade")] if within else [])
    [outside, *_] = fired(rule, (0, ""), (1, ""), restart=restart)
    assert outside.via == () and outside.correlationid == outside.episode


def test_what_leaves_the_window_counts_no_more(numbers):
    """Hops are those of the events in the window now, not of all that ever were."""
    rule = Rate("many", of=numbers, where=pl.col("n") > 3, opens_at=0.5, closes_at=0, within="10s")
    first, closed, again, _ = fired(rule, (0, "a,b,c"), (30, ""))
    assert (first.via, closed.via, again.via) == (("a", "b", "c"), ("a", "b", "c"), ())


@pytest.fixture
def numbers():
    import msgspec

    return Topic("numbers", msgspec.defstruct("Number", [("n", int)]), partitions=1)
