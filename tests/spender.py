"""An application whose agents spend, remember and suspend, and a life of it: spender.py HOME kill|stop."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from headwater import Activation, App, Budget, Context, Decision, Threshold, Topic, agent
from headwater.agents.activation import activation_event, activation_id
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.settings import Settings
from headwater.flows.sink import outgoing
from headwater.flows.up import Up
from headwater.lineage.topic import ACTIVATIONS

CORRELATION = "one-cascade"


class Reading(BaseModel):
    gauge: str
    metres: float


readings = Topic("readings", Reading)
high = Threshold("high", of=readings, value=pl.col("metres"), per="gauge", opens_at=2, closes_at=1)
granted = Threshold("granted", of=readings, value=pl.col("metres"), per="gauge", opens_at=8, closes_at=1)


@agent(wakes_on=[high], budget=Budget(tokens=100))
async def thrifty(activation: Activation, context: Context) -> Decision[str]:
    """Takes 60 of 100 tokens."""
    return Decision("asked", cost={"input_tokens": 60})


@agent(wakes_on=[high])
async def counting(activation: Activation, context: Context) -> Decision[str]:
    """Counts how often it was woken for its key."""
    times = int(context.recall("times", 0)) + 1
    context.remember("times", times)
    return Decision(f"woken {times} times")


@agent(wakes_on=[high], awaits=[granted])
async def clerk(activation: Activation, context: Context) -> Decision[str]:
    """Waits for a grant."""
    if context.resumes is None:
        context.suspend(granted, expires="1d")
        return Decision("asks")
    return Decision(f"goes on after {context.resumes.at}")


app = App("spender", triggers=[high, granted], agents=[thrifty, counting, clerk], activations=2)


def up(home: Path) -> Up:
    return Up(app, Settings(home=home, http_port=0), flows=("decide", "audit"), http=False, embedder=HashEmbedder())


def wake(running: Up, key: str, at: int, rule: str = "high", correlation: str = CORRELATION) -> str:
    """Fire a rule; the id of its activation."""
    id = activation_id(rule, key, at)
    fired = Activation(id=id, rule=rule, key=key, phase="opened", at=at, value=9.0, episode=id, correlation=correlation)
    running.run.writer.write([outgoing(ACTIVATIONS, activation_event(fired), key)])
    return id


def decided(running: Up, agent: str, activation: str, seconds: float = 60) -> dict[str, Any]:
    """Its decision, once it has landed."""
    query = "SELECT choice, outcome, error FROM decisions WHERE agent = ? AND activation = ?"
    return rows(running, query, [agent, activation], lambda found: len(found) == 1, seconds)[0]


def rows(running: Up, query: str, given: list[Any], enough: Callable[[list[Any]], bool], seconds: float = 60) -> list[dict[str, Any]]:
    """What a query gives once it is enough."""
    until = time.monotonic() + seconds
    while True:
        with running.run.store.cursor() as cursor:
            answer = cursor.execute(query, given)
            names = [column[0] for column in answer.description]
            found = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
        if enough(found):
            return found
        assert running.failure is None and time.monotonic() < until, f"never came true; last: {found}, {running.failure}"
        time.sleep(0.05)


def main(home: str, how: str) -> None:
    """Wakes the agents twice for one key; killed, or stopped in order, once that has landed."""
    with up(Path(home)) as running:
        for at in (1, 2):
            fired = wake(running, "north", at)
            for each in app.agents:
                decided(running, each.name, fired)
        wake(running, "south", 1)
        rows(running, "SELECT agent FROM decisions", [], lambda found: len(found) == 9)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
