"""What rules keep: cool-down, seasons, the clock where nothing comes, states of former releases; and what declarations refuse."""

import pickle
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import polars as pl
import pytest

from headwater import Absence, Anomaly, Change, Heartbeat, Join, Rate, Sequence, Threshold, Topic, When
from headwater.agents.detect import Detector
from headwater.agents.machine import Rule
from headwater.agents.season import MOST
from headwater.lineage.decode import MARK, Received
from headwater.lineage.duration import from_datetime
from headwater.lineage.errors import Misused
from headwater.lineage.event import Event, Position

S = 1_000_000
DAY = 86_400


class Reading(msgspec.Struct):
    gauge: str
    metres: float | None = None


readings = Topic("readings", Reading, lateness="0s", idle_after="5s")
checks = Topic("checks", Reading, lateness="0s", idle_after="5s")
METRES = pl.col("metres")


def told(topic: str, offset: int, second: float, metres: float | None = None, mark: bool = False) -> Received:
    event = Event(id=f"{topic}{offset}", source="t", type=MARK if mark else "r", time=round(second * S))
    return Received(Position("b", topic, 0, offset), event, None if mark else Reading("g", metres), 0)


def fire(rule: Rule, *story: tuple[float, float]) -> list[tuple[str, float, float]]:
    """(phase, second, value) of what (second, metres) and then the end make a rule say."""
    received = [told("readings", n, second, metres) for n, (second, metres) in enumerate(story)]
    end = told("readings", len(story), 10**10, mark=True)
    detector = Detector(readings, [rule], idle=False)
    step = detector.step(detector.start(0), detector.signals([*received, end]), 0)
    return [(one.phase, one.at / S, round(one.value, 3)) for one in step.activations]


@pytest.mark.parametrize("within", [None, "1s"])
def test_none_opens_while_it_cools_down(within: str | None) -> None:
    """After a closing what would have opened an episode does not, until the cool-down is over; then the next event decides."""
    rule = Threshold("high", of=readings, value=METRES, per="gauge", within=within, opens_at=5, closes_at=3, cool_down="10s")
    story = [(0, 9), (2, 1), (4, 9), (11.5, 9), (12, 9), (14, 1)]
    assert [one[:2] for one in fire(rule, *story)][-2:] == [
        ("opened", 11.5 if within else 12),
        ("closed", 13 if within else 14),
    ]
    assert len(fire(rule, *story)) == 4


def test_a_rate_cools_down_too() -> None:
    """The key is remembered while it cools down, though its window has emptied."""
    rule = Rate("many", of=readings, where=METRES > 5, within="1s", opens_at=0.5, closes_at=0, cool_down="10s")
    assert fire(rule, (0, 9), (5, 9), (11, 9)) == [("opened", 0, 1), ("closed", 1, 0), ("opened", 11, 1), ("closed", 12, 0)]


def test_an_anomaly_compares_within_its_season() -> None:
    """What is usual at noon is odd at midnight, in the zone's own hours; a steady key makes any stir a million deviations."""
    noon = from_datetime(datetime(2030, 1, 1, 11, tzinfo=UTC)) / S
    rule = Anomaly("odd", of=readings, value=METRES, per="gauge", season="hour of day", zone="Europe/Oslo", at_least=3, update_step=None)
    usual = [(noon + day * DAY + hour * 3600, 5.0 if hour == 0 else 1.0) for day in range(5) for hour in (0, 12)]
    assert fire(rule, *usual) == []
    odd = fire(rule, *usual, (noon + 5 * DAY, 1.0), (noon + 5 * DAY + 60, 5.0))
    assert [(phase, value) for phase, _, value in odd] == [("opened", -MOST), ("closed", 0)]
    assert [phase for phase, _, _ in fire(rule, *usual, (noon + 5 * DAY + 12 * 3600, 5.0))] == ["opened", "closed"]


@pytest.mark.parametrize(
    ("rule", "at"),
    [
        (Heartbeat("silent", of=readings, per="gauge", every="20s"), 20),
        (Absence("unchecked", of=When(checks), after=When(readings), per="gauge", within="30s"), 30),
    ],
)
def test_silence_fires_by_the_clock(rule: Rule, at: int) -> None:
    """Nothing comes on any topic of the group: with all sources at their ends the clock moves time on, and the deadline is told once."""
    topics = [readings, checks] if isinstance(rule, Absence) else [readings]
    now, detector = 10**6 * S, Detector(topics, [rule])
    state = detector.start(now)
    assert detector.step(state, detector.signals([told("readings", 0, now / S)]), now, [now] * len(topics)).activations == []
    fired, later = [], now
    while later < now + 60 * S:
        wake = detector.wake_at(state, later, [later] * len(topics))
        later = now + 60 * S if wake is None else max(wake, later + 1)
        fired += detector.tick(state, later, [later] * len(topics)).activations
    assert [(one.phase, one.at - now) for one in fired] == [("opened", at * S)]
    unread = detector.start(now)
    detector.step(unread, detector.signals([told("readings", 0, now / S)]), now)
    assert detector.tick(unread, now + 60 * S, [None] * len(topics)).activations == []


def test_a_topic_of_the_group_holds_the_others() -> None:
    """What two topics say is in one order: the one that is behind sets the pace, and lateness is each topic's own."""
    rule = Sequence("both", When(readings), When(checks), within="1m", per="gauge")
    detector = Detector([readings, checks], [rule], idle=False)
    state = detector.start(0)
    assert detector.step(state, detector.signals([told("checks", 0, 7), told("checks", 1, 90, mark=True)]), 0).activations == []
    step = detector.step(state, detector.signals([told("readings", 0, 5), told("readings", 1, 6), told("readings", 2, 90, mark=True)]), 0)
    [one, closed] = step.activations
    assert [(cause.topic, cause.offset) for cause in one.events] == [("checks", 0), ("readings", 1)]
    assert (one.cut, one.value, one.count, one.total, closed.phase) == ({"checks/0": 1, "readings/0": 2}, 1, 1, 2, "closed")


def test_a_state_of_the_form_before_is_gone_on_with() -> None:
    """A snapshot of form 1 (one topic, one deadline a key) fires on as one of today; one of a form to come is refused."""
    rule = Threshold("high", of=readings, value=METRES, per="gauge", within="10s", opens_at=5, closes_at=3, stat="max")
    detector = Detector(readings, [rule], idle=False)
    state = detector.start(0)
    detector.step(state, detector.signals([told("readings", n, n, 6) for n in range(4)]), 0)
    saved: Any = pickle.loads(detector.snapshot(state))
    for key in ("lanes", "reads", "held", "parting", "news"):
        del saved[key]
    for known in saved["groups"]["high"].values():
        del known["cool"], known["hops"]
        known["armed"] = True
    saved |= {"version": 1, "rules": [("high", rule.shape)]}
    rest = detector.signals([told("readings", 4, 8, 7), told("readings", 5, 99, mark=True)])
    former = detector.restore(pickle.dumps(saved), 0)
    assert former["news"] == []
    assert detector.step(former, rest, 0).activations == detector.step(state, rest, 0).activations != []
    with pytest.raises(Misused, match="is of version 9, this headwater reads 2"):
        detector.restore(pickle.dumps({**saved, "version": 9}), 0)


W = When(readings)


def change(**more: Any) -> Change:
    return Change("c", **{"of": readings, "value": METRES, "within": "1m", "opens_at": 1, "closes_at": 0, **more})


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: Absence("a", of=W, after=readings, within="1m"), "rule a: after is a Topic; write When(TOPIC, CONDITION)"),
        (lambda: Absence("a", of=W, after=W, within="soon"), "rule a: within: 'soon' is no duration"),
        (lambda: Absence("a", of=W, after=W, within="1m", closes_after="0s"), "rule a: closes_after='0s' must be longer than nothing"),
        (lambda: Absence("a", of=When(readings, per="x"), after=W, within="1m"), "rule a: of: per='x' is no field of Reading"),
        (lambda: Heartbeat("h", of=readings, every="0s"), "rule h: every='0s' must be longer than nothing"),
        (lambda: Heartbeat("h", of=readings, every="1s", where=METRES), "rule h: where gives Float64, where a condition is needed"),
        (lambda: Sequence("s", W, within="1m"), "rule s: 1 steps; a sequence has two or more"),
        (lambda: Sequence("s", W, When(readings, METRES.max() < METRES + 1), within="1m"), "rule s: step 2: where looks beyond its row"),
        (lambda: Sequence("s", W, W, within="1m", at_least=0), "rule s: at_least=0 must be at least 1"),
        (lambda: Join("j", W, When(readings, pl.col("y") > 1), within="1m"), "rule j: right: where names the column 'y'"),
        (lambda: Join("j", W, W, within="1m", cool_down="0s"), "rule j: cool_down='0s' must be longer than nothing"),
        (lambda: Anomaly("a", of=readings, value=METRES, season="month"), "season='month' is none of hour of day, day of week"),
        (lambda: Anomaly("a", of=readings, value=METRES, zone="Mars"), "zone='Mars' is no time zone"),
        (lambda: Anomaly("a", of=readings, value=METRES, history=5), "history=5 never holds the at_least=20 values"),
        (lambda: Anomaly("a", of=readings, value=METRES, closes_at=4), "closes_at=4 must lie below opens_at=3.5"),
        (lambda: Anomaly("a", of=readings, value=pl.col("gauge")), "rule a: value gives String, where a number is needed"),
        (lambda: change(stat="max"), "rule c: stat='max' is neither mean nor median"),
        (lambda: change(side="up"), "rule c: side='up' is none of above, below, both"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_with_the_remedy(declare: Callable[[], Any], says: str) -> None:
    """Misused at declaration, naming the rule, the argument and what is allowed."""
    with pytest.raises(Misused, match=re.escape(says)):
        declare()
