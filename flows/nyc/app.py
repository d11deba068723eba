"""New York's three airports in 2013: flights and weather in; fresh context, accountable plans and all that follows from them out.

headwater demo                               replays 7-9 February 2013 through it
headwater up headwater.flows.nyc.app:app     waits for events

The levels of the rules come from `calibrate.py`: each is the lowest that stays silent on January's ordinary airport-days.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import BaseModel, Field

from headwater import (
    Activation,
    App,
    Context,
    Decision,
    Document,
    Files,
    Latest,
    Lookup,
    Option,
    Publish,
    Rate,
    Threshold,
    Topic,
    agent,
    document,
)
from headwater.flows.nyc import data, relief
from headwater.flows.nyc.data import Flight, Weather
from headwater.flows.nyc.relief import plans

FREEZING = 32.0
"""°F. Low visibility at or below it is snow or freezing rain; above it, New York's low visibility is fog, mostly at night."""
CLEAR = 10.0
"""Miles; the most that the instruments report."""

PROCEDURES = sorted(f"procedures/{path.name}" for path in (Path(__file__).parent / "procedures").glob("*.md"))
"""The documents to look for rules in; left to compete with thousands of flights and hours of weather, they would rarely be found."""


class Plan(BaseModel):
    """What an airport does about a disruption. Each response is described by the cases it is for, in the words of the procedures."""

    response: (
        Annotated[
            Literal["hold departures at the gate"],
            Field(
                description="Fewer than a fifth of the flights are cancelled, but those that go must wait: low visibility, "
                "a storm over the field, a ground stop, a closed runway, de-icing, long delays."
            ),
        ]
        | Annotated[
            Literal["rebook passengers"],
            Field(description="A fifth or more of the flights due within the hour are cancelled; no seats are left on later flights."),
        ]
        | Annotated[
            Literal["keep watching"],
            Field(
                description="Otherwise: fewer than a fifth of the flights are cancelled, departures are less than an hour late on average, "
                "visibility is above one mile; ordinary operation, the cause has passed, delays are falling, a single diverted flight."
            ),
        ]
    ) = Field(description="Which response do the procedures call for?")


weather = Topic("weather", Weather, key="origin", enrich={"airport": Lookup(data.csv("airports"), on="origin", key="faa")})
flights = Topic(
    "flights",
    Flight,
    key="id",
    partitions=4,
    enrich={
        "airline": Lookup(data.csv("airlines"), on="carrier"),
        "plane": Lookup(data.csv("planes"), on="tailnum"),
        "from": Lookup(data.csv("airports"), on="origin", key="faa"),
        "to": Lookup(data.csv("airports"), on="destination", key="faa"),
        "weather": Latest(weather, on="origin"),
    },
)

cancellations = Rate(
    "cancellations", of=flights, where=pl.col("status") == "cancelled", per="origin", within="1h",
    opens_at=0.21, closes_at=0.0, at_least=10, update_step=0.4,
)  # fmt: skip
delays = Threshold(
    "delays", of=flights, value=pl.col("delay"), where=pl.col("status") == "departed", per="origin", within="1h",
    opens_at=63, closes_at=15, at_least=20, stat="mean", update_step=60,
)  # fmt: skip
visibility = Threshold(
    "visibility", of=weather, value=pl.when(pl.col("temperature") <= FREEZING).then(pl.col("visibility")).otherwise(CLEAR), per="origin",
    opens_at=5.0, closes_at=6.0, below=True, update_step=1.0,
)  # fmt: skip


@document(flights, version="sequence")
def flight_status(flight: Flight, facts: Mapping[str, Any]) -> Document:
    """One flight as it stands, with what was known of the weather at that moment."""
    airline, plane, start, end = (facts[name] for name in ("airline", "plane", "from", "to"))
    aircraft = f" with {_article(plane['manufacturer'])} {plane['manufacturer']} {plane['model']}" if plane["model"] else ""
    text = (
        f"{airline['name'] or flight.carrier} flight {flight.carrier} {flight.flight} from {start['name'] or 'unknown'} ({flight.origin}) "
        f"to {end['name'] or 'unknown'} ({flight.destination}), scheduled for {flight.scheduled}, {_status(flight)}{aircraft}."
    )
    seen = facts["weather"]
    if seen["visibility"] is not None:
        text += f" Weather at {flight.origin}: {_sky(seen)}."
    fields = {"origin": flight.origin, "destination": flight.destination, "carrier": flight.carrier, "status": flight.status}
    return Document(id=flight.id, text=text, fields=fields)


@document(weather)
def airport_hour(hour: Weather, facts: Mapping[str, Any]) -> Document:
    """The weather of one hour at one airport."""
    seen = {name: getattr(hour, name) for name in Weather.__struct_fields__}
    text = f"Weather at {facts['airport']['name'] or hour.origin} ({hour.origin}) on {hour.hour}: {_sky(seen)}."
    return Document(id=hour.id, text=text, fields={"origin": hour.origin, "visibility": hour.visibility, "status": "weather"})


@agent(wakes_on=[cancellations, delays, visibility], publishes=[plans])
async def by_the_book(activation: Activation, context: Context) -> Decision[Plan]:
    """The fallback: the procedures' own numbers, without a model. It acts for the two cases they leave no choice in, else it watches."""
    response = _by_the_book(activation)
    context.note(f"by the numbers of the procedures: {situation(activation)}")
    chosen = Plan.model_validate({"response": response})
    decision = Decision(chosen, options=(Option(response, 1.0),), rationale="The level alone decides, by the procedures' numbers.")
    return decision.with_effects(_published(activation, chosen))


@agent(wakes_on=[cancellations, delays, visibility], publishes=[plans], act_above=0.8, timeout="10s", fallback=by_the_book)
async def recover(activation: Activation, context: Context) -> Decision[Plan]:
    """Choose what the airport does, by what the procedures say and what its flights and weather show."""
    decision = await plan(context, activation.key, situation(activation))
    return decision.with_effects(_published(activation, decision.choice))


async def plan(context: Context, airport: str, case: str) -> Decision[Plan]:
    """The response to a case at an airport: look into the procedures and at the airport's own flights and weather, then choose."""
    asked = f"procedure: when to hold departures at the gate, rebook passengers or keep watching; what to do when {case}"
    procedures = await context.retrieve(asked, limit=8, where={"path": PROCEDURES})
    seen = await context.retrieve(case, limit=3, where={"origin": airport})
    return await context.choose(Plan, [*procedures, *seen], situation=case)


app = App(
    "nyc",
    documents=[flight_status, airport_hour, Files("procedures/*.md", since="2013-01-01T00:00:00Z")],
    triggers=[cancellations, delays, visibility, *relief.RULES],
    agents=[recover, *relief.AGENTS],
)


def _published(activation: Activation, plan: Plan | None) -> Publish:
    """The plan as an event that others may wake on."""
    assert plan is not None
    return Publish(plans, relief.AirportPlan(id=relief.disruption(activation), response=plan.response))


def situation(activation: Activation) -> str:
    """What woke the agent, in the words of the procedures."""
    airport, level = activation.key, activation.value
    if activation.rule == cancellations.name:
        return f"At {airport} {activation.count} of the {activation.total} flights due within the hour were cancelled, {_share(level)}."
    if activation.rule == delays.name:
        late = "an hour or more" if level >= 60 else "less than an hour"
        return f"At {airport} departures of the last hour left {level:.0f} minutes late on average, {late}."
    low = "a mile or less" if level <= 1 else "more than a mile"
    return f"At {airport} visibility has fallen to {_miles(level)} in freezing weather, {low}."


def _by_the_book(activation: Activation) -> str:
    if activation.rule == cancellations.name and activation.value >= 0.2:
        return "rebook passengers"
    if (activation.rule == delays.name and activation.value >= 60) or (activation.rule == visibility.name and activation.value <= 1):
        return "hold departures at the gate"
    return "keep watching"


def _share(share: float) -> str:
    levels = ((1.0, "all of them"), (0.5, "half or more"), (0.2, "a fifth or more"), (0.1, "a tenth or more"))
    return next((words for least, words in levels if share >= least), "fewer than a tenth")


def _status(flight: Flight) -> str:
    if flight.status == "due":
        return "is due to depart"
    if flight.status == "cancelled":
        return "is cancelled"
    minutes = flight.delay or 0
    return "departed on time" if minutes == 0 else f"departed {abs(minutes)} minutes {'late' if minutes > 0 else 'early'}"


def _sky(seen: Mapping[str, Any]) -> str:
    """`snow, visibility 1.5 miles, 32 °F, wind 20 mph gusting to 29 mph`; what was not measured is left out."""
    parts = [_kind(seen), f"visibility {_miles(seen['visibility'])}"]
    if seen["temperature"] is not None:
        parts.append(f"{seen['temperature']:.0f} °F")
    if seen["wind"] is not None:
        parts.append(f"wind {seen['wind']:.0f} mph" + (f" gusting to {seen['gust']:.0f} mph" if seen["gust"] else ""))
    return ", ".join(part for part in parts if part)


def _kind(seen: Mapping[str, Any]) -> str:
    cold = seen["temperature"] is not None and seen["temperature"] <= FREEZING + 2
    if seen["precipitation"] > 0:
        return "snow" if cold else "rain"
    if seen["visibility"] <= 1:
        return "blowing snow" if cold else "fog"
    return "storm" if (seen["gust"] or 0) >= 40 else ""


def _miles(distance: float) -> str:
    return f"{distance:g} mile" if distance == 1 else f"{distance:g} miles"


def _article(word: str | None) -> str:
    return "an" if (word or "x")[0].upper() in "AEIOU" else "a"
