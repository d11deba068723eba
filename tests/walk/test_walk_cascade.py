"""Cascades: agents that wake each other by what they publish. A game of two that never ends by itself, and a branch that does."""

import json

import httpx
import polars as pl
import pytest
from pydantic import BaseModel

from headwater import Activation, App, Context, Decision, Publish, Threshold, Topic, agent
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.drain import drain
from headwater.flows.settings import Settings
from headwater.flows.testing import walk
from headwater.flows.up import Up
from headwater.lineage.client import connect
from headwater.lineage.event import Event
from headwater.lineage.store import Store
from headwater.lineage.verify import verify


class Ball(BaseModel):
    id: str
    loud: bool = False


class Shout(BaseModel):
    id: str


pings = Topic("pings", Ball, key="id", partitions=2)
pongs = Topic("pongs", Ball, key="id")
shouts = Topic("shouts", Shout, key="id")
pinged = Threshold("pinged", of=pings, value=pl.lit(1), per="id", opens_at=1, closes_at=0)
ponged = Threshold("ponged", of=pongs, value=pl.lit(1), per="id", opens_at=1, closes_at=0)
loud = Threshold("loud", of=pings, value=pl.col("loud").cast(pl.Int8), per="id", opens_at=1, closes_at=0)


def hit(topic, activation):
    """The ball goes to the other side under a new name, so that it is another key there."""
    ball = Ball(id=f"{activation.key}'")
    return Decision("hit").with_effects(Publish(topic, ball))


@agent(wakes_on=[pinged], publishes=[pongs])
async def ping(activation: Activation, context: Context) -> Decision[str]:
    return hit(pongs, activation)


@agent(wakes_on=[ponged], publishes=[pings])
async def pong(activation: Activation, context: Context) -> Decision[str]:
    return hit(pings, activation)


@agent(wakes_on=[loud], publishes=[shouts])
async def cry(activation: Activation, context: Context) -> Decision[str]:
    return Decision("cry").with_effects(Publish(shouts, Shout(id=activation.key)))


app = App("game", triggers=[pinged, ponged, loud], agents=[ping, pong, cry])
CHAIN = "ping → pong → ping → pong"


def test_a_walk_follows_the_cascade_to_its_bound():
    """In memory: two agents that wake each other decide sixteen times for one ball, then a dead letter names the chain."""
    result = walk(app, [(pings, Ball(id="b", loud=True))])
    by = [decided.agent for decided in result.decisions]
    assert by.count("ping") == by.count("pong") == 8 and by.count("cry") == 1
    assert len(result.effects) == 17
    [(id, error)] = result.failed
    assert error.cause == "too_many_hops" and CHAIN in str(error)
    game = sorted((each for each in result.activations if each.rule != "loud"), key=lambda each: len(each.via))
    assert [len(each.via) for each in game] == list(range(17)) and id == game[-1].id
    assert {each.correlationid for each in game} == {game[0].episode}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The game through the flows, with a bound of six: three balls, one of them loud."""
    home = tmp_path_factory.mktemp("game")
    with Up(app, Settings(home=home, http_port=0, agents_hops=6), embedder=HashEmbedder()) as up:
        balls = [pings.encode(Ball(id=name, loud=name == "a")) for name in "abc"]
        now = up.run.clock()
        events = [Event(id=f"e{n}", source="test", type="ball", time=now, data=ball) for n, ball in enumerate(balls)]
        up.gateway.publish(pings, events, "test")
        with connect(up.address) as lineage:
            yield up, lineage
    with Store(home / "lineage.duckdb", clock=lambda: 0) as store:
        verdict = verify(store, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        assert verdict.totals["decide/ping"]["acted"] == verdict.totals["decide/pong"]["acted"] == 9


def test_a_loop_is_bounded_through_the_flows(played, eventually):
    """Each ball is hit six times, then one dead letter for each names cause and chain; verified at the end, nothing is lost."""
    _up, lineage = played
    letters = "from dead_letters order by id"
    dead = eventually(lambda: rows if (rows := lineage.sql(letters).to_dicts()) and len(rows) == 3 else None, 90)
    assert {row["cause"] for row in dead} == {"too_many_hops"} and all(CHAIN in row["error"] for row in dead)
    decided = lineage.sql("select agent, outcome, count(*) as many from decisions group by all order by agent").rows()
    assert decided == [("cry", "acted", 1), ("ping", "acted", 9), ("pong", "acted", 9)]


def depth(links):
    return 1 + max((depth(link["links"]) for link in links), default=0) if links else 0


def test_why_walks_the_whole_chain(played, eventually):
    """From the first decision all that followed, from the last all that led there, each decision once; branches lie side by side."""
    up, lineage = played
    eventually(lambda: lineage.sql("from dead_letters").height == 3, 90)
    rows = lineage.sql("select id, agent, \"key\" from decisions where starts_with(\"key\", 'a') order by length(\"key\"), agent").rows()
    hits = [id for id, agent, _ in rows if agent != "cry"]
    first, last = (httpx.get(f"{up.address}/v1/why/{id}", timeout=60).json()["decisions"][0] for id in (hits[0], hits[-1]))
    assert (depth(first.get("before", [])), depth(first["after"])) == (0, 5)
    assert (depth(last["before"]), depth(last.get("after", []))) == (5, 0)
    link, chain = last["before"][0], []
    while True:
        chain.append(link["id"])
        if not link["links"]:
            break
        [link] = link["links"]
    assert chain == hits[-2::-1]
    page = httpx.get(f"{up.address}/v1/why/{hits[0]}", headers={"accept": "text/html"}, params={"format": "html"}, timeout=60).text
    assert all(id in page for id in hits)


def test_events_of_a_cascade_carry_where_they_came_from(played, eventually):
    """What a decision publishes names its cause, the cascade it belongs to, and the agents behind it, as CloudEvents attributes."""
    up, lineage = played
    eventually(lambda: lineage.sql("from dead_letters").height == 3, 90)
    there = [dict(m.headers) for p in range(2) for m in drain(up.run.kafka, "pings", p, 0) if "ce_via" in dict(m.headers)]
    via = sorted(headers["ce_via"].decode() for headers in there)
    assert via == sorted(3 * ["ping,pong", "ping,pong,ping,pong", "ping,pong,ping,pong,ping,pong"])
    decisions = set(lineage.sql("select id from decisions")["id"])
    assert all(headers["ce_causationid"].decode() in decisions for headers in there)
    assert len({headers["ce_correlationid"] for headers in there}) == 3
    [shout] = drain(up.run.kafka, "shouts", 0, 0)
    assert json.loads(shout.value or b"")["id"] == "a"
