"""A lake watched by gauges: readings in; fresh context, a watched rule and accountable alarms out.   headwater up"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import BaseModel, Field

from headwater import Activation, App, Context, Decision, Document, Files, Publish, Threshold, Topic, agent, document


class Reading(BaseModel):
    id: str
    gauge: str
    metres: float


class Alarm(BaseModel):
    response: (
        Annotated[Literal["warn residents"], Field(description="The water stands two metres high or more; cellars will flood.")]
        | Annotated[Literal["send a crew"], Field(description="The water is higher than usual; somebody should look at the gauge.")]
    )


readings = Topic("readings", Reading, key="gauge")
alarms = Topic("alarms", Alarm)
high_water = Threshold("high_water", of=readings, value=pl.col("metres"), per="gauge", opens_at=1.5, closes_at=1.0)


@document(readings)
def level(reading: Reading, facts: Mapping[str, Any]) -> Document:
    """What the newest reading says about its gauge."""
    text = f"The gauge at {reading.gauge} stands at {reading.metres} metres."
    return Document(id=reading.gauge, text=text, fields={"gauge": reading.gauge})


@agent(wakes_on=[high_water], publishes=[alarms], act_above=0.6, timeout="10s")
async def watch(activation: Activation, context: Context) -> Decision[Alarm]:
    """Look at what the gauge and the procedures say, and choose."""
    level = "two metres high or more" if activation.value >= 2 else "higher than usual"
    case = f"The water at {activation.key} stands {activation.value:.1f} metres high, {level}."
    evidence = await context.retrieve(case, limit=5)
    decision = await context.choose(Alarm, evidence, situation=case)
    return decision.with_effects(Publish(alarms, key=activation.key, data=decision.choice))


app = App("lake", documents=[level, Files("procedures/*.md")], triggers=[high_water], agents=[watch])
