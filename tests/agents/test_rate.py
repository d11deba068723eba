"""The rate limit: exact, and without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.rate import Limit, Turns, limit
from headwater.lineage.errors import Misused


@given(st.integers(1, 5), st.integers(1, 50), st.lists(st.integers(-3, 30), max_size=60))
def test_no_stretch_of_time_holds_more_than_the_limit(many, per, pauses):
    """Whenever they are asked for, at most `many` turns lie within any `per`; turns keep the order of asking, none is refused, and none
    waits while fewer than `many` lie within the `per` before it."""
    turns, now, given_out = Turns(Limit(many, per)), 0, []
    for pause in pauses:
        now = max(0, now + pause)
        at = turns.take(now)
        assert at >= now and at >= (given_out[-1] if given_out else 0)
        if at > max(now, given_out[-1] if given_out else 0):
            assert sum(earlier > at - 1 - per for earlier in given_out) >= many, "it waited for nothing"
        given_out.append(at)
        assert sum(earlier > at - per for earlier in given_out) <= many
        assert turns.ahead(now) <= many


def test_turns_of_an_earlier_life_count():
    """After a restart the turns that were taken before it are still within the limit."""
    turns = Turns(Limit(2, 100), taken=[10, 50])
    assert turns.take(60) == 110
    turns = Turns(Limit(2, 100))
    turns.take(60)
    turns.learn([50, 10])
    assert turns.take(60) == 150


def test_a_rate_is_read():
    """A rate is a count and a duration."""
    assert limit("20/1m") == Limit(20, 60_000_000) and limit(" 3 / 1h 30m") == Limit(3, 5_400_000_000)


@pytest.mark.parametrize("text", ["20", "20/", "/1m", "0/1m", "x/1m", "20/soon", "1000000/1s", "-1/1s"])
def test_what_is_no_rate_is_refused(text):
    """Anything else is refused with the text and an example."""
    with pytest.raises(Misused):
        limit(text)
