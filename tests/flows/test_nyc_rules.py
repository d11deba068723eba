"""The levels of the reference application come from January, and hold over the year."""

import pytest

from headwater.flows.nyc.app import cancellations, delays, visibility
from headwater.flows.nyc.calibrate import LADDERS, alarms, january, lowest_silent, usual
from headwater.flows.nyc.rehearse import rehearse
from headwater.flows.nyc.truth import QUIET, STORM, day_of, days_of, firings, score

RULES = [cancellations, delays, visibility]


@pytest.fixture(scope="module")
def year():
    return rehearse(RULES)


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: ladder.rule.name)
def test_each_level_is_the_lowest_that_stays_silent_on_januarys_ordinary_days(ladder):
    """At the level no ordinary airport-day of January is alarmed; one step lower some are. It closes at what an ordinary hour shows."""
    batches = january(ladder.rule)
    place = ladder.levels.index(ladder.rule.opens_at)
    assert alarms(ladder.rule, batches, ladder.levels[place]) == frozenset()
    assert alarms(ladder.rule, batches, ladder.levels[place - 1])
    if ladder.rule.within is not None:
        assert round(usual(ladder.rule, batches)) == ladder.rule.closes_at


def test_the_search_finds_the_first_level_that_is_silent():
    """Among all levels, and none where all fire."""
    ladder = LADDERS[-1]
    batches = january(ladder.rule)
    place = ladder.levels.index(ladder.rule.opens_at)
    assert lowest_silent(ladder.rule, batches, ladder.levels) == ladder.rule.opens_at
    assert lowest_silent(ladder.rule, batches, ladder.levels[:place]) is None


def test_every_disrupted_airport_day_fires_and_the_eve_of_the_blizzard_does_not():
    """The ten days of 2013 with a disruption, and 7 February: all 17 airport-days, each by itself."""
    days = {place.day for place in days_of("disrupted")}
    assert len(days) == 10 and len(days_of("disrupted")) == 17
    fired = [firings(rehearse([cancellations], day, day), last=day)["cancellations"] for day in sorted(days)]
    assert days_of("disrupted") <= frozenset().union(*fired)
    assert rehearse([cancellations], QUIET, QUIET) == []


def test_one_disruption_is_one_activation():
    """From the 7th to the 9th: at most three opened per airport; opened, updated and closed in turn, every episode closed."""
    storm = rehearse(RULES, QUIET, STORM[-1])
    assert all(1 <= count <= 3 for count in score(storm, QUIET, STORM[-1]).opened_in_storm.values())
    check_episodes(storm)


def test_the_storm_wakes_the_agent_about_ten_times():
    """What the demo shows: cancellations and low visibility, opened and updated."""
    woken = [firing for firing in rehearse(RULES, QUIET, STORM[-1]) if firing.phase != "closed"]
    assert 8 <= len(woken) <= 15 and {firing.rule for firing in woken} == {"cancellations", "visibility"}


@pytest.mark.long
def test_over_the_year_the_cancellation_rule_finds_every_disrupted_airport_day(year):
    """All 17, at most 10 of 546 ordinary ones, and not the eve of the blizzard."""
    measured = score(year)
    rule = measured.rule("cancellations")
    assert (rule.total("disrupted"), rule.total("disrupted_fired"), rule.missed) == (17, 17, ())
    assert rule.total("ordinary") == 546 and rule.total("ordinary_fired") == len(rule.false) <= 10
    assert measured.fired_on_quiet_day == () and all(1 <= count <= 3 for count in measured.opened_in_storm.values())
    assert [month.month for month in rule.months] == list(range(1, 13))


@pytest.mark.long
def test_over_the_year_the_delay_rule_rarely_fires_on_ordinary_days(year):
    """On at most 2 % of ordinary airport-days, and it does fire on others."""
    rule = score(year).rule("delays")
    assert rule.total("ordinary_fired") <= 0.02 * rule.total("ordinary")
    assert rule.total("neither_fired") > 0


@pytest.mark.long
def test_over_the_year_every_episode_is_opened_updated_and_closed_in_turn(year):
    """And a rehearsal of three days fires as the year does on them."""
    check_episodes(year)
    storm = [firing for firing in year if day_of(firing.at) in (QUIET, *STORM)]

    def shown(activations):
        return [(firing.id, firing.phase, firing.value, firing.count, firing.total) for firing in activations]

    assert shown(rehearse(RULES, QUIET, STORM[-1])) == shown(storm)


def check_episodes(activations):
    """Per rule and airport: opened, then updated any number of times, then closed; none left open."""
    running: dict[tuple[str, str], str] = {}
    for firing in activations:
        place = (firing.rule, firing.key)
        if firing.phase == "opened":
            assert place not in running
            running[place] = firing.id
        assert firing.episode == running[place]
        if firing.phase == "closed":
            del running[place]
    assert not running
