"""The application of the back-pressure tests: many readings, an index, a rule that fires for one in twenty, an agent that asks a model."""

from collections.abc import Mapping
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel

from headwater import Activation, App, Context, Decision, Document, Publish, Threshold, Topic, agent, document


class Reading(BaseModel):
    id: str
    gauge: str
    metres: float


class Alarm(BaseModel):
    gauge: str


readings = Topic("readings", Reading, key="gauge", partitions=2)
alarms = Topic("alarms", Alarm, key="gauge")
high_water = Threshold("high_water", of=readings, value=pl.col("metres"), per="gauge", opens_at=2, closes_at=1)


@document(readings)
def level(reading: Reading, facts: Mapping[str, Any]) -> Document:
    """The newest reading of each gauge."""
    return Document(id=reading.gauge, text=f"gauge {reading.gauge} stands at {reading.metres} metres, says {reading.id}")


@agent(wakes_on=[high_water], publishes=[alarms], phases=("opened", "closed"), act_above=0.5, timeout="120s")
async def warn(activation: Activation, context: Context) -> Decision[Any]:
    """Whatever the model says."""
    answer = await context.choose(Literal["send a crew"], evidence=[])  # type: ignore[arg-type]
    return Decision(Alarm(gauge=activation.key), confidence=answer.confidence).with_effects(Publish(alarms, Alarm(gauge=activation.key)))


app = App("busy", documents=[level], triggers=[high_water], agents=[warn])
