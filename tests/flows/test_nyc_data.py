"""The reference application's data: rows become events that know nothing of the future."""

import importlib.util
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import polars as pl
import pytest

from headwater.flows.nyc import data
from headwater.flows.nyc.data import Flight, Weather
from headwater.flows.nyc.spoiled import spoiled
from headwater.lineage.decode import decode
from headwater.lineage.duration import from_datetime, to_datetime
from headwater.lineage.errors import Misused
from headwater.lineage.event import Message
from headwater.lineage.topic import Topic

NEW_YORK = ZoneInfo("America/New_York")
STORM = (date(2013, 2, 7), date(2013, 2, 9))


@pytest.fixture(scope="module")
def storm():
    return list(data.events(*STORM))


def flights_of(events):
    return [(event, msgspec.json.decode(event.data, type=Flight)) for topic, event in events if topic == data.FLIGHTS]


def test_each_row_becomes_two_events_and_each_airport_hour_one(storm):
    """Three days: every flight is due and departs or is cancelled, every airport has 24 hours of weather a day."""
    counts = Counter(event.type for _, event in storm)
    assert counts == {"flight.due": 2546, "flight.departed": 1677, "flight.cancelled": 869, "weather.observed": 216}
    assert len({event.id for _, event in storm}) == len(storm)


def test_events_come_in_event_time_order_with_ids_breaking_ties(storm):
    """The order is total and the same on every call."""
    order = [(event.time, event.id) for _, event in storm]
    assert order == sorted(order)
    assert storm == list(data.events(*STORM))


def test_no_event_carries_a_field_known_only_later(storm):
    """Due flights have neither delay nor aircraft (its absence would give cancellations away); nothing tells of arrivals."""
    for event, flight in flights_of(storm):
        if flight.status != "departed":
            assert flight.delay is None and flight.tailnum is None
        assert not any(word in name for name in msgspec.json.decode(event.data) for word in ("arr_", "arrival", "air_time"))
    due = {flight.id: event.data for event, flight in flights_of(storm) if flight.status == "due"}
    assert len(due) == 2546 and all(b"cancelled" not in text and b"departed" not in text for text in due.values())


def test_due_at_the_timetable_departed_with_the_delay_cancelled_a_second_later(storm):
    """Event times follow from the row by the documented rule."""
    due = {flight.id: event.time for event, flight in flights_of(storm) if flight.status == "due"}
    for event, flight in flights_of(storm):
        if flight.status == "departed":
            assert event.time == due[flight.id] + flight.delay * 60_000_000
        if flight.status == "cancelled":
            assert event.time == due[flight.id] + 1_000_000
        assert flight.sequence == (1 if flight.status == "due" else 2)
        assert event.id == f"{flight.id}/{flight.status}" and event.type == f"flight.{flight.status}" and event.subject == flight.id


def test_a_known_flight_reads_as_the_source_says(storm):
    """AA 1769 of 8 February from JFK to Miami, due at five to three, was cancelled."""
    told = {event.id: (event, flight) for event, flight in flights_of(storm)}
    event, flight = told["2013-02-08-JFK-AA-1769/cancelled"]
    american = data.flights().filter((pl.col("date") == date(2013, 2, 8)) & (pl.col("carrier") == "AA"))
    row = american.row(by_predicate=pl.col("flight") == 1769, named=True)
    assert (row["origin"], row["dest"], row["sched_dep_time"], row["dep_time"]) == ("JFK", "MIA", 1455, None)
    assert (flight.origin, flight.destination, flight.scheduled, flight.status) == ("JFK", "MIA", "2013-02-08 14:55", "cancelled")
    assert event.time == from_datetime(datetime(2013, 2, 8, 14, 55, 1, tzinfo=NEW_YORK).astimezone(UTC))


def test_scheduled_times_are_new_york_local_times_as_instants():
    """The source's full hours agree with zoneinfo's reading of the local timetable, all year, both clock changes included."""
    rows = data.flights().select("date", "sched_dep_time", "due").unique()
    for day, clock, due in rows.iter_rows():
        local = datetime(day.year, day.month, day.day, clock // 100, clock % 100, tzinfo=NEW_YORK)
        assert due == from_datetime(local.astimezone(UTC)), (day, clock)


def test_weather_hours_are_instants_and_unique_through_the_doubled_hour():
    """3 November has its 01:00 twice: two events with two ids; what no instrument measures is left out."""
    events = [event for topic, event in data.events(date(2013, 11, 3), date(2013, 11, 3)) if topic == data.WEATHER]
    hours = Counter(msgspec.json.decode(event.data, type=Weather).hour for event in events if event.source == "nyc/EWR")
    assert hours["2013-11-03 01:00"] == 2
    assert len({event.id for event in events}) == len(events)
    assert all(event.id == f"weather/{event.subject}/{to_datetime(event.time):%Y-%m-%dT%HZ}" for event in events)
    assert data.weather()["wind_speed"].max() < data.STRONGEST_WIND


def test_days_are_new_york_days_and_add_up():
    """The events of a span are those of its days together; a flight belongs to the day it was scheduled for."""
    days = [STORM[0] + timedelta(days=n) for n in range(3)]
    apart = sorted(event.id for day in days for _, event in data.events(day, day))
    assert apart == sorted(event.id for _, event in data.events(*STORM))


def test_days_outside_the_year_are_refused():
    """An empty or foreign span is a mistake, not an empty replay."""
    new_year = date(2013, 1, 1)
    for start, end in [(date(2012, 12, 31), new_year), (date(2013, 2, 9), date(2013, 2, 8)), (date(2013, 12, 31), date(2014, 1, 1))]:
        with pytest.raises(Misused, match="days of 2013"):
            next(data.events(start, end))


def test_a_missing_package_names_the_extra(monkeypatch):
    """Without the data the error says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Misused, match=r'pip install "headwater\[demo\]"'):
        data.folder()
    with pytest.raises(Misused, match=r'pip install "headwater\[demo\]"'):
        data.csv("planes")


def test_spoiled_messages_are_refused_each_for_its_cause():
    """Not JSON, breaks its model, no id: three causes, and nothing of them becomes an event."""
    topics = {data.FLIGHTS: Topic(data.FLIGHTS, Flight), data.WEATHER: Topic(data.WEATHER, Weather)}
    messages = [Message(bad.topic, 0, n, 0, bad.key, bad.value, bad.headers) for n, bad in enumerate(spoiled(1_360_000_000_000_000))]
    ends = [decode(topics[message.topic], "broker", [message]) for message in messages]
    assert [received for received, _ in ends] == [[], [], []]
    causes = [failures[0].error.cause for _, failures in ends]
    assert causes == [bad.cause for bad in spoiled(0)] == ["undecodable", "invalid", "invalid"]
    assert "ce_id" in str(ends[2][1][0].error) and "status" in str(ends[1][1][0].error)
