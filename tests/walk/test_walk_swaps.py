"""Swapping: each part is exchanged in one line of the application or one setting, nothing else is touched, and the same is decided.

The vector engine in the other run is Qdrant's client: on the server that HEADWATER_TEST_QDRANT names, else in the client's own memory.
"""

import json
import os
import time

import pytest
from qdrant_client import QdrantClient

import headwater.enrichers.qdrant as qdrant
from headwater.flows.app import load
from headwater.flows.broker import Broker
from headwater.flows.drain import drain
from headwater.flows.settings import Settings
from headwater.flows.up import Up
from headwater.lineage.client import connect
from headwater.lineage.event import Event

APPLICATION = '''
from pathlib import Path

import polars as pl
from pydantic import BaseModel

from headwater import App, Call, Decision, Document, Publish, Threshold, Topic, agent, document, tool
from headwater.enrichers.testing import HashEmbedder


class Reading(BaseModel):
    id: str
    gauge: str
    metres: float


class Alarm(BaseModel):
    gauge: str
    response: str


readings = Topic("readings", Reading, key="gauge", partitions=2)
alarms = Topic("alarms", Alarm, key="gauge")
sirens = Topic("sirens", Alarm, key="gauge")
high_water = Threshold("high_water", of=readings, value=pl.col("metres"), per="gauge", opens_at=2, closes_at=1, update_step=0.5)


@document(readings)
def level(reading, facts):
    text = f"The gauge {reading.gauge} stands at {reading.metres} metres."
    return Document(id=reading.gauge, text=text, fields={"gauge": reading.gauge})


@tool(kind="plain")
async def ring(gauge: str, response: str) -> str:
    """A siren that is no topic: it writes down what it is rung for."""
    with Path(__file__).with_name("rung.txt").open("a") as rung:
        rung.write(f"{gauge} {response}\\n")
    return "rung"


def response_to(metres):
    return "warn residents" if metres >= 3 else "send a crew"


@agent(wakes_on=[high_water], publishes=[alarms, sirens], tools=[ring], timeout="120s")
async def by_what_it_sees(activation, context):
    """Reads the level off the document it finds."""
    [found, *_] = await context.retrieve(f"gauge {activation.key}", limit=1, where={"gauge": activation.key})
    return acted(activation, response_to(float(found.text.split()[-2])), evidence=(found.id,))


@agent(wakes_on=[high_water], publishes=[alarms, sirens], tools=[ring])
async def by_the_level(activation, context):
    """Takes the level that woke it."""
    return acted(activation, response_to(activation.value))


def acted(activation, response, **more):
    return Decision(response, **more).with_effects(effect(Alarm(gauge=activation.key, response=response)))


def published(alarm):
    return Publish(channel, alarm)


def called(alarm):
    return Call(ring, alarm.model_dump())


channel = alarms
effect = published
chosen = by_what_it_sees
embedder = HashEmbedder(64)
app = App("lake", documents=[level], triggers=[high_water], agents=[chosen], embedder=embedder)
'''
SWAPS = {
    "nothing": ("", ""),
    "embedding model": ("embedder = HashEmbedder(64)", "embedder = HashEmbedder(256)"),
    "agent": ("chosen = by_what_it_sees", "chosen = by_the_level"),
    "effect channel": ("channel = alarms", "channel = sirens"),
    "call": ("effect = published", "effect = called"),
}
NOON = 1_772_366_400_000_000
LEVELS = [("pier", 0.5), ("pier", 2.2), ("weir", 3.4), ("pier", 3.1), ("lock", 1.9), ("lock", 2.4), ("weir", 0.8), ("mill", 2.0)]


def decided(home, source, swap, **settings):
    """What was decided, by the event that tipped it over, what went out where, and what was rung, of one run of the application."""
    before, after = SWAPS[swap]
    lines = source.splitlines()
    assert not before or lines.count(before) == 1
    (home / "app.py").write_text("\n".join(after if line == before else line for line in lines) if before else source)
    with Up(load(str(home / "app.py")), Settings(home=home / "home", http_port=0, **settings)) as up:
        topic = up.app.topics["readings"]
        for n, (gauge, metres) in enumerate(LEVELS):  # one after another: what an agent sees is what woke it
            data = json.dumps({"id": f"r{n}", "gauge": gauge, "metres": metres}).encode()
            up.gateway.publish(topic, [Event(id=f"e{n}", source="test", type="reading", time=NOON + n * 1_000_000, data=data)], "test")
        with connect(up.address) as lineage:
            query = "select a.id, d.\"key\", d.choice, d.outcome from decisions d join activations a on a.id = d.activation order by all"
            until = time.monotonic() + 180
            while len(rows := lineage.sql(query).rows()) < 5 and time.monotonic() < until:
                time.sleep(0.05)
        out = {
            name: sorted((json.loads(m.value)["gauge"], json.loads(m.value)["response"]) for m in drain(up.run.kafka, name, 0, 0))
            for name in ("alarms", "sirens")
        }
        rung = home / "rung.txt"
        until = time.monotonic() + 180
        while swap == "call" and time.monotonic() < until and (not rung.exists() or rung.read_text().count("\n") < 5):
            time.sleep(0.05)
        out["rung"] = sorted(tuple(line.split(" ", 1)) for line in rung.read_text().splitlines()) if rung.exists() else []
    return rows, out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return decided(tmp_path_factory.mktemp("as-it-is"), APPLICATION, "nothing")


def test_the_application_decides(undisturbed):
    """Every crossing of a level is decided on by what the agent found, and goes out on the channel."""
    rows, out = undisturbed
    crew, warn = "send a crew", "warn residents"
    expected = [("lock", crew), ("mill", crew), ("pier", crew), ("pier", warn), ("weir", warn)]
    assert sorted((key, choice) for _, key, choice, outcome in rows if outcome == "acted") == expected == out["alarms"]
    assert out["sirens"] == out["rung"] == []


@pytest.mark.parametrize("swap", ["embedding model", "agent"])
def test_one_line_of_the_application_exchanges_it(swap, undisturbed, tmp_path):
    """Another model, another agent: the same decisions for the same activations, the same effects."""
    assert decided(tmp_path, APPLICATION, swap) == undisturbed


def test_one_line_exchanges_the_channel(undisturbed, tmp_path):
    """The same decisions; what went out on one topic goes out on the other."""
    rows, out = decided(tmp_path, APPLICATION, "effect channel")
    assert rows == undisturbed[0]
    assert out == {"alarms": [], "sirens": undisturbed[1]["alarms"], "rung": []}


def test_one_line_calls_a_tool_instead_of_publishing(undisturbed, tmp_path):
    """The same decisions; what went out as events is told to a tool outside, each once."""
    rows, out = decided(tmp_path, APPLICATION, "call")
    assert rows == undisturbed[0]
    assert out == {"alarms": [], "sirens": [], "rung": undisturbed[1]["alarms"]}


def test_one_setting_exchanges_the_broker(undisturbed, tmp_path):
    """A broker elsewhere instead of the embedded one."""
    with Broker(tmp_path / "broker.log") as broker:
        assert decided(tmp_path, APPLICATION, "nothing", kafka={"bootstrap.servers": broker.address}) == undisturbed


def test_one_setting_exchanges_the_vector_engine(undisturbed, tmp_path, monkeypatch):
    """Qdrant's client instead of the embedded engine."""
    server = os.environ.get("HEADWATER_TEST_QDRANT")
    if not server:
        client = QdrantClient(":memory:")
        monkeypatch.setattr(client, "close", lambda *args, **more: None)
        monkeypatch.setattr(qdrant, "client", lambda *args, **more: client)
    assert decided(tmp_path, APPLICATION, "nothing", qdrant_url=server or "http://127.0.0.1:6333") == undisturbed
