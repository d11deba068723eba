"""Look-ups that read topics, where flows and broker meet: what came before an event, tombstones, and how far look-ups are."""


import pytest
from pydantic import BaseModel

from headwater import App, Document, Latest, Recent, Topic, document
from headwater.enrichers.freshness import Progress
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.earlier import Stretches
from headwater.flows.meter import Meter
from headwater.flows.settings import load as load_settings
from headwater.flows.sink import Outgoing, Writer, outgoing
from headwater.flows.tables import Tables
from headwater.flows.up import Up
from headwater.lineage.errors import Misused
from headwater.lineage.event import Event
from headwater.lineage.records import records
from headwater.lineage.store import open_database

SECOND = 1_000_000


class Reading(BaseModel):
    id: str
    gauge: str
    metres: float = 0.0


class Gauge(BaseModel):
    gauge: str
    river: str


def said(topic, model, n, partition=0):
    event = Event(id=f"{topic.name}-{n}", source="test", type="t", time=1_000 * SECOND + n * SECOND, data=topic.encode(model))
    return outgoing(topic.name, event, topic.key_of(model), partition)


def test_a_stretch_is_what_can_be_decoded_between_two_offsets(kafka, name):
    """The events in [first, until), without what cannot be decoded; nothing beyond the end or of an empty stretch."""
    topic = Topic(name, Reading, key="gauge")
    kafka.create({name: 1})
    writer = Writer(kafka, kafka.broker_id())
    messages = [said(topic, Reading(id=str(n), gauge="pier"), n) for n in range(6)]
    writer.write([*messages[:3], Outgoing(name, b"pier", b"{", [("ce_id", b"x")], 0), *messages[3:]])
    stretches = Stretches(kafka, kafka.broker_id(), {name: topic})
    assert [one.position.offset for one in stretches.read(name, 0, 1, 6)] == [1, 2, 4, 5]
    assert [one.model.id for one in stretches.read(name, 0, 5, 100)] == ["4", "5"]
    assert stretches.read(name, 0, 0, 1)[0].model.id == "0"
    stretches.close()
    writer.close()


def test_looking_back_over_several_partitions_is_misused():
    """Events of one value must lie in one partition: else none is before another."""

    @document(Topic("r", Reading, key="id", partitions=2, enrich={"before": Recent(1, by="gauge")}))
    def text(reading, facts):
        return None

    with pytest.raises(Misused, match=r"before looks back by 'gauge'.*its key is 'id'"):
        App("a", documents=[text])


def test_a_tombstone_takes_a_row_and_positions_are_told(kafka, name):
    """A message without value on a compacted topic ends what is known of its key; the tables say how far they have read."""
    topic = Topic(name, Gauge, key="gauge", compact=True)
    latest = Latest(topic, on="gauge")
    kafka.create({name: 1})
    writer = Writer(kafka, kafka.broker_id())
    pier, lock = (said(topic, Gauge(gauge=gauge, river="Rhine"), n) for n, gauge in enumerate(("pier", "lock")))
    writer.write([pier, lock, Outgoing(name, b"pier", None, [("ce_id", b"gone"), ("ce_time", b"1970-01-01T00:20:00Z")], 0)])
    tables = Tables(kafka, kafka.broker_id(), [latest], Meter())
    assert tables.positions() == {(name, 0): 3}
    rivers = [latest.facts(Reading(id="x", gauge=gauge), 1200 * SECOND)["river"] for gauge in ("pier", "lock")]
    assert rivers == [None, "Rhine"]
    assert latest.facts(Reading(id="x", gauge="pier"), 1199 * SECOND)["river"] == "Rhine"
    tables.close()
    writer.close()


def test_as_of_tells_how_far_look_ups_are():
    """Topics that are only looked up stand in `as_of` with what was taken in of them; an indexed one with what is settled."""
    progress = Progress("b", lambda: 0, ["readings"], look_ups=lambda: {("gauges", 0): 7, ("readings", 0): 9})
    progress.settle("readings", 0, 3)
    assert progress.as_of() == {"gauges/0": 7, "readings/0": 3}


def test_facts_survive_a_restart(kafka, name, tmp_path):
    """A flow that starts again knows what came before, says so in lineage, and answers tell how far the look-ups had come."""
    gauges = Topic(f"{name}-gauges", Gauge, key="gauge", compact=True)
    readings = Topic(
        name, Reading, key="gauge", partitions=2, enrich={"before": Recent(2, by="gauge"), "gauge": Latest(gauges, on="gauge")}
    )

    @document(readings)
    def level(reading, facts):
        before = ", ".join(f"{row['metres']:g}" for row in facts["before"])
        return Document(reading.id, f"{facts['gauge']['river']} at {reading.metres:g} after {before or 'nothing'}")

    app = App(name, documents=[level], root=tmp_path)
    given = {"HEADWATER_HOME": str(tmp_path), "HEADWATER_KAFKA__BOOTSTRAP_SERVERS": kafka.properties["bootstrap.servers"]}
    settings = load_settings(given, dotenv=tmp_path / "none")
    kafka.create({gauges.name: 1, name: 2})
    broker = kafka.broker_id()
    writer = Writer(kafka, broker)
    writer.write([said(gauges, Gauge(gauge="pier", river="Rhine"), 0)])
    lives = [range(3), range(3, 5)]
    for numbers in lives:
        with Up(app, settings, flows=("index", "audit"), http=False, embedder=HashEmbedder()) as up:
            [*_, last] = writer.write([said(readings, Reading(id=f"r{n}", gauge="pier", metres=n), n, 1) for n in numbers])
            answer = up.run.retriever.search("Rhine", after=[last], wait_s=60)
        assert up.failure is None
    assert answer.as_of[f"{gauges.name}/0"] == 1
    texts = {hit.document: hit.text for hit in answer.results}
    assert texts == {
        "level/r0": "Rhine at 0 after nothing", "level/r1": "Rhine at 1 after 0", "level/r2": "Rhine at 2 after 1, 0",
        "level/r3": "Rhine at 3 after 2, 1", "level/r4": "Rhine at 4 after 3, 2",
    }  # fmt: skip
    with open_database(tmp_path / "lineage.duckdb", read_only=True) as lineage:
        [record] = records(lineage, ["kind = 'document' and ref = 'level/r3'"]).values()
    assert record.data["reads"] == {"before": [f"{name}/1@2", f"{name}/1@1"], "gauge": f"{gauges.name}/0@0"}
    writer.close()
