"""Airport-hours of 2013 as situations, with the response that the procedures' numbers call for. For measuring, not for making the agent.

March to December: January gave the rules their levels, and February is the demo. What an hour is called here the agent never saw: it is
woken by rules, in other words. The right response is read off the numbers of the procedures, by no model:

rebook passengers           a fifth or more of the hour's flights were cancelled
hold departures at the gate fewer, and departures left an hour or more late on average, or visibility is a mile or less
keep watching               otherwise
"""

import random
from collections.abc import Mapping
from datetime import date

import polars as pl

from headwater.flows.nyc import data
from headwater.flows.nyc.app import FREEZING
from headwater.flows.nyc.situations import HOLD, REBOOK, WATCH, Response, Situation

SPAN = (date(2013, 3, 1), date(2013, 12, 31))
LEAST = 10
"""Flights due in an hour; of fewer, one cancelled is more than a tenth."""
EACH = 100
"""Cases drawn of each response: as they come, 95 in 100 hours are for watching."""
_HOUR = 3_600_000_000


def hours() -> list[Situation]:
    """300 airport-hours, 100 of each response, drawn by a fixed seed."""
    by_response: dict[Response, list[Situation]] = {REBOOK: [], HOLD: [], WATCH: []}
    for row in _rows().iter_rows(named=True):
        by_response[_right(row)].append(_situation(row))
    draw = random.Random(2013)  # noqa: S311  the same draw every time is the point
    return [case for cases in by_response.values() for case in draw.sample(cases, min(EACH, len(cases)))]


def _rows() -> pl.DataFrame:
    """One row per airport-hour: flights due, cancelled, their mean delay in minutes, and the weather."""
    flown = data.flights().filter(pl.col("date").is_between(*SPAN)).group_by("origin", time=pl.col("due") // _HOUR * _HOUR).agg(
        due=pl.len(), cancelled=pl.col("dep_time").is_null().sum(), delay=pl.col("dep_delay").mean()
    )  # fmt: skip
    seen = data.weather().select("origin", "time", "visib", "precip", "temp").drop_nulls()
    kept = (pl.col("due") >= LEAST) & (pl.col("delay").is_not_null() | (pl.col("cancelled") == pl.col("due")))
    return flown.join(seen, on=["origin", "time"]).filter(kept).sort("time", "origin")


def _right(row: Mapping[str, float]) -> Response:
    if row["cancelled"] >= 0.2 * row["due"]:
        return REBOOK
    return HOLD if (row["delay"] or 0) >= 60 or row["visib"] <= 1 else WATCH


def _situation(row: Mapping[str, float]) -> Situation:
    were = "was" if row["cancelled"] == 1 else "were"
    text = f"At {row['origin']} {row['cancelled']} of the {row['due']} flights due within the hour {were} cancelled. "
    if row["delay"] is not None:
        text += f"Departures of the last hour left {max(0, row['delay']):.0f} minutes late on average. "
    wet = ("Snow" if row["temp"] <= FREEZING + 2 else "Rain") + ", visibility" if row["precip"] > 0 else "Visibility"
    text += f"{wet} {row['visib']:g} mile{'' if row['visib'] == 1 else 's'}, {row['temp']:.0f} °F."
    return Situation(f"{row['origin']}/{row['time']}", text, frozenset([_right(row)]), "numbers", held_out=True)
