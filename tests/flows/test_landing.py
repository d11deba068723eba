"""When records land: together where landing takes long, soon where somebody asks, and all that there are before a process stops."""

import time
from pathlib import Path

import duckdb
import httpx
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import load
from headwater.flows.batch import Batch
from headwater.flows.broker import Broker
from headwater.flows.gathering import LANDING_MS, MOST_MS, SHARE, Gathering
from headwater.flows.landing import AHEAD, LandingSink
from headwater.flows.meter import Meter
from headwater.flows.settings import Settings
from headwater.flows.sink import Writer
from headwater.flows.steps import to_lineage
from headwater.flows.up import Up
from headwater.lineage.client import connect
from headwater.lineage.message import encode_batch
from headwater.lineage.record import fact
from headwater.lineage.store import Store, open_database
from headwater.lineage.topic import LINEAGE

APPLICATION = Path(__file__).parent.parent / "walk" / "application.py"


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(1, MOST_MS))
def test_records_gather_the_longer_the_longer_landing_takes(times, least):
    """Landing takes a tenth of the time at most, unless that would be out of bounds; only the last one counts."""
    gathering = Gathering(least)
    assert gathering.ms == least
    for took in times:
        gathering.took(took)
    assert least <= gathering.ms <= MOST_MS
    assert gathering.ms in (least, MOST_MS, times[-1] * 1000 * SHARE)


@given(st.lists(st.tuples(st.floats(0.001, 2), st.none() | st.floats(0, 10), st.booleans()), min_size=1))
def test_nothing_waits_longer_than_it_must(looks):
    """However looks, landings and questions follow each other: never two within the least, never longer apart than the most; asked, none
    waits longer than the least; and where the last look found nothing, the next is after the least again."""
    clock = Clock()
    gathering, last, waited = Gathering(clock=clock), None, 0.0
    for pause, took, asked in looks:
        clock.now += pause
        if asked:
            gathering.ask()
        found = gathering.due()
        waited = float("inf") if last is None else (clock.now - last) * 1000
        assert found or waited < (LANDING_MS if asked else MOST_MS) + 1e-6
        assert not found or waited >= LANDING_MS - 1e-6
        if found:
            last = clock.now
            if took is not None:
                gathering.took(took)
    clock.now += 2
    assert gathering.due()
    clock.now += 2
    assert gathering.due()
    assert gathering.ms == LANDING_MS


def test_at_the_end_nothing_waits():
    """Once nothing more will come, each look takes what there is."""
    gathering = Gathering(clock=Clock())
    assert gathering.due() and not gathering.due()
    gathering.end()
    assert gathering.due() and gathering.due()


def test_the_sink_tells_what_a_landing_took(tmp_path):
    """From before it begins until the offsets have landed."""
    ticks = iter((10.0, 10.05))
    gathering = Gathering(200)
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 0) as store:
        LandingSink(store, Meter(), None, gathering, lambda: next(ticks)).build("land", 0, 1).write_batch([])
    assert round(gathering.ms) == 500


def notes(offset):
    """A batch of one message of the lineage topic, with one note."""
    body = encode_batch([fact("note", "f", "s", f"note {offset}", logged=1)])
    return Batch("b", LINEAGE, 0, [Message(topic=LINEAGE, partition=0, offset=offset, value=body, timestamp=(1, 1))], offset)


def test_a_batch_that_lands_ahead_is_told_once_it_is_there(tmp_path, monkeypatch):
    """How far the flow has come is told after the commit; what could not land fails the flow, at the next batch or at its end."""
    monkeypatch.setattr("headwater.flows.landing.AHEAD", 0)
    meter, gathering = Meter(), Gathering(200)
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 0) as store:
        sink = LandingSink(store, meter, None, gathering).build("land", 0, 1)
        for offset in range(3):
            sink.write_batch([notes(offset)])
        sink.close()
        assert meter.counts() == {"records": 3} and store.offsets("b") == {0: 3}
        assert meter.await_reached("audit", {(LINEAGE, 0): 3}, timeout=0)
        with store.cursor() as other:
            other.execute("ALTER TABLE names_new RENAME TO elsewhere")
        sink.write_batch([notes(3)])
        with pytest.raises(duckdb.CatalogException):
            sink.close()
    assert meter.counts() == {"records": 3}


@pytest.mark.parametrize(
    ("flows", "ahead"), [(("audit",), 1), (("index", "detect", "decide", "audit"), AHEAD)], ids=["audit alone, ahead", "all flows"]
)
def test_a_process_that_stops_has_landed_what_lay_on_the_topic(flows, ahead, tmp_path):
    """Also what another process wrote that was killed, however soon it stops, however long records are to gather, and in whatever thread
    they land.
    """
    with Broker() as broker:
        broker.kafka.create({"headwater.lineage": 1})
        told = [fact("note", "former", "s", f"note {number}", logged=1) for number in range(500)]
        Writer(broker.kafka, broker.id).write([message for note in told for message in to_lineage("former", [note])])
        settings = Settings(home=tmp_path / "home", kafka={"bootstrap.servers": broker.address})
        up = Up(load(str(APPLICATION)), settings, flows=flows, http=False, embedder=HashEmbedder())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("headwater.flows.runtime.Gathering", lambda: Gathering(3_600_000, 3_600_000))
            patch.setattr("headwater.flows.landing.AHEAD", ahead)
            with up:
                pass
        assert up.failure is None
    with open_database(tmp_path / "home" / "lineage.duckdb", read_only=True) as lineage:
        assert lineage.execute("select count(*) from records where flow = 'former'").fetchall() == [(500,)]


class Asked(Gathering):
    """Takes nothing unless somebody asks."""

    def due(self) -> bool:
        return (self._wanted or self._ending) and super().due()


@pytest.mark.parametrize("door", ["why", "sql"])
def test_who_asks_what_became_of_an_event_need_not_wait_for_company(door, tmp_path, monkeypatch):
    """A question that comes too early makes what waits land: the same question soon after is answered."""
    monkeypatch.setattr("headwater.flows.runtime.Gathering", Asked)
    settings = Settings(home=tmp_path / "home", http_port=0)
    with Up(load(str(APPLICATION)), settings, embedder=HashEmbedder()) as up, httpx.Client(base_url=up.address, timeout=30) as http:
        accepted = http.post("/v1/events/readings", json={"id": "r1", "gauge": "north", "metres": 0.5}).raise_for_status().json()
        assert up.run.meter.await_reached("index", up.run.meter.written("readings"), 60)
        until = time.monotonic() + 60

        def known() -> bool:
            if door == "why":
                return http.get(f"/v1/why/{accepted['id']}").status_code == 200
            query = "select 1 from outcomes where flow = 'index' and topic = 'readings'"
            return len(connect(up.address).sql(query)) > 0

        while not known():
            assert time.monotonic() < until
            time.sleep(0.02)
