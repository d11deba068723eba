"""Calibration: the figures against cases whose calibration is known."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.agents.calibration import Answered, calibration
from headwater.lineage.errors import Misused

CASES = st.lists(st.builds(Answered, st.floats(0, 1), st.booleans()), min_size=1, max_size=25)


@given(CASES)
@example([Answered(0.7, False)] * 3)
def test_the_error_is_the_weighted_gap_of_the_bins(answers):
    """Against the definition: over the bins, share of cases times distance of confidence and share right; every case is in one bin."""
    found = calibration(answers)
    assert sum(each.many for each in found.bins) == found.many == len(answers)
    assert found.error == pytest.approx(sum(each.many / found.many * abs(each.confidence - each.right) for each in found.bins))
    assert 0 <= found.low <= found.high <= 1
    assert all(each.low <= each.confidence <= each.high and 0 <= each.least <= each.right + 1e-9 for each in found.bins)


def test_an_honest_model_has_the_error_of_its_floor_and_a_boaster_has_not():
    """Answers right as often as they say lie near the floor; answers that always say 0.9 and are right half the time are 0.4 off."""
    draw = random.Random(7)
    honest = [Answered(sure, draw.random() < sure) for sure in (draw.uniform(0.3, 1) for _ in range(3000))]
    found = calibration(honest)
    assert found.error < 2 * found.floor < 0.06
    boaster = calibration([Answered(0.9, n % 2 == 0) for n in range(400)])
    assert boaster.error == pytest.approx(0.4) and boaster.low > boaster.floor


def test_few_cases_have_a_high_floor():
    """With a dozen cases even a perfect model looks wrong: the floor says how much, and the same cases give the same figures."""
    few = [Answered(0.7, n % 3 > 0) for n in range(12)]
    assert calibration(few).floor > 3 * calibration(few * 50).floor
    assert calibration(few) == calibration(few)


def test_what_is_no_answer_is_refused():
    """No cases, or a confidence that is none."""
    with pytest.raises(Misused):
        calibration([])
    with pytest.raises(Misused):
        calibration([Answered(1.2, True)])
