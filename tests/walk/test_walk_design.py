"""The application file by which the design measures our API, run as it is printed there."""

import json
import os
import random

import httpx
import pytest

from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import load
from headwater.flows.drain import drain
from headwater.flows.settings import Settings
from headwater.flows.up import Up
from headwater.lineage.client import connect
from headwater.lineage.duration import parse_time
from headwater.lineage.event import Event, to_structured

AIRPORT = '''
"""Flights in; fresh context, a watched rule and accountable plans out.   headwater up airport.py"""
from collections.abc import Mapping
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel
from headwater import Activation, App, Context, Decision, Document, Files, Lookup, Publish, Rate, Topic, agent, document


class Flight(BaseModel):
    id: str
    carrier: str
    origin: str
    status: Literal["due", "departed", "cancelled"]


class Plan(BaseModel):
    response: Literal["hold departures at the gate", "rebook passengers", "keep watching"]


flights = Topic("flights", Flight, key="id", partitions=4, enrich={"airline": Lookup("airlines.csv", on="carrier")})
plans = Topic("plans", Plan)
cancellations = Rate("cancellations", of=flights, where=pl.col("status") == "cancelled", per="origin",
                     within="1h", opens_at=0.21, closes_at=0.10, at_least=10)


@document(flights)
def flight_status(flight: Flight, facts: Mapping[str, Any]) -> Document:
    text = f"{facts['airline']['name']} flight {flight.id} from {flight.origin} is {flight.status}."
    return Document(id=flight.id, text=text, fields={"origin": flight.origin})


@agent(wakes_on=[cancellations], publishes=[plans], act_above=0.7, timeout="60s")
async def recover(activation: Activation, context: Context) -> Decision[Plan]:
    evidence = await context.retrieve(f"cancelled flights at {activation.key} and what the procedure says", limit=8)
    decision = await context.choose(Plan, evidence)
    return decision.with_effects(Publish(plans, key=activation.key, data=decision.choice))


app = App("airport", documents=[flight_status, Files("procedures/*.md")], triggers=[cancellations], agents=[recover])
'''


def flights() -> list[Event]:
    """Forty flights at Newark within half an hour, half of them cancelled; the wall clock closes the window."""
    chance = random.Random(5)
    start = parse_time("2026-02-08T11:00:00Z")
    found = []
    for n in range(40):
        data = {"id": f"EWR-UA-{n}", "carrier": "UA", "origin": "EWR", "status": chance.choice(["cancelled", "departed"])}
        found.append(Event(id=f"f{n}", source="/ops", type="flight", time=start + n * 45_000_000, data=json.dumps(data).encode()))
    return found


@pytest.fixture
def airport(tmp_path):
    (tmp_path / "airport.py").write_text(AIRPORT)
    (tmp_path / "airlines.csv").write_text("carrier,name\nUA,United Air Lines\n")
    (tmp_path / "procedures").mkdir()
    procedure = tmp_path / "procedures" / "rebooking.md"
    procedure.write_text("# Cancelled flights\n\nWhat the procedure says at cancelled flights: rebook passengers.\n")
    os.utime(procedure, (1_700_000_000, 1_700_000_000))  # searches see what was known at the activation's event time
    return tmp_path


def test_the_designs_application_runs_as_printed(airport, eventually):
    """Events in; `recover` decides on what it retrieved; acted on, its plan is published once, and unsure, a person is asked."""
    with Up(load(str(airport / "airport.py")), Settings(home=airport / "home", http_port=0), embedder=HashEmbedder()) as up:
        batch = b"[" + b",".join(to_structured(event) for event in flights()) + b"]"
        answer = httpx.post(
            f"{up.address}/v1/events/flights", content=batch, headers={"content-type": "application/cloudevents-batch+json"}, timeout=60
        )
        assert answer.status_code == 202, answer.text
        tokens = [each["token"] for each in answer.json()["events"]]
        hits = httpx.get(
            f"{up.address}/v1/search",
            params={"q": "United flight", "limit": 1, "type": "flight_status", "after": tokens, "wait": "60s"},
            timeout=90,
        ).json()["results"]
        assert hits[0]["text"].startswith("United Air Lines flight EWR-UA-")
        with connect(up.address) as lineage:
            woken = "select count(*) from activations where phase <> 'closed'"
            closed = "exists (from activations where phase = 'closed')"
            all_told = f"from decisions where {closed} and (select count(*) from decisions) = ({woken}) order by time"
            decided = eventually(lambda: lineage.sql(all_told).to_dicts(), 90)
            assert decided[0]["agent"] == "recover" and decided[0]["rule"] == "cancellations" and decided[0]["key"] == "EWR"
            seen = lineage.sql(f"select document from evidence where decision = '{decided[0]['id']}'")["document"].to_list()
            assert "files/procedures/rebooking.md" in seen
            options = lineage.sql(f"select \"option\" from options where decision = '{decided[0]['id']}'")["option"].to_list()
            assert {"hold departures at the gate", "rebook passengers", "keep watching"} <= set(options)
            plans = drain(up.run.kafka, "plans", 0, 0)
            reviews = drain(up.run.kafka, "headwater.reviews", 0, 0)
            acted = [row for row in decided if row["outcome"] == "acted"]
            waiting = [row for row in decided if row["outcome"] == "waiting"]
            assert len(acted) + len(waiting) == len(decided)
            assert {dict(m.headers)["ce_causationid"].decode() for m in plans} == {row["id"] for row in acted}
            assert {json.loads(m.value or b"")["decision"] for m in reviews} == {row["id"] for row in waiting}
