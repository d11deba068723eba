"""`headwater demo --crash`: where the flows are killed, and that nothing is lost or doubled."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.flows.settings import Settings
from headwater.flows.storm import Row, Storm, run, struck
from headwater.lineage.event import Event

DAY = date(2013, 2, 9)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 8))
def test_kills_fall_into_different_hours_with_most_cancellations(cancelled, kills):
    """As many hours as kills, if there are so many, and none among the calmer half while there are enough others."""
    hours = [(n, [("flights", Event(id="e", source="s", type="flight.cancelled", time=0))] * many) for n, many in enumerate(cancelled)]
    found = struck(hours, kills)
    assert len(found) == min(kills, len(hours))
    worst = sorted(cancelled, reverse=True)[max(kills, len(hours) // 2) - 1 :][:1] or [0]
    assert all(cancelled[n] >= worst[0] for n in found)


def test_one_row_that_is_not_nothing_is_told():
    """The run counts as whole only if every row is, and verify found nothing."""
    good = Row("events", 5, 5, 0, 0)
    assert Storm(DAY, DAY, "", rows=[good], verified=True).whole
    assert not Storm(DAY, DAY, "", rows=[good], verified=False).whole
    for bad in (Row("events", 5, 4, 1, 0), Row("events", 5, 6, 0, 1)):
        assert not Storm(DAY, DAY, "", rows=[good, bad], verified=True).whole


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_day_with_two_kills_loses_and_doubles_nothing(tmp_path):
    """Real processes, kill -9 mid-storm: everything published ended once, was decided once, and went out once."""
    told = []
    storm = run(Settings(home=tmp_path), DAY, DAY, lambda what, known: told.append(what), kills=2)
    assert storm.verified, storm.offences
    assert [(row.what, row.lost, row.doubled) for row in storm.rows if row.lost or row.doubled] == []
    assert storm.rows[0].expected > 1000 and storm.rows[-1].found > 0
    assert told.count("killed") == told.count("back") == len(storm.kills) == 2
    assert all(kill.recovered_s > 0 for kill in storm.kills)
