"""How agents stand, for people."""

import asyncio
from types import SimpleNamespace

from fastapi import FastAPI
from fastapi.testclient import TestClient

from headwater import App, Breaker, Budget, Threshold, Topic
from headwater.agents.agent import Agent, Decision
from headwater.agents.context import Ports
from headwater.agents.decide import decide
from headwater.agents.testing import MemorySearch, ScriptedModel, activation, scripted
from headwater.flows.agent_routes import routes
from headwater.lineage.duration import parse_time

NOW = parse_time("2030-01-01T12:00:00Z")


def test_the_agents_tell_how_they_stand():
    """`GET /v1/agents` names every agent and fallback, with circuit, turns and the day's budget where it declares them."""
    import polars as pl
    from pydantic import BaseModel

    class Reading(BaseModel):
        gauge: str
        metres: float

    rule = Threshold("high", of=Topic("readings", Reading), value=pl.col("metres"), per="gauge", opens_at=2, closes_at=1)
    paid = Decision("x", cost={"input_tokens": 40})
    rules = Agent("rules", scripted(paid), (), budget=Budget(tokens=1000))
    dear = Agent("dear", scripted(ValueError("down")), (rule,), attempts=1, fallback=rules, breaker=Breaker(failures=1), rate="9/1h")
    ports = Ports(MemorySearch(), ScriptedModel("x"), lambda: NOW, "B")
    asyncio.run(decide(dear, activation(rule="high"), ports, position="B/headwater.activations/0/0"))
    app = FastAPI()
    run = SimpleNamespace(app=App("lake", triggers=[rule], agents=[dear]), ports=ports, deciders={}, clock=lambda: NOW)
    app.include_router(routes(lambda: run))
    assert TestClient(app).get("/v1/agents").json() == [
        {
            "agent": "dear", "version": "1", "in_flight": 0, "deciding": 0, "queued": 0, "fallback": "rules",
            "circuit": "open", "open_until": "2030-01-01T12:00:30Z", "rate": "9/1h", "waiting_turns": 0,
        },
        {"agent": "rules", "version": "1", "budget": {"tokens": {"spent": 40.0, "limit": 1000.0}}},
    ]  # fmt: skip
