"""What `detect` refuses by itself: events no rule can read, events from the future, marks from outside; and the same in `testing.walk`."""

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel

from headwater.agents.rules import Threshold
from headwater.enrichers.document import Document, DocumentType
from headwater.flows.app import App
from headwater.flows.attempt import CAUSE, ERROR
from headwater.flows.deadletter import dead_letter_id
from headwater.flows.detecting import detectors, facts_needed
from headwater.flows.gateway import AHEAD
from headwater.flows.signalling import signal_step
from headwater.flows.steps import decode_step, enrich_step
from headwater.flows.testing import START, walk
from headwater.lineage.decode import MARK
from headwater.lineage.errors import EnricherFailed, IndexFailed, RuleFailed
from headwater.lineage.event import Event, Message, Position, to_binary
from headwater.lineage.topic import DEAD, Topic

NOW = START
SECOND = 1_000_000


class Reading(BaseModel):
    gauge: str
    metres: str


class Fussy:
    """An enricher that refuses one gauge."""

    def __init__(self, refused: str) -> None:
        self.refused = refused

    def facts(self, model: Any, time: int) -> dict[str, float]:
        if model.gauge == self.refused:
            raise EnricherFailed(f"nothing is known of {model.gauge}")
        return {"zero": 0.0}


def _text(reading: Reading, facts: Any) -> Document:
    if reading.gauge == "mute":
        raise ValueError("nothing to say of it")
    return Document(reading.gauge, reading.metres)


def application(*, indexed: bool) -> App:
    """One rule looks at `place`, which knows all gauges but one; nobody but the index asks `owner`, which knows all but another."""
    readings = Topic("readings", Reading, key="gauge", enrich={"place": Fussy("adrift"), "owner": Fussy("orphan")})
    level = pl.col("metres").cast(pl.Float64) + pl.col("place").struct.field("zero")
    high = Threshold("high", of=readings, value=level, per="gauge", opens_at=2, closes_at=1)
    deep = Threshold("deep", of=readings, value=pl.col("metres").cast(pl.Float64), per="gauge", opens_at=2, closes_at=1)
    return App("lake", documents=[DocumentType("level", readings, _text)] if indexed else [], triggers=[high, deep])


class Writer:
    """Keeps what it is given."""

    largest = 10**6

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def write(self, messages: Any) -> list[Position]:
        found = list(messages)
        self.messages += found
        return [Position("b", message.topic, 0, n) for n, message in enumerate(found)]


class Rules:
    """The rules over one topic, fed with events as `detect` feeds them."""

    def __init__(self, *, indexed: bool = True, idle: bool = True) -> None:
        self.app = application(indexed=indexed)
        self.writer = Writer()
        self.run: Any = SimpleNamespace(
            app=self.app, counts=self.app.partitions, indexes=True, idle=idle, clock=lambda: NOW, writer=self.writer
        )
        self.known = detectors(self.run)
        self.detector = self.known["readings"]
        self.state = self.detector.start(NOW)
        self.offset = 0

    def message(self, event: Event) -> Message:
        headers, value = to_binary(event)
        self.offset += 1
        return Message("readings", 0, self.offset - 1, event.time // 1000, b"k", value, headers)

    def feed(self, *events: Event) -> dict[int, str]:
        """Offset → outcome, of what `detect` ended by itself or released at once."""
        messages = [self.message(event) for event in events]
        topics = facts_needed(self.known)
        batch: Any = SimpleNamespace(
            topic="readings", partition=0, next=self.offset, plain=lambda: messages, records=lambda flow, now: []
        )
        work = enrich_step(topics)(decode_step(topics, "b")([batch]))
        [(_, signalled)] = signal_step(self.run, self.known)(work)
        step = self.detector.step(self.state, signalled.signals, NOW)
        told = {offset: r.outcome for r in signalled.records if r.kind == "outcome" for offset in range(r.first, r.next)}
        self.letters = [record for record in signalled.records if record.kind == "dead_letter"]
        return {**told, **{position.offset: outcome for position, outcome in step.outcomes}}


def reading(gauge: str, metres: str, time: int = NOW) -> Event:
    data = Reading(gauge=gauge, metres=metres).model_dump_json().encode()
    return Event(id=f"{gauge}-{time}", source="t", type="readings", time=time, data=data)


@pytest.mark.parametrize("indexed", [True, False])
def test_what_only_the_rules_refuse_they_bury(indexed):
    """RuleFailed: the index sees nothing wrong with the event, so `detect` writes the dead letter, and its record, in any case."""
    rules = Rules(indexed=indexed)
    assert rules.feed(reading("north", "much"))[0] == "dead_lettered"
    [letter] = rules.writer.messages
    assert letter.topic == DEAD and dict(letter.headers)[CAUSE] == b"rule_failed"
    id = dead_letter_id(Position("b", "readings", 0, 0), "detect" if indexed else "")
    assert [(record.ref, record.flow) for record in rules.letters] == [(id, "detect")]


@pytest.mark.parametrize(("indexed", "buried"), [(True, 0), (False, 1)])
def test_what_cannot_be_decoded_is_buried_once(indexed, buried):
    """By `index` where it reads the topic too; the outcome is told by both."""
    rules = Rules(indexed=indexed)
    assert rules.feed(Event(id="e", source="t", type="t", time=NOW, data=b"nonsense")) == {0: "dead_lettered"}
    assert len(rules.writer.messages) == len(rules.letters) == buried


def test_an_event_from_the_future_makes_no_other_late():
    """Live, it is a dead letter that says how far ahead of the clock it lies; those after it are in time."""
    rules = Rules()
    ended = rules.feed(reading("south", "1", NOW + 2 * AHEAD), reading("north", "1", NOW), reading("north", "1", NOW + SECOND))
    assert ended[0] == "dead_lettered" and "late" not in ended.values()
    [letter] = rules.writer.messages
    assert dict(letter.headers)[CAUSE] == b"invalid" and b"lies 2.0 h ahead of the clock" in dict(letter.headers)[ERROR]


def test_a_mark_from_outside_is_not_heeded():
    """Live, a time mark ends as `passed` and makes nothing late, whatever its time; it is no dead letter."""
    rules = Rules()
    mark = Event(id="m", source="t", type=MARK, time=NOW + AHEAD // 2)
    ended = rules.feed(reading("north", "1"), mark, reading("north", "1", NOW + SECOND))
    assert ended[1] == "passed" and "late" not in ended.values() and rules.writer.messages == []


def test_replays_go_by_their_marks_and_know_no_clock():
    """Where the wall clock has no say, marks count, and so do events of any time."""
    rules = Rules(idle=False)
    late = rules.feed(Event(id="m", source="t", type=MARK, time=NOW + 2 * AHEAD), reading("north", "1"))
    assert late == {0: "passed", 1: "late"}
    assert 2 not in rules.feed(reading("north", "1", NOW + 3 * AHEAD)) and rules.writer.messages == []


@pytest.mark.parametrize("indexed", [True, False])
def test_a_walk_gives_the_rules_what_the_flows_give_them(indexed):
    """Not what their own enrichers refuse; but what the index alone refuses they see. Every dead letter is told once."""
    app = application(indexed=indexed)
    readings = app.topics["readings"]
    result = walk(app, [(readings, Reading(gauge=gauge, metres="3")) for gauge in ("north", "mute", "orphan", "adrift")])
    fired = [(rule, key) for rule in ("deep", "high") for key in ("mute", "north", "orphan")]
    assert sorted((activation.rule, activation.key) for activation in result.activations) == fired
    ended = {(record.flow, record.first): record.outcome for record in result.records if record.kind == "outcome" and record.count == 1}
    failed = {"event-3": EnricherFailed}
    if indexed:
        failed |= {"event-1": IndexFailed, "event-2": EnricherFailed}
        assert set(result.documents) == {"level/north"}
        assert ended["index", 0] == "indexed"
    assert sorted((id, type(error)) for id, error in result.failed) == sorted(failed.items())
    assert ended["detect", 3] == "dead_lettered"


def test_a_walk_tells_what_no_rule_could_read():
    """RuleFailed is among the failures, as it is among the dead letters."""
    app = application(indexed=True)
    result = walk(app, [(app.topics["readings"], Reading(gauge="north", metres="much"))])
    assert [(id, type(error)) for id, error in result.failed] == [("event-0", RuleFailed)]
