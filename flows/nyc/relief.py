"""What follows a disruption: crews and seats, then a word to the passengers. Agents that know of topics, not of each other.

    plans ──┬─ disrupted ─▶ crew ────────▶ crews ────── crewed ───┬─▶ inform ─▶ notices
            └─ called_off ─▶ rebooking ──▶ rebookings ─ rebooked ─┘

Each rule looks at one event alone, so it waits for no watermark; its key names the disruption, so that one disruption is told of once
however often its plan is renewed.
"""

from collections.abc import Sequence
from typing import Literal

import polars as pl
from pydantic import BaseModel

from headwater import Activation, Context, Decision, Option, Publish, Threshold, Topic, agent

DISRUPTIONS = "6h"
"""How much event time deciding may take in a replay: the plans of different airports need not come in the order of their times."""

HOLD, REBOOK, WATCH = "hold departures at the gate", "rebook passengers", "keep watching"
KEEP, RESERVE = "keep crews on duty at the gate", "call the reserve crews"
_ORDINALS = {WATCH: 0, HOLD: 1, REBOOK: 2}


class AirportPlan(BaseModel):
    """What an airport does about a disruption; `id` names the disruption, `AIRPORT-EPISODE`."""

    id: str
    response: Literal["hold departures at the gate", "rebook passengers", "keep watching"]


class CrewOrder(BaseModel):
    id: str
    order: Literal["keep crews on duty at the gate", "call the reserve crews"]


class Rebooking(BaseModel):
    """Which flights' passengers get other seats first: those cancelled that the index showed."""

    id: str
    flights: list[str]


class Notice(BaseModel):
    id: str
    text: str


plans = Topic("plans", AirportPlan, key="id", lateness=DISRUPTIONS)
crews = Topic("crews", CrewOrder, key="id", lateness=DISRUPTIONS)
rebookings = Topic("rebookings", Rebooking, key="id", lateness=DISRUPTIONS)
notices = Topic("notices", Notice)

grade = pl.col("response").replace_strict(_ORDINALS, return_dtype=pl.Float64)
disrupted = Threshold("disrupted", of=plans, value=grade, per="id", opens_at=1, closes_at=0, update_step=1)
called_off = Threshold("called_off", of=plans, value=grade, per="id", opens_at=2, closes_at=1)
reserve = pl.when(pl.col("order") == RESERVE).then(2.0).otherwise(1.0)
crewed = Threshold("crewed", of=crews, value=reserve, per="id", opens_at=1, closes_at=0, update_step=1)
rebooked = Threshold("rebooked", of=rebookings, value=pl.col("flights").list.len(), per="id", opens_at=1, closes_at=0)


def disruption(activation: Activation) -> str:
    """The name of the disruption that an activation at an airport belongs to."""
    return f"{activation.key}-{activation.episode[:8]}"


def airport_of(disruption: str) -> str:
    return disruption.partition("-")[0]


@agent(wakes_on=[disrupted], publishes=[crews])
async def crew(activation: Activation, context: Context) -> Decision[str]:
    """Crews wait with their aircraft while departures are held; where flights are called off, those in reserve fly what still goes."""
    order = RESERVE if activation.value >= _ORDINALS[REBOOK] else KEEP
    asked = f"crew duty limits when departures are held or cancelled: {order}"
    found = await context.retrieve(asked, limit=2, where={"path": "procedures/crew-legality.md"})
    return _sure(order, [each.id for each in found], Publish(crews, CrewOrder.model_validate({"id": activation.key, "order": order})))


@agent(wakes_on=[called_off], publishes=[rebookings])
async def rebooking(activation: Activation, context: Context) -> Decision[str]:
    """Other seats for the passengers of flights that were cancelled, as the index shows them at this moment."""
    airport = airport_of(activation.key)
    found = await context.retrieve(f"cancelled flights from {airport}", limit=8, where={"origin": airport, "status": "cancelled"})
    flights = sorted({each.document.partition("/")[2] for each in found})
    if not flights:
        return Decision(None, rationale="No flight is seen as cancelled.")
    choice = f"other seats for {len(flights)} flights first"
    return _sure(choice, [each.id for each in found], Publish(rebookings, Rebooking(id=activation.key, flights=flights)))


@agent(wakes_on=[crewed, rebooked], publishes=[notices])
async def inform(activation: Activation, context: Context) -> Decision[str]:
    """Where the branches meet: one voice to the passengers, whatever it is that has been done."""
    airport = airport_of(activation.key)
    if activation.rule == rebooked.name:
        text = f"{airport}: passengers of cancelled flights are being given other seats, {activation.value:.0f} flights first."
    elif activation.value >= 2:
        text = f"{airport}: reserve crews are on their way; flights that still go will be called."
    else:
        text = f"{airport}: your crew waits with you at the gate; please stay near it."
    return _sure(text, [], Publish(notices, Notice(id=activation.id, text=text), key=airport))


def _sure(choice: str, evidence: Sequence[str], effect: Publish) -> Decision[str]:
    return Decision(choice, options=(Option(choice, 1.0),), evidence=tuple(evidence), effects=(effect,))


RULES = (disrupted, called_off, crewed, rebooked)
AGENTS = (crew, rebooking, inform)
