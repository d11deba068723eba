"""The reference application: its documents, situations, procedures and fallback."""

import asyncio
import dataclasses
import re
from pathlib import Path

import pytest

from headwater.agents.activation import Activation
from headwater.enrichers.latest import Latest
from headwater.flows.nyc import app as nyc
from headwater.flows.nyc import relief
from headwater.flows.nyc.app import (
    Plan,
    airport_hour,
    app,
    by_the_book,
    cancellations,
    delays,
    flight_status,
    recover,
    situation,
    visibility,
    weather,
)
from headwater.flows.nyc.data import Flight, Weather
from headwater.flows.nyc.situations import HOLD, REBOOK, WATCH
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Position

NOON = 1_360_342_800_000_000  # 8 February 2013, 12:00 in New York
HOUR = Weather(
    id="weather/EWR/2013-02-08T17Z", origin="EWR", hour="2013-02-08 12:00", visibility=1.0, precipitation=0.06,
    temperature=32.0, humidity=92.0, wind=19.6, gust=28.8,
)  # fmt: skip
PROCEDURES = Path(nyc.__file__).resolve().parent / "procedures"


def flight(**known) -> Flight:
    told = {"id": "2013-02-08-EWR-UA-1", "sequence": 2, "status": "departed", "carrier": "UA", "flight": 1}
    return Flight(**{**told, "origin": "EWR", "destination": "IAH", "scheduled": "2013-02-08 11:45", **known})


def facts_of(topic, model, time=NOON):
    return {name: enricher.facts(model, time) for name, enricher in topic.enrich.items()}


def firing(rule, value, *, count=0, total=0) -> Activation:
    return Activation(id="a", rule=rule.name, key="EWR", phase="opened", at=NOON, value=value, episode="a", count=count, total=total)


def test_a_flight_reads_as_a_sentence_with_its_airline_aircraft_and_weather():
    """Facts of all five look-ups reach the text; the weather is that known at the event's time, not later."""
    latest = Latest(weather, on="origin")  # the application's own knows what other tests of this process told it
    flights = dataclasses.replace(nyc.flights, enrich={**nyc.flights.enrich, "weather": latest})
    early = Received(Position("b", "weather", 0, 0), Event(id=HOUR.id, source="t", type="t", time=NOON - 1), HOUR, 0)
    late = Received(Position("b", "weather", 0, 1), Event(id="later", source="t", type="t", time=NOON + 1), Weather(
        id="later", origin="EWR", hour="", visibility=9.0, precipitation=0.0), 0)  # fmt: skip
    latest.feed([early, late])
    gone = flight(tailnum="N10156", delay=25)
    document = flight_status(gone, facts_of(flights, gone))
    assert document.id == gone.id and document.fields["status"] == "departed"
    assert document.text == (
        "United Air Lines Inc. flight UA 1 from Newark Liberty Intl (EWR) to George Bush Intercontinental (IAH), scheduled for "
        "2013-02-08 11:45, departed 25 minutes late with an EMBRAER EMB-145XR. "
        "Weather at EWR: snow, visibility 1 mile, 32 °F, wind 20 mph gusting to 29 mph."
    )


def test_what_no_look_up_knows_is_left_out():
    """San Juan is not in the table of airports, a cancelled flight has no aircraft, and no `None` reaches a text."""
    lost = flight(status="cancelled", destination="SJU", origin="LGA", carrier="??")
    text = flight_status(lost, facts_of(nyc.flights, lost)).text
    assert "(SJU)" in text and "is cancelled." in text and "None" not in text and "?? flight" in text
    due = {"status": "due", "sequence": 1}
    for known, words in [(due, "is due to depart"), ({"delay": 0}, "departed on time"), ({"delay": -4}, "departed 4 minutes early")]:
        assert words in flight_status(flight(**known), facts_of(nyc.flights, flight(**known))).text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "snow, visibility 1 mile, 32 °F, wind 20 mph gusting to 29 mph"),
        ({"temperature": 50.0}, "rain, visibility"),
        ({"temperature": 50.0, "precipitation": 0.0, "visibility": 0.25}, "fog, visibility 0.25 miles"),
        ({"precipitation": 0.0}, "blowing snow"),
        ({"precipitation": 0.0, "visibility": 10.0, "gust": 45.0}, "storm, visibility 10 miles"),
        ({"temperature": None, "wind": None, "precipitation": 0.0, "visibility": 10.0}, ": visibility 10 miles."),
    ],
)
def test_an_hour_of_weather_reads_as_a_sentence(changed, words):
    """What was measured, in words people search for; what was not measured is left out."""
    hour = Weather(**{**{name: getattr(HOUR, name) for name in Weather.__struct_fields__}, **changed})
    document = airport_hour(hour, facts_of(weather, hour))
    assert document.id == hour.id and words in document.text and "None" not in document.text
    assert document.text.startswith("Weather at Newark Liberty Intl (EWR) on 2013-02-08 12:00")


def test_a_later_status_outranks_an_earlier_one_whatever_the_order_of_arrival():
    """`sequence` is the version: departed and cancelled replace due, never the other way round."""
    assert flight_status.version == "sequence"
    due, departed = flight(sequence=1, status="due"), flight(sequence=2)
    assert flight_status.version_of(due, NOON) < flight_status.version_of(departed, NOON - 60_000_000)


def test_there_are_a_dozen_procedures_of_150_to_300_words_in_sections():
    """Each has a title, sections for when, what and how it ends, and names the responses that the agent can choose."""
    files = sorted(PROCEDURES.glob("*.md"))
    assert len(files) == 12 and app.files[0].paths(app.root) == files
    for file in files:
        text = file.read_text()
        assert 150 <= len(text.split()) <= 300, file.name
        assert text.startswith("# ") and len(re.findall(r"^## ", text, re.MULTILINE)) >= 3, file.name
        assert sum(response in text.lower() for response in (HOLD, REBOOK, WATCH)) >= 2, file.name


def test_the_plan_offers_the_responses_of_the_procedures_each_described():
    """A model that answers typed choices sees what every option is for."""
    options = Plan.model_json_schema()["properties"]["response"]["anyOf"]
    assert {option["const"] for option in options} == {HOLD, REBOOK, WATCH}
    assert all(len(option["description"]) > 40 for option in options)


@pytest.mark.parametrize(
    ("activation", "words", "response"),
    [
        (firing(cancellations, 4 / 19, count=4, total=19), "EWR 4 of the 19 flights due within the hour were cancelled, a fifth", REBOOK),
        (firing(cancellations, 0.62, count=21, total=34), "21 of the 34 flights due within the hour were cancelled, half or more.", REBOOK),
        (firing(cancellations, 1.0, count=11, total=11), "all of them.", REBOOK),
        (firing(cancellations, 0.12, count=3, total=25), "a tenth or more.", WATCH),
        (firing(cancellations, 0.02, count=1, total=50), "fewer than a tenth.", WATCH),
        (firing(delays, 66.4), "left 66 minutes late on average, an hour or more.", HOLD),
        (firing(delays, 40.0), "left 40 minutes late on average, less than an hour.", WATCH),
        (firing(visibility, 0.5), "visibility has fallen to 0.5 miles in freezing weather, a mile or less.", HOLD),
        (firing(visibility, 3.0), "visibility has fallen to 3 miles in freezing weather, more than a mile.", WATCH),
    ],
)
def test_a_situation_is_told_in_the_words_of_the_procedures_and_the_fallback_follows_their_numbers(activation, words, response):
    """The fallback decides without a model: the level alone."""

    class Notes:
        def note(self, text: str) -> None:
            assert words in text

    decision = asyncio.run(by_the_book.function(activation, Notes()))
    assert decision.choice == Plan(response=response) and decision.options[0].name == response
    assert [(effect.topic.name, effect.key) for effect in decision.effects] == [("plans", None)]
    assert decision.effects[0].data.response == response and decision.effects[0].data.id.startswith("EWR-")
    assert words in situation(activation)


def test_the_agent_retrieves_procedures_and_the_airports_own_documents_then_publishes_its_plan():
    """Two retrievals, one choice over both, one effect; what it may publish is what it declares."""
    asked = []

    class Seen:
        async def retrieve(self, query, limit=8, where=None):
            asked.append(where)
            return [query]

        async def choose(self, output, evidence, situation=None):
            assert output is Plan and len(evidence) == 2 and situation in evidence[0]
            return await by_the_book.function(storm, self)

        def note(self, text):
            pass

    storm = firing(cancellations, 0.5, count=5, total=10)
    decision = asyncio.run(recover.function(storm, Seen()))
    assert asked == [{"path": nyc.PROCEDURES}, {"origin": "EWR"}] and len(nyc.PROCEDURES) == 12
    assert decision.effects[-1].data == relief.AirportPlan(id=relief.disruption(storm), response=REBOOK)
    assert recover.publishes == (nyc.plans,) and recover.fallback is by_the_book and recover.fallback.publishes == (nyc.plans,)


def test_the_application_names_every_topic_once():
    """Flights, weather, what agents publish, and the files of procedures; the weather is also a table."""
    said = {"plans", "crews", "rebookings"}
    assert {"flights", "weather", "notices"} | said < set(app.topics) and set(app.watched) == {"flights", "weather"} | said
    assert [table.topic.name for table in app.tables] == ["weather"] and app.topics["flights"].partitions == 4
