"""Progress and idleness where flows, broker and store meet: across restarts, refusals and stalls."""

import math
import threading
from types import SimpleNamespace

import msgspec
import polars as pl
import pytest

from headwater import App, Document, Threshold, Topic, document
from headwater.agents.detect import Detector
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.freshness import Progress
from headwater.enrichers.latest import Latest
from headwater.enrichers.testing import HashEmbedder
from headwater.flows import detecting, run_command, tables
from headwater.flows.detecting import DetectLogic
from headwater.flows.ends import Ends
from headwater.flows.gates import rules_gate
from headwater.flows.meter import Meter
from headwater.flows.runtime import Runtime, wall_clock
from headwater.flows.settings import Settings
from headwater.flows.signalling import Signalled
from headwater.flows.source import TopicSource
from headwater.flows.tables import Tables
from headwater.flows.up import Up
from headwater.lineage.decode import Received
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Event, Position

S = 1_000_000


class Reading(msgspec.Struct):
    gauge: str
    metres: float = 0.0


readings = Topic("readings", Reading, key="gauge", partitions=2)
high = Threshold("high", of=readings, value=pl.col("metres"), per="gauge", within="1m", opens_at=2.0, closes_at=1.0, stat="max")


@document(readings)
def level(reading, facts):
    return Document(id=reading.gauge, text=f"{reading.gauge} stands at {reading.metres}")


def _event(id: str, second: float) -> Event:
    return Event(id=id, source="test", type="reading", time=round(second * S))


class Rules:
    """The rules of one topic as `detect` runs them, with a clock and a source's word for where it stands, both moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000 * S
        self.run = SimpleNamespace(
            clock=lambda: self.now,
            ends=Ends(lambda: self.now),
            far_ahead={},
            meter=Meter(),
            ending=threading.Event(),
            app=SimpleNamespace(topics={}),
        )
        self.known = {"readings": Detector(readings, [high])}
        self.logic = DetectLogic(self.run, self.known, None)
        self.next = [0, 0]

    def read(self, partition: int, *seconds: float) -> Signalled:
        """Events as a source reads them, on their way to the rules."""
        first = self.next[partition]
        self.next[partition] += len(seconds)
        self.run.ends.read("readings", partition, self.next[partition], 0)
        received = [
            Received(Position("b", "readings", partition, offset), _event(f"{partition}-{offset}", at), Reading("g"), appended=0)
            for offset, at in enumerate(seconds, first)
        ]
        return Signalled(self.known["readings"].signals(received), partition, self.next[partition], [])

    def see(self, *signalled: Signalled) -> list[str]:
        """The outcomes these led to."""
        return [record.outcome for each in self.logic.on_batch(list(signalled))[0] for record in each.records if record.kind == "outcome"]

    def at_end(self) -> None:
        for partition, offset in enumerate(self.next):
            self.run.ends.at_end("readings", partition, offset)

    def wake(self) -> int:
        """Let time pass at the rules, and tell the watermark."""
        return next(iter(self.logic.on_notify()[0])).watermark


def test_what_came_during_a_stall_is_not_late():
    """`detect` stands still for 8 s while 80 events are published: not one of them is late, whoever wakes first."""
    rules = Rules()
    rules.see(rules.read(0, 999.5), rules.read(1, 999.6))
    rules.at_end()
    before = rules.wake()
    rules.now += 8 * S
    assert rules.wake() == before
    backlog = [rules.read(n % 2, 1000 + n / 10) for n in range(80)]
    rules.at_end()  # the source has read them all; the rules have not seen them yet
    assert rules.wake() == before
    assert "late" not in rules.see(*backlog)


def test_a_partition_that_is_silent_at_its_end_stops_holding_the_others():
    """Idleness works still: read to the end, silent for `idle_after`, the clock takes over."""
    rules = Rules()
    rules.see(rules.read(0, 999.5), rules.read(1, 999.6))
    rules.now += 6 * S
    rules.at_end()
    assert rules.wake() == 1005 * S


def test_after_a_resume_what_lies_before_it_was_seen():
    """A source that resumes at its end tells that the rules have seen all before; without its word nothing is known."""
    rules = Rules()
    rules.see(rules.read(0, 999.5), rules.read(1, 999.6))
    rules.logic = DetectLogic(rules.run, rules.known, rules.logic.snapshot())
    before = rules.wake()
    rules.now += 6 * S
    rules.at_end()
    assert rules.wake() == before
    for partition in (0, 1):
        rules.run.ends.begun("readings", partition, 1)
    rules.at_end()
    assert rules.wake() == 1005 * S


def test_a_partition_far_ahead_is_paused_and_the_one_all_wait_for_is_not(monkeypatch):
    """What waits in memory is bounded: the source reads the partition behind, then goes on with the other."""
    monkeypatch.setattr(detecting, "AHEAD_MAX", 10)
    rules = Rules()
    open_now = rules_gate(rules.run.far_ahead)
    rules.see(rules.read(1, 500), rules.read(0, *range(1000, 1020)))
    assert [open_now("readings", partition) for partition in (0, 1)] == [False, True]
    rules.see(rules.read(1, 1030))
    assert [open_now("readings", partition) for partition in (0, 1)] == [True, True]


def test_the_state_of_a_topic_that_no_rule_watches_any_more_is_dropped():
    """A rule was removed: the flow starts, and forgets what it remembered, instead of dying of it. What waited for it has passed."""
    rules = Rules()
    rules.see(rules.read(0, 999.5))
    left = DetectLogic(rules.run, {}, rules.logic.snapshot())
    assert left.snapshot() == rules.logic.snapshot()
    assert left.notify_at() is not None
    told, after = left.on_notify()
    assert after == DetectLogic.DISCARD
    ended = [(one.topic, one.partition, one.first, one.outcome) for each in told for one in each.records if one.kind == "outcome"]
    assert ended == [("readings", 0, 0, "passed")]


def test_progress_goes_on_after_a_restart(kafka, name, tmp_path, monkeypatch):
    """A broker that outlives the process: what was settled is known at the start, without a new event; by store and by snapshot."""
    topic = Topic(name, Reading, key="gauge", partitions=2)
    app = App(name, documents=[document(topic)(level.function)], root=tmp_path)
    settings = Settings(home=tmp_path / "home", kafka=dict(kafka.properties))
    with Up(app, settings, flows=("index", "audit"), http=False, embedder=HashEmbedder()) as up:
        token = up.gateway.publish(topic, up.gateway.events(topic, b'{"gauge":"g"}'))[0].position
        up.run.progress.wait([token], 60)
        settled = up.run.progress.as_of()
    again = Runtime(app, settings, kafka, embedder=HashEmbedder())
    try:
        again.progress.wait([token], 0)
        assert again.progress.as_of() == settled
    finally:
        again.close()
    monkeypatch.setattr(EdgeIndex, "load_progress", lambda self: [])  # killed before it was stored: only the source knows
    with Up(app, settings, flows=("index", "audit"), http=False, embedder=HashEmbedder()) as up:
        up.run.progress.wait([token], 60, max_staleness_us=2 * S)
        assert up.run.progress.as_of() == settled


def test_markers_do_not_make_an_index_stale(kafka, name):
    """A topic that ends in transaction markers is read to its end when its last message is settled."""
    kafka.create({name: 1})
    producer = kafka.producer(transactional_id=name, message_timeout_ms=20_000)
    producer.init_transactions(60)
    for _ in range(3):
        producer.begin_transaction()
        producer.produce(name, b"{}")
        producer.commit_transaction(60)
    progress = Progress("b", wall_clock, [name], [(name, 0)])
    told = threading.Event()

    def at_end(topic, partition, offset, age):
        progress.at_end(topic, partition, wall_clock() - round(age * 1e6), offset)
        told.set()

    source = TopicSource(kafka, "b", {name: 1}, name, slots=None, begun=progress.start, read=progress.note_appended, at_end=at_end)
    part = source.build_part("step", f"{name}/0", None)
    while not told.is_set():
        for batch in part.next_batch():
            progress.settle(name, 0, batch.next)
    part.close()
    assert not progress._partitions[name, 0].ends
    assert not math.isinf(progress.staleness_ms())


class Store:
    """A store for progress that refuses at first."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.saved, self.stored = refusals, [], threading.Event()

    def load_progress(self):
        return []

    def save_progress(self, rows):
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the store does not answer")
        self.saved.append(rows)
        self.stored.set()


def test_progress_is_stored_again_after_a_refusal_and_once_more_at_the_end(kafka, tmp_path, monkeypatch):
    """A store that does not answer for a while costs freshness, not the writing of progress; the last word is stored at the close."""
    monkeypatch.setattr("headwater.flows.keeping.RETRY_S", 0.01)
    monkeypatch.setattr("headwater.flows.keeping.HEARTBEAT_S", 0.01)
    run = Runtime(App("a", documents=[level], root=tmp_path), Settings(home=tmp_path, kafka=dict(kafka.properties)), kafka)
    run.__dict__["index"] = store = Store(3)
    run.keep_progress()
    assert store.stored.wait(60)
    run.progress.settle("readings", 1, 7)
    run.close()
    assert [(row.partition, row.next) for row in store.saved[-1]] == [(1, 7)]


def test_look_up_topics_that_cannot_be_read_are_named(kafka, name):
    """A start does not wait for ever: the topics are named."""
    kafka.create({name: 1})
    latest = Latest(Topic(name, Reading, key="gauge"), on="gauge")

    class Mute:
        def consumer(self, group):
            return self

        def get_watermark_offsets(self, place, timeout):
            return (0, 0)

        def assign(self, places):
            pass

        def consume(self, many, timeout):
            return []

        def close(self):
            pass

    with pytest.raises(Unavailable, match=f"{name}.*0.1 s"):
        Tables(Mute(), "b", [latest], Meter(), patience_s=0.1)


def test_look_ups_that_die_are_told(kafka, name, monkeypatch):
    """Reading look-up topics that ends by an error is told to whoever runs the flows, instead of growing old in silence."""
    kafka.create({name: 1})
    told: list[BaseException] = []
    dead = threading.Event()
    found = Tables(
        kafka, "b", [Latest(Topic(name, Reading, key="gauge"), on="gauge")], Meter(), failed=lambda error: (told.append(error), dead.set())
    )
    monkeypatch.setattr(tables, "decode", lambda *args: 1 / 0)
    producer = kafka.producer()
    producer.produce(name, b"{}", b"g")
    producer.flush(10)
    assert dead.wait(60)
    assert isinstance(told[0], ZeroDivisionError)
    found.close()


def test_decide_runs_in_one_process(tmp_path):
    """The bound on what is in flight is kept within one process: more are refused."""
    settings = Settings(home=tmp_path, kafka={"bootstrap.servers": "x:1"}, qdrant_url="http://x")
    with pytest.raises(Misused, match="one process"):
        run_command.run(settings, "decide", None, 1, 0, ["a:1", "b:1"], 1.0)
