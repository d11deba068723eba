"""The application of the walk and crash tests: gauges of a lake, two rules, two agents. After the one of DESIGN §5.

`warn` chooses with a random mark in its choice, so that deciding twice would show; it is sure of levels below 4 metres only.
"""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, Field

from headwater import (
    Activation,
    App,
    Context,
    Decision,
    Delete,
    Document,
    Files,
    Lookup,
    Publish,
    Rate,
    Threshold,
    Topic,
    agent,
    document,
)


class Reading(BaseModel):
    id: str
    gauge: str
    metres: float = Field(ge=0)
    state: Literal["ok", "broken", "removed"] = "ok"


class Alarm(BaseModel):
    response: Literal["warn residents", "send a crew"]
    gauge: str
    mark: str


class Note(BaseModel):
    text: str


readings = Topic("readings", Reading, key="gauge", partitions=3, enrich={"place": Lookup("gauges.csv", on="gauge")})
alarms = Topic("alarms", Alarm, key="gauge", partitions=2)
notes = Topic("notes", Note)
high_water = Threshold("high_water", of=readings, value=pl.col("metres"), per="gauge", opens_at=2, closes_at=1, update_step=0.5)
broken = Rate(
    "broken", of=readings, where=pl.col("state") == "broken", within="1m", opens_at=0.4, closes_at=0.2, at_least=3, update_step=0.2
)


@document(readings)
def level(reading: Reading, facts: Mapping[str, Any]) -> Document | Delete | None:
    """What the newest reading says; a broken gauge says nothing, one that is removed is gone."""
    if reading.state == "broken":
        return None
    if reading.state == "removed":
        return Delete(reading.gauge)
    text = f"The gauge {reading.gauge} at {facts['place']['place'] or 'nowhere'} stands at {reading.metres} metres, says {reading.id}."
    return Document(id=reading.gauge, text=text, fields={"gauge": reading.gauge, "metres": reading.metres})


@agent(wakes_on=[high_water], publishes=[alarms], act_above=0.7, timeout="60s")
async def warn(activation: Activation, context: Context) -> Decision[Alarm]:
    """Look, take a moment, and choose."""
    evidence = await context.retrieve(f"gauge {activation.key}", limit=3)
    await asyncio.sleep(0.01)
    response: Literal["warn residents", "send a crew"] = "warn residents" if activation.value >= 3 else "send a crew"
    choice = Alarm(response=response, gauge=activation.key, mark=uuid.uuid4().hex)
    confidence = 0.9 if activation.value < 4 else 0.4
    decision = Decision(choice, confidence=confidence, rationale="by the level", evidence=tuple(found.id for found in evidence))
    return decision.with_effects(Publish(alarms, choice))


@agent(wakes_on=[high_water, broken], publishes=[notes], phases=("opened", "updated", "closed"))
async def log(activation: Activation, context: Context) -> Decision[str]:
    """Write everything down but updates."""
    if activation.phase == "updated":
        return Decision(None)
    text = f"{activation.rule} {activation.phase} for {activation.key} {uuid.uuid4().hex}"
    return Decision(text).with_effects(Publish(notes, Note(text=text)), Publish(notes, Note(text=f"again: {text}")))


app = App("lake", documents=[level, Files("procedures/*.md")], triggers=[high_water, broken], agents=[warn, log])
