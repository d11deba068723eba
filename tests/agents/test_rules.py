"""Rate and Threshold, told as stories, and what a declaration refuses."""

import re
from typing import Any, Literal

import msgspec
import polars as pl
import pytest

from headwater.agents.activation import EVENTS_KEPT, Activation, activation_event, activation_of
from headwater.agents.detect import Detector
from headwater.agents.rules import Rate, Rule, Threshold, is_immediate
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import Invalid, Misused
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

S = 1_000_000
MINUTE = 60 * S


class Flight(msgspec.Struct):
    id: str
    origin: str
    status: Literal["due", "departed", "cancelled"] = "due"
    delay: float | None = None


flights = Topic("flights", Flight, key="id", partitions=2)
CANCELLED = pl.col("status") == "cancelled"


def rate(**changes: Any) -> Rate:
    given: dict[str, Any] = {"of": flights, "where": CANCELLED, "per": "origin", "within": "1h"}
    given |= {"opens_at": 0.5, "closes_at": 0.2, "at_least": 2}
    return Rate("cancellations", **{**given, **changes})


def threshold(**changes: Any) -> Threshold:
    given: dict[str, Any] = {"of": flights, "value": pl.col("delay"), "per": "origin", "opens_at": 30, "closes_at": 10}
    return Threshold("delays", **{**given, **changes})


def told(minute: float, id: str, status: str = "due", delay: float | None = None, origin: str = "EWR") -> tuple[int, Flight]:
    return round(minute * MINUTE), Flight(id, origin, status, delay)  # type: ignore[arg-type]


def fire(rule: Rule, *story: tuple[int, Flight], end: bool = True) -> list[Activation]:
    """The activations of events in one partition, the other one being at its end."""
    received = [
        Received(Position("b", "flights", 0, offset), Event(id=f"e{offset}", source="t", type="flight", time=time), flight, time)
        for offset, (time, flight) in enumerate(story)
    ]
    ends = [
        Received(Position("b", "flights", partition, offset), Event(id="end", source="t", type=MARK, time=10**15), None, 0)
        for partition, offset in ((1, 0), (0, len(story)))
    ]
    detector = Detector(flights, [rule], idle=False)
    return detector.step(detector.start(0), detector.signals([*received, *ends] if end else received), 0).activations


def told_of(activations: list[Activation]) -> list[tuple[str, float, float, int, int]]:
    return [(one.phase, one.at / MINUTE, round(one.value, 3), one.count, one.total) for one in activations]


def test_a_rate_counts_each_thing_by_its_newest_event() -> None:
    """One flight that was due and is then cancelled is one cancelled of one, not one of two."""
    story = [told(0, "a"), told(1, "b"), told(2, "a", "cancelled"), told(3, "b", "departed"), told(4, "c"), told(5, "a", "departed")]
    fired = fire(rate(), *story)
    assert told_of(fired) == [("opened", 2, 0.5, 1, 2), ("closed", 5, 0, 0, 3)]


def test_one_disruption_is_one_episode() -> None:
    """Between the two levels nothing closes and nothing opens again; a rise of a step over the highest reported is an update."""
    story = [told(n, f"f{n}", "cancelled" if n in (1, 2, 3, 9) else "due") for n in range(14)]
    fired = fire(rate(update_step=0.15), *story)
    assert told_of(fired) == [("opened", 1, 0.5, 1, 2), ("updated", 2, 0.667, 2, 3), ("closed", 73, 0, 0, 0)]
    assert {one.episode for one in fired} == {fired[0].id}


def test_a_window_that_empties_closes_when_its_last_event_left() -> None:
    """Found out by the next event or by the watermark, the closing is the same, field by field."""
    story = [told(0, "a"), told(1, "b", "cancelled")]
    by_mark = fire(rate(), *story)
    by_event = fire(rate(), *story, told(300, "c"))
    assert told_of(by_mark) == [("opened", 1, 0.5, 1, 2), ("closed", 61, 0, 0, 0)]
    assert by_event[:2] == by_mark


def test_an_event_at_the_moment_the_last_one_leaves_keeps_the_window() -> None:
    """The window is (t − within, t]: what happens exactly `within` later is judged, not preceded by an emptying."""
    fired = fire(rate(at_least=1), told(0, "a", "cancelled"), told(60, "b", "cancelled"))
    assert told_of(fired) == [("opened", 0, 1, 1, 1), ("closed", 120, 0, 0, 0)]


def test_too_few_things_are_not_judged() -> None:
    """Below `at_least` nothing opens, updates or closes."""
    fired = fire(rate(at_least=3), told(0, "a", "cancelled"), told(1, "b", "cancelled"), told(2, "c"), told(62, "d"))
    assert told_of(fired) == [("opened", 2, 0.667, 2, 3), ("closed", 122, 0, 0, 0)]


def test_firings_at_one_moment_follow_each_other_by_a_microsecond() -> None:
    """`at` is strictly increasing per (rule, key), so ids differ."""
    fired = fire(rate(at_least=1), told(0, "a", "cancelled"), *(told(0, id) for id in "bcdef"))
    assert [(one.phase, one.at) for one in fired] == [("opened", 0), ("closed", 1)]


def test_at_stays_in_order_after_a_key_was_forgotten() -> None:
    """Firings that were moved by microseconds are remembered until event time has passed them, however short window and lateness."""
    story = [told(0, "a", "cancelled"), told(0, "a"), told(0, "a", "cancelled"), told(0, "a"), told(2 / MINUTE, "a", "cancelled")]
    assert [one.at for one in fire(rate(at_least=1, within="1us"), *story)] == [0, 1, 2, 3, 4, 5]
    exact = Topic("exact", Flight, key="id", lateness="0s")
    alone = Threshold("alone", of=exact, value=pl.col("delay"), per="id", opens_at=30, closes_at=10)
    detector, fired = Detector(exact, [alone], idle=False), []
    state = detector.start(0)
    for offset, (time, delay) in enumerate([(0, 40), (0, 0), (0, 40), (0, 0), (1, None), (2, 40)]):
        event = Event(id=f"e{offset}", source="t", type="flight", time=time)
        one = Received(Position("b", "exact", 0, offset), event, Flight("x", "EWR", delay=delay), 0)
        fired += detector.step(state, detector.signals([one]), 0).activations
    assert [(one.phase, one.at) for one in fired] == [("opened", 0), ("closed", 1), ("opened", 2), ("closed", 3), ("opened", 4)]


@pytest.mark.parametrize(("again", "phases"), [(1 / 60, ["opened", "closed"]), (1 / 60 + 2 / MINUTE, ["opened", "closed", "opened"])])
def test_an_event_told_twice_is_looked_at_once(again: float, phases: list[str]) -> None:
    """A rule over one event alone passes over an id it has seen within the lateness (here one second), and no longer."""
    times = [(0.0, "e", 40), (0.5 / 60, "f", 0), (again, "e", 40)]
    detector = Detector(flights, [threshold(per="id")], idle=False)
    received = []
    for offset, (at, id, delay) in enumerate(times):
        event = Event(id=id, source="t", type="flight", time=round(at * MINUTE))
        received.append(Received(Position("b", "flights", 0, offset), event, Flight("x", "EWR", delay=delay), 0))
    step = detector.step(detector.start(0), detector.signals(received), 0)
    assert [one.phase for one in step.activations] == phases


def test_an_activation_names_its_newest_events_and_what_a_reader_must_have_seen() -> None:
    """At most EVENTS_KEPT matching events, newest first; the cut lies behind the firing event, and names no broker."""
    story = [told(n / 10, f"f{n}", "cancelled") for n in range(EVENTS_KEPT + 10)]
    opened = fire(rate(at_least=len(story)), *story)[0]
    assert [cause.key for cause in opened.events] == [f"f{n}" for n in range(len(story) - 1, len(story) - 1 - EVENTS_KEPT, -1)]
    assert opened.cut == {"flights/0": len(story)}
    assert opened.count == opened.total == len(story)


def test_a_threshold_measures_the_newest_value_of_each_thing() -> None:
    """Null values say nothing, a correction replaces, and `count` of `total` things are beyond the opening level."""
    story = [told(0, "a", delay=60), told(1, "b"), told(2, "b", delay=20), told(3, "c", delay=float("nan")), told(4, "a", delay=0)]
    fired = fire(threshold(within="1h", at_least=2, stat="mean"), *story)
    assert told_of(fired) == [("opened", 2, 40, 1, 2), ("closed", 4, 10, 0, 2)]


@pytest.mark.parametrize(("stat", "level"), [("mean", 4.0), ("median", 2.5), ("min", 1), ("max", 10), ("p50", 2), ("p75", 3), ("p76", 10)])
def test_statistics(stat: str, level: float) -> None:
    """Over 1, 2, 3, 10."""
    story = [told(n, f"f{n}", delay=delay) for n, delay in enumerate((3, 10, 1, 2))]
    fired = fire(threshold(within="1h", stat=stat, at_least=4, opens_at=0.5, closes_at=0), *story)
    assert fired[0].value == level


def test_below_opens_downwards() -> None:
    """Visibility: the episode opens when the value falls to the level, is updated as it falls on, and closes when it has risen."""
    rule = threshold(below=True, opens_at=1, closes_at=3, update_step=0.5)
    fired = fire(rule, *(told(n, "x", delay=level) for n, level in enumerate((9, 1, 0.6, 0.5, 2.9, 1, 3, 2))))
    assert told_of(fired) == [("opened", 1, 1, 1, 1), ("updated", 3, 0.5, 1, 1), ("closed", 6, 3, 0, 1)]


def test_one_event_alone_does_not_wait_where_one_partition_holds_its_key() -> None:
    """A threshold without window per the topic's key fires on arrival; per another field it waits for the watermark."""
    story = [told(0, "a", delay=40)]
    assert [one.phase for one in fire(threshold(per="id"), *story, end=False)] == ["opened"]
    assert fire(threshold(per="origin"), *story, end=False) == []
    assert [one.phase for one in fire(threshold(per="origin"), *story)] == ["opened"]
    assert is_immediate(threshold(per="origin"), 1)
    assert not is_immediate(threshold(per="id", within="1h"), 1)


def test_a_rule_without_per_has_one_episode() -> None:
    """Its key is "all"."""
    fired = fire(rate(per=None), told(0, "a", origin="JFK"), told(1, "b", "cancelled", origin="LGA"))
    assert {one.key for one in fired} == {"all"}


def test_an_activation_travels_as_an_event() -> None:
    """activation → event → activation is the identity; cause and correlation are the newest event and the episode."""
    opened, closed = fire(rate(), told(0, "a"), told(1, "b", "cancelled"))
    event = activation_event(closed)
    assert (event.type, event.source, event.subject) == ("headwater.activation.closed", "headwater/detect/cancellations", "EWR")
    assert (event.id, event.time, event.correlationid, event.causationid) == (closed.id, closed.at, opened.id, None)
    assert activation_event(opened).causationid == "e1"
    assert [activation_of(activation_event(one)) for one in (opened, closed)] == [opened, closed]


def test_an_event_that_carries_no_activation_is_refused() -> None:
    """The error names the event."""
    with pytest.raises(Invalid, match="event x of type t carries no activation"):
        activation_of(Event(id="x", source="s", type="t", time=0, data=b"[]"))
    stolen = msgspec.structs.replace(activation_event(fire(rate(at_least=1), told(0, "a", "cancelled"))[0]), id="other")
    with pytest.raises(Invalid, match="their ids must be the same"):
        activation_of(stolen)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: rate(opens_at=0.1), "opens at opens_at=0.1 and closes at closes_at=0.2"),
        (lambda: rate(opens_at=21), "closes_at < opens_at <= 1"),
        (lambda: rate(within="an hour"), "'an hour' is no duration"),
        (lambda: rate(within="0s"), "longer than nothing"),
        (lambda: rate(at_least=0), "at_least=0 must be at least 1"),
        (lambda: rate(update_step=0), "update_step=0 must be more than 0"),
        (lambda: rate(per="airport"), "per='airport' is no field of Flight; it has id, origin, status, delay"),
        (lambda: rate(where=pl.col("state") == "x"), "column 'state', which topic flights does not have; it has id, origin, status, delay"),
        (lambda: rate(where="cancelled"), "where is a str"),
        (lambda: rate(where=pl.col("status")), "gives String, where a condition is needed"),
        (lambda: rate(where=pl.col("status") > 3), "does not fit topic flights"),
        (lambda: rate(where=pl.col("delay") > pl.col("delay").mean()), "looks beyond its row"),
        (lambda: rate(where=pl.col("delay").shift() > 1), "looks beyond its row"),
        (lambda: rate(where=pl.all().is_null()), "name each with pl.col"),
        (lambda: threshold(value=pl.col("status")), "gives String, where a number is needed"),
        (lambda: threshold(closes_at=40), "must lie below opens_at=30"),
        (lambda: threshold(below=True), "must lie above opens_at=30"),
        (lambda: threshold(stat="p100", within="1h"), "none of mean, median, min, max, p1"),
        (lambda: threshold(at_least=2), "needs within="),
        (lambda: Rate("", of=flights, where=CANCELLED, within="1h", opens_at=1, closes_at=0), "needs a name"),
    ],
)
def test_a_wrong_declaration_is_refused_with_what_is_wrong(declare: Any, says: str) -> None:
    """Misused at declaration, naming the rule, the argument and what is allowed."""
    with pytest.raises(Misused, match=re.escape(says)):
        declare()


def test_a_detector_takes_rules_of_its_topic_only() -> None:
    """Rules of another topic and two of one name are refused."""
    with pytest.raises(Misused, match="is over flights, not over other"):
        Detector(Topic("other", Flight), [rate()])
    with pytest.raises(Misused, match="two rules over flights are called 'cancellations'"):
        Detector(flights, [rate(), rate()])
