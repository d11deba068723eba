"""Rules at the edges of what numbers can be, and what is said of what is no number at all."""

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater import Absence, Anomaly, App, Change, Heartbeat, Rate, Threshold, Topic
from headwater.agents.activation import activation_event, activation_of
from headwater.agents.detect import Detector
from headwater.agents.signals import Reader
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import HeadwaterError, Misused
from headwater.lineage.event import Event, Position
from headwater.lineage.select import Select

S = 1_000_000


class Reading(msgspec.Struct):
    gauge: str
    metres: float | None = None
    note: str = ""


readings = Topic("readings", Reading, key="gauge", lateness="0s")
METRES = pl.col("metres")
RULES: list[Any] = [
    *(
        Threshold(stat, of=readings, value=METRES, within="9s", opens_at=5, closes_at=-5, stat=stat, each="event", update_step=1)
        for stat in ("mean", "median", "p90")
    ),
    Change("moved", of=readings, value=METRES, within="3s", against="9s", opens_at=1, closes_at=0, update_step=1),
    Change("moved by", of=readings, value=METRES, within="3s", opens_at=1, closes_at=0, relative=True, stat="median", update_step=1),
    Anomaly("odd", of=readings, value=METRES, at_least=1, opens_at=2, closes_at=1, history=5, update_step=1),
]
HUGE = 1.7976931348623157e308
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([HUGE, -HUGE, HUGE / 2, 5e-324, 0.0])


def told(offset: int, second: float, metres: float | None, note: str = "", mark: bool = False) -> Received:
    event = Event(id=f"e{offset}", source="t", type=MARK if mark else "r", time=round(second * S))
    return Received(Position("b", "readings", 0, offset), event, None if mark else Reading("g", metres, note), 0)


@given(st.lists(numbers, min_size=2, max_size=12))
def test_an_activation_tells_a_number_whatever_numbers_came(metres: list[float]) -> None:
    """Sums and differences of finite numbers may be none; what is told is one, and is read again as it was written."""
    received = [told(n, n, each) for n, each in enumerate(metres)]
    detector = Detector(readings, RULES, idle=False)
    step = detector.step(detector.start(0), detector.signals([*received, told(len(metres), 10**6, None, mark=True)]), 0)
    assert all(math.isfinite(each) for each in step.levels)
    for activation in step.activations:
        assert math.isfinite(activation.value)
        assert activation_of(activation_event(activation)) == activation


def number(column: str) -> pl.Expr:
    return pl.col(column).str.to_integer()


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (Threshold("deep", of=readings, value=number("note"), opens_at=1, closes_at=0), "rule deep over readings"),
        (Rate("many", of=readings, where=number("note") > 3, within="1m", opens_at=0.5, closes_at=0, select=Select(type="r")), "where="),
        (Threshold("keyed", of=readings, value=METRES, per=number("note"), opens_at=1, closes_at=0), "rule keyed over readings"),
    ],
)
def test_an_event_that_a_rule_stumbles_over_is_told_with_the_rule_and_the_remedy(rule: Any, says: str) -> None:
    """Of several rules over a topic the one that failed is named, with its expression."""
    fine = Threshold("fine", of=readings, value=METRES, opens_at=1, closes_at=0)
    batch = Reader(readings, [fine, rule]).read([told(0, 0, 1, "twelve"), told(1, 1, 1, "12")])
    [(failed, error)] = batch.failures
    assert failed.position.offset == 0
    assert says in str(error) and f"rule {rule.name} " in str(error) and "to_integer" in str(error)
    assert "have the expression give null where it cannot tell" in str(error)


def threshold(**more: Any) -> Threshold:
    return Threshold(**{"name": "t", "of": readings, "value": METRES, "opens_at": 1, "closes_at": 0, **more})


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: threshold(name=5), "a rule needs a name, a text; not 5"),
        (lambda: threshold(opens_at="1"), "rule t: opens_at='1' must be a number"),
        (lambda: threshold(closes_at=float("-inf")), "rule t: closes_at=-inf must be a number"),
        (lambda: threshold(update_step="1"), "rule t: update_step='1' must be a number"),
        (lambda: threshold(cool_down=30), "rule t: cool_down: 30 is no duration; write a text"),
        (lambda: threshold(of="readings"), "rule t: it looks at a str; give a Topic"),
        (lambda: threshold(within="1m", at_least="3"), "rule t: at_least='3' must be a whole number"),
        (lambda: threshold(within="1m", each="row"), "rule t: each='row' is neither thing nor event"),
        (lambda: threshold(each="event"), "rule t: each='event' needs within="),
        (lambda: Rate("r", of=readings, where=METRES > 1, within="1m", opens_at="1", closes_at=0), "rule r: opens_at='1' must be a number"),
        (lambda: Heartbeat("h", of="readings", every="1m"), "rule h: it looks at a str"),
        (lambda: Absence("a", of=readings, after=readings, within="1m"), "rule a: of is a Topic; write When(TOPIC, CONDITION)"),
        (lambda: App("lake", triggers=["high"]), "triggers holds a str ('high'); give rules"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_in_words(declare: Callable[[], Any], says: str) -> None:
    """Misused, never a TypeError from within."""
    with pytest.raises(HeadwaterError, match=re.escape(says)) as refused:
        declare()
    assert isinstance(refused.value, Misused)
