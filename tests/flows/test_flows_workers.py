"""Worker threads: each part is made once and shared, every worker does its part, and one that fails ends the process."""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel

import headwater.flows.walk as walk
from headwater.agents.rules import Threshold
from headwater.agents.signals import Reader
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import load
from headwater.flows.broker import Broker
from headwater.flows.drain import drain
from headwater.flows.once import once
from headwater.flows.screen import causes
from headwater.flows.settings import load as load_settings
from headwater.flows.sink import Outgoing, Writer, outgoing
from headwater.flows.source import Batch
from headwater.flows.up import Up
from headwater.lineage.decode import MARK, Received
from headwater.lineage.event import Event, Position
from headwater.lineage.message import decode_batch
from headwater.lineage.ranges import Ranges
from headwater.lineage.record import Record
from headwater.lineage.store import Store, open_database
from headwater.lineage.topic import ACTIVATIONS, LINEAGE, Topic
from headwater.lineage.verify import verify

APPLICATION = Path(__file__).parent.parent / "walk" / "application.py"


class _Parts:
    """Two parts, one made of the other, slowly."""

    def __init__(self) -> None:
        self.made: list[str] = []

    @once
    def inner(self) -> object:
        time.sleep(0.02)
        self.made.append("inner")
        return object()

    @once
    def outer(self) -> list[object]:
        time.sleep(0.02)
        self.made.append("outer")
        return [self.inner]


def test_a_part_is_made_once_whoever_asks_first():
    """Sixteen threads that ask at the same moment get the same thing; another owner gets its own."""
    parts = _Parts()
    barrier = threading.Barrier(16)
    got: list[Any] = []

    def ask(outer: bool) -> None:
        barrier.wait()
        got.append(parts.outer[0] if outer else parts.inner)

    threads = [threading.Thread(target=ask, args=(n % 2 == 0,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 16 and len({id(one) for one in got}) == 1
    assert sorted(parts.made) == ["inner", "outer"]
    assert _Parts().inner is not parts.inner


def test_a_part_that_fails_is_tried_again():
    """What raised was not made: the next to ask makes it."""
    tries = []

    class Part:
        @once
        def index(self) -> str:
            tries.append(1)
            if len(tries) == 1:
                raise OSError("not yet")
            return "index"

    part = Part()
    with pytest.raises(OSError, match="not yet"):
        _ = part.index
    assert (part.index, part.index, len(tries)) == ("index", "index", 2)


def test_a_batch_of_nulls_takes_nothing_back_from_another_worker():
    """A reader that two workers share keeps the types of facts that one of them learnt, whatever the other was reading meanwhile."""

    class Model(BaseModel):
        id: str

    class Found:
        """Facts whose types nobody tells."""

        def facts(self, model: Any, time: int) -> dict[str, Any]:
            return {}

        def bind(self, root: Path) -> "Found":
            return self

    topic: Topic[Model] = Topic("things", Model, enrich={"found": Found()})
    reader = Reader(topic, [Threshold("high", of=topic, value=pl.col("found").struct.field("level"), opens_at=2, closes_at=1)])

    class Slow(dict[str, Any]):
        """Facts that are null, and while they are read the other worker reads a batch that is not."""

        def get(self, name: str, otherwise: Any = None) -> Any:
            reader.read([_received({"found": {"level": 3.0}})])
            return {"level": None}

    assert reader.facts["found"] is None
    reader.read([_received(Slow())])
    assert reader.facts["found"] == pl.Struct({"level": pl.Float64})


def _received(facts: dict[str, Any]) -> Received:
    event = Event(id="e", source="/s", type="t", time=0, data=b"{}")
    return Received(Position("b", "things", 0, 0), event, type("Model", (), {"id": "x"})(), 0, facts)


def _readings(count: int) -> list[Outgoing]:
    """As many to each of the three partitions."""
    found = []
    for n in range(count):
        data = {"id": f"r{n}", "gauge": f"g{n % 12}", "metres": float(n % 4)}
        event = Event(id=f"event-{n}", source="/workers", type="reading", time=1_900_000_000_000_000 + n, data=json.dumps(data).encode())
        found.append(outgoing("readings", event, data["gauge"], n % 3))
    return found


def _marks() -> list[Outgoing]:
    times = (Event(id=f"mark-{p}", source="/workers", type=MARK, time=2_000_000_000_000_000) for p in range(3))
    return [outgoing("readings", mark, mark.id, p) for p, mark in enumerate(times)]


def _up(broker: Broker, home: Path, workers: int) -> Up:
    given = {"HEADWATER_HOME": str(home), "HEADWATER_KAFKA__BOOTSTRAP_SERVERS": broker.address}
    settings = load_settings(given, dotenv=Path("/none"))
    return Up(load(str(APPLICATION)), settings, http=False, idle=False, embedder=HashEmbedder(), workers=workers)


def _watched(monkeypatch: pytest.MonkeyPatch, watch: Callable[[list[Batch]], None]) -> None:
    """Have every batch looked at before it is decoded."""
    make = walk.decode_step

    def decode_step(*args: Any) -> Any:
        step = make(*args)

        def stepping(batches: list[Batch]) -> Any:
            watch(batches)
            return step(batches)

        return stepping

    monkeypatch.setattr(walk, "decode_step", decode_step)


def test_each_worker_reads_and_one_lands(tmp_path, monkeypatch):
    """With three workers several threads decode, one alone writes the database, and every position has its one outcome."""
    decoding, landing = set(), set()
    _watched(monkeypatch, lambda batches: decoding.add(threading.get_ident()))
    land = Store.land

    def landed(store: Store, batch: Any) -> Any:
        landing.add(threading.get_ident())
        return land(store, batch)

    monkeypatch.setattr(Store, "land", landed)
    with Broker() as broker:
        with _up(broker, tmp_path, 3) as up:
            Writer(broker.kafka, broker.id).write([*_readings(600), *_marks()])
            ends = {("readings", partition): 201 for partition in range(3)}
            for flow in ("index", "detect"):
                assert up.run.meter.await_reached(flow, ends, 60), up.failure
        assert up.failure is None
    assert len(decoding) > 2  # `index` and `detect` have threads of their own: with one worker each there are two
    assert len(landing) == 1
    with open_database(tmp_path / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=False)
    assert verdict.ok, verdict.offences
    assert verdict.consumed["detect"] == sum(verdict.totals["detect"].values()) == 603


@pytest.mark.parametrize("failing", ["index", "detect"])
def test_a_worker_that_fails_ends_the_process(tmp_path, monkeypatch, failing):
    """Whichever worker of whichever flow raises: the flow is over, and whoever runs it hears why, at once."""
    told = Batch.records

    def records(batch: Batch, flow: str, now: int) -> list[Record]:
        if flow == failing and batch.topic == "readings" and batch.partition == 2:
            raise OSError("this worker is done for")
        return told(batch, flow, now)

    monkeypatch.setattr(Batch, "records", records)
    with Broker() as broker, _up(broker, tmp_path, 2) as up:
        Writer(broker.kafka, broker.id).write(_readings(30))
        assert up.failed.wait(60)
        name, error = up.failure
        assert name == failing
        assert "this worker is done for" in causes(error)


def test_nobody_tells_how_a_position_ended_before_it_was_told_that_it_was_read(tmp_path):
    """Whichever worker reads and whichever decides: at each moment the lineage topic says of all that has ended that it was read.

    So whatever is killed, and however much of the topic has landed, nothing has an outcome that was never consumed.
    """
    with Broker() as broker:
        with _up(broker, tmp_path, 3) as up:
            given, sender = [*_readings(240), *_marks()], Writer(broker.kafka, broker.id)
            for first in range(0, len(given), 27):
                sender.write(given[first : first + 27])
            for flow in ("index", "detect"):
                assert up.run.meter.await_reached(flow, {("readings", partition): 81 for partition in range(3)}, 60), up.failure
        messages = drain(broker.kafka, LINEAGE, 0, 0)
    read: dict[tuple[str, str, int], Ranges] = defaultdict(Ranges)
    ended = Counter[tuple[str, str]]()
    for record in (record for message in messages for record in decode_batch(message.value)):
        lane = record.flow, record.topic, record.partition
        if record.kind in ("consumed", "absent"):
            read[lane].add(record.first, record.next)
        elif record.kind == "outcome":
            ended[record.flow.partition("/")[0], record.topic] += record.count
            assert not read[lane].missing(record.first, record.next), (lane, record.first, record.next, record.outcome)
    assert ended["index", "readings"] == ended["detect", "readings"] == 243
    assert ended["decide", ACTIVATIONS] > 0
