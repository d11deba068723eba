import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.quantity import DEGREES, MILES, MINUTES, SHARE, Range, agreement, quantities

INF = math.inf


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7 of the 25 flights due within the hour were cancelled", [Range(SHARE, 0.28, 0.28)]),
        ("12 out of 40 failed", [Range(SHARE, 0.3, 0.3)]),
        ("visibility a quarter of a mile in fog at 47 °F", [Range(MILES, 0.25, 0.25), Range(DEGREES, 47, 47)]),
        ("three quarters of a mile", [Range(MILES, 0.75, 0.75)]),
        ("left 66 minutes late", [Range(MINUTES, 66, 66)]),
        ("wind of 32 miles per hour", []),
        ("80 % of the disk is used", [Range(SHARE, 0.8, 0.8)]),
        ("no flight is cancelled", [Range(SHARE, 0, 0)]),
        ("nothing to read here", []),
    ],
)
def test_what_is_the_case(text, found):
    """Of a situation a bare number is that number."""
    assert list(quantities(text, stated=False)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a fifth or more of the flights", [Range(SHARE, 0.2, INF)]),
        ("a fifth of the flights of an hour", [Range(SHARE, 0.2, INF)]),
        ("fewer than a tenth of the flights", [Range(SHARE, -INF, 0.1, high_open=True)]),
        ("between one and three miles", [Range(MILES, 1, 3)]),
        ("visibility of a mile or less", [Range(MILES, -INF, 1)]),
        ("visibility above one mile", [Range(MILES, 1, INF, low_open=True)]),
        ("delays of up to half an hour", [Range(MINUTES, -INF, 30)]),
        ("more than an hour late", [Range(MINUTES, 60, INF, low_open=True)]),
        ("at least 90 minutes", [Range(MINUTES, 90, INF)]),
        ("takes ten minutes", [Range(MINUTES, 10 / 1.5, 15)]),
        ("within an hour", []),
        ("few cancellations", [Range(SHARE, -INF, 0.15)]),
        ("at most one every runway", []),
        ("no aircraft takes off", []),
    ],
)
def test_what_is_stated(text, found):
    """Of a rule a comparison is a range, a bare amount is about that, and a period is no amount."""
    assert list(quantities(text, stated=True)) == found


@pytest.mark.parametrize(
    ("situation", "rule", "verdict"),
    [
        ("visibility is 3 miles", "at one mile or less, hold", -1),
        ("visibility is half a mile", "at one mile or less, hold", 1),
        ("7 of the 25 flights were cancelled", "rebook when a fifth or more of the flights are cancelled", 1),
        ("1 of the 24 flights was cancelled", "rebook when a fifth or more of the flights are cancelled", -1),
        ("7 of the 25 flights were cancelled", "hold in fog", 0),
        ("visibility is half a mile, 9 of the 10 flights were cancelled", "at a mile or less and with few cancellations, hold", -1),
    ],
)
def test_whether_a_rule_meets_the_case(situation, rule, verdict):
    """A rule agrees if every quantity both speak of fits, contradicts if one does not, and else says nothing."""
    assert agreement(quantities(situation, stated=False), quantities(rule, stated=True)) == verdict


ends = st.integers(-3, 3).map(float)
anything = st.builds(Range, st.just(SHARE), ends, ends, st.booleans(), st.booleans())
ranges = anything.filter(lambda r: r.low < r.high or (r.low == r.high and r[3:] == (False, False)))


@given(ranges, ranges)
def test_meeting_is_having_a_value_in_common(one, other):
    """Two ranges meet if and only if some value lies in both, ends considered; and it is symmetric."""

    def holds(r, value):
        return (r.low < value or (r.low == value and not r.low_open)) and (value < r.high or (value == r.high and not r.high_open))

    common = any(holds(one, n / 4) and holds(other, n / 4) for n in range(-16, 17))
    assert one.meets(other) == other.meets(one) == common


@given(st.text(max_size=80), st.booleans())
def test_any_text_can_be_read(text, stated):
    """No text is an error."""
    assert all(found.low <= found.high for found in quantities(text, stated=stated))
