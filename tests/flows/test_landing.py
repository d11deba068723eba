"""How long records gather before they land follows what landing takes."""

from hypothesis import given
from hypothesis import strategies as st

from headwater.flows.landing import MOST_MS, SHARE, Gathering, LandingSink
from headwater.flows.meter import Meter
from headwater.lineage.store import Store


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(1, MOST_MS))
def test_records_gather_the_longer_the_longer_landing_takes(times, least):
    """Landing takes a tenth of the time at most, unless that would be out of bounds; only the last one counts."""
    gathering = Gathering(least)
    assert gathering.ms == least
    for took in times:
        gathering.took(took)
    assert least <= gathering.ms <= MOST_MS
    assert gathering.ms == least or gathering.ms == MOST_MS or gathering.ms == times[-1] * 1000 * SHARE


def test_the_sink_tells_what_a_landing_took(tmp_path):
    """From before it begins until the offsets have landed."""
    ticks = iter((10.0, 10.05))
    gathering = Gathering(200)
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 0) as store:
        sink = LandingSink(store, Meter(), gathering=gathering, clock=lambda: next(ticks)).build("land", 0, 1)
        sink.write_batch([])
    assert round(gathering.ms) == 500
