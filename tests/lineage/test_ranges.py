from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headwater.lineage.ranges import Ranges

runs = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=20)


@given(runs)
def test_adding_equals_a_set_of_integers(given_runs):
    """Ranges behave as a set of integers: what `add` returns is exactly what was not there, and the ranges stay disjoint and apart."""
    ranges, model = Ranges(), set[int]()
    for first, following in given_runs:
        new = {offset for a, b in ranges.add(first, following) for offset in range(a, b)}
        assert new == set(range(first, following)) - model
        model |= set(range(first, following))
    listed = list(ranges)
    assert {offset for a, b in listed for offset in range(a, b)} == model
    assert len(ranges) == len(model)
    assert all(before[1] < after[0] for before, after in pairwise(listed))


@given(runs, st.integers(0, 70), st.integers(0, 20))
def test_overlap_and_missing_share_a_range_out(given_runs, first, length):
    """What of a range is in the set and what is missing add up to the range."""
    ranges = Ranges(given_runs)
    missing = sum(b - a for a, b in ranges.missing(first, first + length))
    assert ranges.overlap(first, first + length) + missing == length
