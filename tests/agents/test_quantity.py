import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.quantity import DEGREES, MILES, MINUTES, SHARE, SINCE, SPEED, Range, bare, plain, quantities, read, verdict

INF = math.inf


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7 of the 25 flights due within the hour were cancelled", [Range(SHARE, 0.28, 0.28)]),
        ("12 out of 40 failed", [Range(SHARE, 0.3, 0.3)]),
        ("thirteen of its twenty-six flights", [Range(SHARE, 0.5, 0.5)]),
        ("one flight in twenty was cancelled", [Range(SHARE, 0.05, 0.05)]),
        ("of the 40 flights due, 8 are cancelled", [Range(SHARE, 0.2, 0.2)]),
        ("of the 40 flights due only 8 are cancelled", [Range(SHARE, 0.2, 0.2)]),
        ("40 flights were due; 8 of them were cancelled", [Range(SHARE, 0.2, 0.2)]),
        ("two fifths of the flights are cancelled", [Range(SHARE, 0.4, 0.4)]),
        ("half of the flights are cancelled", [Range(SHARE, 0.5, 0.5)]),
        ("more than half of them", [Range(SHARE, 0.5, INF, low_open=True)]),
        ("nearly twenty per cent of the flights", [Range(SHARE, 0.85 * 0.2, 0.2, high_open=True)]),
        ("80 % of the disk is used", [Range(SHARE, 0.8, 0.8)]),
        ("no flight is cancelled", [Range(SHARE, 0, 0)]),
        ("none of the 28 flights is cancelled", [Range(SHARE, 0, 0)]),
        ("visibility a quarter of a mile in fog at 47 °F", [Range(MILES, 0.25, 0.25), Range(DEGREES, 47, 47)]),
        ("three quarters of a mile", [Range(MILES, 0.75, 0.75)]),
        ("a mile and a quarter", [Range(MILES, 1.25, 1.25)]),
        ("one and a half miles", [Range(MILES, 1.5, 1.5)]),
        ("2½ miles", [Range(MILES, 2.5, 2.5)]),
        ("left 66 minutes late", [Range(MINUTES, 66, 66)]),
        ("an hour and a half late", [Range(MINUTES, 90, 90)]),
        ("an hour and ten minutes late", [Range(MINUTES, 70, 70)]),
        ("half an hour late", [Range(MINUTES, 30, 30)]),
        ("no more than ten minutes on the taxiway", [Range(MINUTES, -INF, 10)]),
        ("the last lightning was 40 minutes back", [Range(SINCE, 40, 40)]),
        ("wind of 32 miles per hour", [Range(SPEED, 32, 32)]),
        ("visibility fell from 2 miles to 1 mile", [Range(MILES, 1, 1)]),
        ("10 miles, after 2 miles an hour ago", [Range(MILES, 10, 10)]),
        ("rain is expected for 3 hours", []),
        ("The day before, 25 of 40 were cancelled", []),
        ("9 of 10 flights still go", []),
        ("nothing has been cancelled", [Range(SHARE, 0, 0)]),
        ("Newark, terminal B", []),
    ],
)
def test_what_is_the_case(text, found):
    """Of a situation a bare number is that number, in words too; what was, will be, or is said of the others is left out."""
    assert list(quantities(text, stated=False)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a fifth or more of the flights", [Range(SHARE, 0.2, INF)]),
        ("a fifth of the flights of an hour", [Range(SHARE, 0.2, INF)]),
        ("the share rises to a fifth again", [Range(SHARE, 0.2, INF)]),
        ("fewer than a tenth of the flights", [Range(SHARE, -INF, 0.1, high_open=True)]),
        ("between one and three miles", [Range(MILES, 1, 3)]),
        ("visibility of a mile or less", [Range(MILES, -INF, 1)]),
        ("visibility above one mile", [Range(MILES, 1, INF, low_open=True)]),
        ("delays of up to half an hour", [Range(MINUTES, -INF, 30)]),
        ("more than an hour late", [Range(MINUTES, 60, INF, low_open=True)]),
        ("an hour or more late on average", [Range(MINUTES, 60, INF)]),
        ("at least 90 minutes", [Range(MINUTES, 90, INF)]),
        ("thirty minutes after the last lightning", [Range(SINCE, 30, INF)]),
        ("gusts under twenty-five miles per hour", [Range(SPEED, -INF, 25, high_open=True)]),
        ("takes ten minutes", [Range(MINUTES, 10 / 1.5, 15)]),
        ("within an hour", []),
        ("every fifteen minutes", []),
        ("few cancellations", [Range(SHARE, -INF, 0.15)]),
        ("at most one every runway", []),
        ("no aircraft takes off", []),
    ],
)
def test_what_is_stated(text, found):
    """Of a rule a comparison is a range, a bare amount is about that, and a period is no amount."""
    assert list(quantities(text, stated=True)) == found


def test_a_quantity_says_of_what():
    """Of each quantity the clause it stands in is kept, without it; the newest is marked; what is left of a clause can be had alone."""
    found = read("Departures left 44 minutes late, the last lightning was 40 minutes ago, and by now 3 of 30 are cancelled.", stated=False)
    assert [(one.about, one.latest) for one in found] == [
        ("Departures left late", False), ("the last lightning was", False), ("and by now are cancelled", True)
    ]  # fmt: skip
    assert bare("visibility of a mile or less in snow") == "visibility of in snow"


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("twenty-five flights", "25 flights"),
        ("a hundred and ten minutes", "110 minutes"),
        ("half past six", "half past 6"),
        ("1,200 m", "1200 m"),
    ],
)
def test_number_words_become_digits(text, digits):
    """Compounds, hundreds and thousands are one number, and a half that counts nothing stays a word."""
    assert plain(text) == digits


@pytest.mark.parametrize(
    ("case", "rule", "outcome"),
    [
        ("61 minutes late", "an hour or more late", 1),
        ("60 minutes late", "an hour or more late", 1),
        ("57 minutes late", "an hour or more late", -1),
        ("60 minutes late", "more than an hour late", -1),
        ("visibility of exactly one mile", "visibility of a mile or less", 1),
        ("visibility of one mile", "visibility above one mile", -1),
        ("nearly a fifth of the flights", "a fifth or more of the flights", -1),
        ("a fifth or more of the flights", "half or more of the flights", 0),
    ],
)
def test_whether_a_case_meets_a_rule(case, rule, outcome):
    """1 if all of the case lies in the rule's range, -1 if nothing does, 0 if it is open; limits count as they are said."""
    assert verdict(*quantities(case, stated=False), *quantities(rule, stated=True)) == outcome


ends = st.integers(-3, 3).map(float)
anything = st.builds(Range, st.just(SHARE), ends, ends, st.booleans(), st.booleans())
ranges = anything.filter(lambda r: r.low < r.high or (r.low == r.high and r[3:] == (False, False)))


@given(ranges, ranges)
def test_meeting_is_having_a_value_in_common(one, other):
    """Two ranges meet if and only if some value lies in both, ends considered; the verdict is 1 if all values of the case do."""

    def holds(r, value):
        return (r.low < value or (r.low == value and not r.low_open)) and (value < r.high or (value == r.high and not r.high_open))

    points = [n / 4 for n in range(-16, 17)]
    common = any(holds(one, point) and holds(other, point) for point in points)
    assert one.both(other).empty == other.both(one).empty == (not common)
    inside = all(holds(other, point) for point in points if holds(one, point))
    assert verdict(one, other) == (1 if inside else 0 if common else -1)


@given(st.text(max_size=80), st.booleans())
def test_any_text_can_be_read(text, stated):
    """No text is an error."""
    assert all(found.low <= found.high for found in quantities(text, stated=stated))


spoken = "7 of the 25 a half fifth miles hour and between in more zero % 1/0 , quarter ago"
numbers = st.sampled_from(spoken.split())


@given(st.lists(numbers, max_size=12).map(" ".join), st.booleans())
def test_any_numbers_can_be_read(text, stated):
    """No row of number words is an error."""
    assert all(found.low <= found.high for found in quantities(text, stated=stated))


def test_the_share_of_those_that_go_is_not_the_share_of_those_that_do_not():
    """ "All 27 flights are going" says nothing of a hundred per cent cancelled."""
    assert quantities("All 27 flights due within the hour are going.", stated=False) == ()
    assert quantities("All 27 flights due within the hour were cancelled.", stated=False) != ()
