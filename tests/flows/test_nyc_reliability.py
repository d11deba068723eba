"""The reliability of the bundled model: its cases are what they are said to be, and the page's figures are the command's."""

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from headwater.agents.calibration import Answered, calibration
from headwater.flows.nyc.hours import hours
from headwater.flows.nyc.reliability import answered, sets, svg, told
from headwater.flows.nyc.situations import HOLD, REBOOK, WATCH

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models-and-tools.md"


def test_the_hours_are_a_hundred_of_each_response_and_none_was_seen():
    """Each once, March to December, right by the numbers that its text tells; the same draw every time."""
    cases = hours()
    assert Counter(next(iter(case.allowed)) for case in cases) == {REBOOK: 100, HOLD: 100, WATCH: 100}
    assert len({case.name for case in cases}) == 300 and [case.text for case in hours()] == [case.text for case in cases]
    for case in cases:
        when = datetime.fromtimestamp(int(case.name.split("/")[1]) / 1e6, UTC)
        cancelled, due = map(int, re.match(r"At \w+ (\d+) of the (\d+)", case.text).groups())
        late = re.search(r"left (\d+) minutes", case.text)
        sight = float(re.search(r"isibility ([\d.]+) mile", case.text)[1])
        assert 3 <= when.month <= 12 and due >= 10
        assert (cancelled >= due / 5) == (case.allowed == {REBOOK})
        assert (case.allowed == {WATCH}) <= (sight > 1 and late is not None and int(late[1]) <= 60)


def test_the_plot_is_a_picture_and_the_table_tells_every_bin():
    """One circle for each bin of each set, inside the picture; nothing is loaded from elsewhere."""
    found = {"a set": calibration([Answered(n / 20, n % 3 > 0) for n in range(20)]), "other": calibration([Answered(1.0, True)])}
    drawn = ElementTree.fromstring(svg(found))
    circles = list(drawn.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == sum(len(each.bins) for each in found.values())
    assert all(0 < float(c.get("cx")) < float(drawn.get("width")) and 0 < float(c.get("cy")) < float(drawn.get("height")) for c in circles)
    assert "href" not in svg(found) and told("a set", found["a set"]).count("\n") == 2 + len(found["a set"].bins)


@pytest.mark.long
def test_the_figures_on_the_page_are_those_of_the_command():
    """Measured anew, each set's figures stand in the page's table, to the second digit."""
    rows = re.findall(r"^\| (?:airport-hours|held-out).*$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(rows) == 2
    for row, cases in zip(rows, sets().values(), strict=True):
        found = calibration(answered(cases))
        numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", row.partition("|")[2].partition("|")[2].replace("95 %", ""))]
        assert numbers == pytest.approx(
            [found.many, found.right, found.confidence, found.error, found.low, found.high, found.floor], abs=0.01
        )
