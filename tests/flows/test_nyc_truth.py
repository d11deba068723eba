"""The year's truth, and how rules and choices are measured against it."""

from datetime import UTC, date, datetime

import pytest

from headwater.agents.activation import Activation, activation_id
from headwater.flows.nyc import truth
from headwater.flows.nyc.situations import HOLD, REBOOK, WATCH
from headwater.flows.nyc.truth import SITUATIONS, AirportDay, days_of, firings, judge, score
from headwater.lineage.duration import from_datetime

DISRUPTED = {
    **{(2, day): {"EWR", "JFK", "LGA"} for day in (8, 9)},
    (3, 6): {"LGA"},
    (3, 8): {"EWR", "LGA"},
    (5, 23): {"EWR", "LGA"},
    (7, 22): {"LGA"},
    (9, 12): {"LGA"},
    (12, 5): {"LGA"},
    (12, 10): {"EWR", "LGA"},
    (12, 14): {"EWR"},
}


def us(*moment: int) -> int:
    return from_datetime(datetime(2013, *moment, tzinfo=UTC))


def firing(phase: str, at: int, *, rule: str = "cancellations", key: str = "EWR", episode: str = "") -> Activation:
    id_ = activation_id(rule, key, at)
    return Activation(id=id_, rule=rule, key=key, phase=phase, at=at, value=0.5, episode=episode or id_)


def test_seventeen_airport_days_were_disrupted():
    """By the definition, from the data, these and no others."""
    assert days_of("disrupted") == {AirportDay(date(2013, *day), airport) for day, airports in DISRUPTED.items() for airport in airports}
    assert len(days_of("disrupted")) == 17


def test_182_days_were_ordinary_at_all_three_airports():
    """546 airport-days; none of them is disrupted, and the rest count for neither."""
    ordinary = days_of("ordinary")
    assert len(ordinary) == 546 and len({place.day for place in ordinary}) == 182
    assert not ordinary & days_of("disrupted")
    assert len(ordinary) + len(days_of("neither")) + 17 == truth.airport_days().height


def test_a_rule_fires_on_days_of_openings_updates_and_flights_due_while_open():
    """An episode from the evening of the 8th to the morning of the 10th (New York) fires on three days; a night alone on none more."""
    opened = firing("opened", us(2, 8, 23))  # 18:00 in New York
    closed = firing("closed", us(2, 10, 15), episode=opened.id)
    days = [AirportDay(date(2013, 2, day), "EWR") for day in (8, 9, 10)]
    assert firings([opened, closed])["cancellations"] == frozenset(days)
    before_dawn = firing("closed", us(2, 9, 6), episode=opened.id)  # 01:00 in New York: no flight was due since midnight
    assert firings([opened, before_dawn])["cancellations"] == frozenset(days[:1])
    update = firing("updated", us(2, 9, 12), episode=opened.id)
    assert firings([opened, update, closed])["cancellations"] == frozenset(days)


def test_an_episode_left_open_counts_to_the_last_day_replayed():
    """A replay that ends inside an episode claims nothing about later days."""
    opened = firing("opened", us(2, 8, 16))
    assert firings([opened], last=date(2013, 2, 9))["cancellations"] == {AirportDay(date(2013, 2, day), "EWR") for day in (8, 9)}


def test_the_score_counts_hits_misses_and_false_alarms_by_month():
    """Counts over the replayed days only, with the days named."""
    blizzard = firing("opened", us(2, 8, 16))
    hit = [blizzard, firing("closed", us(2, 8, 20), episode=blizzard.id)]
    quiet = min(place for place in days_of("ordinary") if place.day.month == 1)
    noon = us(quiet.day.month, quiet.day.day, 17)
    alarm = firing("opened", noon, key=quiet.airport)
    false = [alarm, firing("closed", noon + 60_000_000, key=quiet.airport, episode=alarm.id)]
    measured = score([*false, *hit], date(2013, 1, 1), date(2013, 2, 9))
    rule = measured.rule("cancellations")
    assert (rule.opened, rule.updated, rule.closed) == (2, 0, 2)
    assert [month.month for month in rule.months] == [1, 2]
    assert rule.total("disrupted") == 6 and rule.total("disrupted_fired") == 1 and len(rule.missed) == 5
    assert rule.total("ordinary_fired") == 1 and rule.false == (quiet,)
    assert measured.opened_in_storm == {"EWR": 1, "JFK": 0, "LGA": 0} and measured.fired_on_quiet_day == ()
    assert measured.rule("delays").total("disrupted_fired") == 0
    eve = score([firing("opened", us(2, 7, 16))], date(2013, 2, 7), date(2013, 2, 7))
    assert eve.fired_on_quiet_day == ("EWR",)


def test_the_situations_are_24_half_held_out_in_each_kind_of_answer():
    """Names and texts are unique, responses known, and both halves hold each response at least four times."""
    assert len(SITUATIONS) == 24 and len({case.name for case in SITUATIONS}) == 24 and len({case.text for case in SITUATIONS}) == 24
    for response in (HOLD, REBOOK, WATCH):
        halves = [sum(response in case.allowed for case in SITUATIONS if case.held_out == half) for half in (True, False)]
        assert min(halves) >= 4
    assert all(case.allowed and case.allowed <= {HOLD, REBOOK, WATCH} for case in SITUATIONS)


def test_every_situation_rests_on_a_procedure():
    """`because` names a file, and the file speaks of the response."""
    folder = truth.data.Path(truth.__file__).parent / "procedures"
    for case in SITUATIONS:
        text = (folder / f"{case.because}.md").read_text().lower()
        assert all(response in text for response in case.allowed), case.name


def test_judging_tells_wrong_choices_that_would_have_been_acted_on():
    """A disallowed choice counts against the agent twice when its confidence reaches the threshold."""
    right = {case.name: (min(case.allowed), 0.9) for case in SITUATIONS}
    assert judge(right, act_above=0.7).disallowed == () and judge(right, act_above=0.7).total == 24
    held = [case for case in SITUATIONS if case.held_out]
    wrong = {**right, held[0].name: ("sing", 0.7), held[1].name: ("sing", 0.69)}
    judged = judge(wrong, act_above=0.7, held_out=True)
    assert judged.total == 12 and judged.disallowed == (held[0].name, held[1].name) and judged.disallowed_acted == (held[0].name,)
    with pytest.raises(KeyError):
        judge({}, act_above=0.7)
