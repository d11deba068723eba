"""Selective subscription in the flows: what is passed by undecoded changes nothing but the work."""

import json
from collections import Counter

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater import App, Document, Rate, Select, Threshold, Topic, document
from headwater.agents.detect import Detector
from headwater.agents.order import Signal
from headwater.agents.signals import Batch as Signals
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.index import Indexer
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.selecting import hinted
from headwater.flows.steps import decode_step
from headwater.lineage.decode import MARK, Received
from headwater.lineage.duration import format_time
from headwater.lineage.event import STRUCTURED, Message, Position, from_binary, to_structured

NOW = 1_900_000_000_000_000
S = 1_000_000


class Reading(BaseModel):
    id: str
    metres: float


readings = Topic("readings", Reading, key="id", partitions=2, lateness="2s")
urgent = Select(priority="high")
high = Rate("high", of=readings, where=pl.col("metres") > 1, within="10s", opens_at=0.5, closes_at=0.1, select=urgent)
deep = Threshold("deep", of=readings, value=pl.col("metres"), within="5s", opens_at=2, closes_at=1, select=urgent)


class OneBatch:
    """A source batch of plain messages."""

    def __init__(self, messages):
        self.topic, self._messages = "readings", messages

    def plain(self):
        return self._messages


@st.composite
def logs(draw):
    """Two partitions of messages with headers; some structured, some out of order."""
    found = {0: [], 1: []}
    for n in range(draw(st.integers(0, 25))):
        partition = draw(st.integers(0, 1))
        at = NOW + draw(st.integers(0, 20)) * S
        data = json.dumps({"id": draw(st.sampled_from("ab")), "metres": draw(st.sampled_from([0.5, 1.5, 3.0]))}).encode()
        priority = draw(st.sampled_from(["low", "high", None]))
        headers = [("ce_id", f"e{n}".encode()), ("ce_time", format_time(at).encode())]
        headers += [("ce_priority", priority.encode())] if priority else []
        message = Message("readings", partition, len(found[partition]), NOW // 1000, None, data, headers)
        if draw(st.integers(0, 4)) == 0:
            event = from_binary(headers, data, topic="readings", appended=NOW)
            message = message._replace(value=to_structured(event), headers=[("content-type", STRUCTURED.encode())])
        found[partition].append(message)
    return found


def fired(steps):
    """What a detector gives for works in turn: activations, and outcomes of positions."""
    detector = Detector(readings, [high, deep], idle=False)
    state = detector.start(NOW)
    activations, outcomes = [], Counter()
    for signals in steps(detector):
        step = detector.step(state, signals, NOW)
        activations += step.activations
        outcomes.update(step.outcomes)
    marks = [Signal(NOW + 1000 * S, "", partition, 1000) for partition in (0, 1)]
    end = detector.step(state, Signals("b", "readings", marks, []), NOW)
    return activations + end.activations, outcomes + Counter(one for one in end.outcomes if one[0].offset < 1000)


@settings(max_examples=30)
@given(logs(), st.integers(1, 7))
def test_rules_fire_the_same_as_if_all_had_been_decoded(log, size):
    """With select, activations are those of decoding everything and filtering then, no cut is shorter, each position ends exactly once."""
    batches = [log[p][n : n + size] for n in range(0, 25, size) for p in log if log[p][n : n + size]]
    selects = {"readings": (urgent,)}

    def selecting(detector):
        for batch in batches:
            [work] = decode_step({"readings": readings}, "b", selects)([OneBatch(batch)])
            yield hinted(detector.signals(work.received), work.unwanted, None)

    def decoding(detector):
        for batch in batches:
            [work] = decode_step({"readings": readings}, "b")([OneBatch(batch)])
            yield detector.signals(work.received)

    some, outcomes = fired(selecting)
    all_of_them, of_all = fired(decoding)
    assert [msgspec.structs.replace(one, cut={}) for one in some] == [msgspec.structs.replace(one, cut={}) for one in all_of_them]
    for one, other in zip(some, all_of_them, strict=True):
        assert all(one.cut[place] >= offset for place, offset in other.cut.items())
    assert {position for position, _ in outcomes} == {position for position, _ in of_all}
    assert set(outcomes.values()) <= {1}
    gone = {p for p, _ in outcomes} - {p for p, o in of_all if outcomes[p, o]}
    assert all(outcomes[position, "passed"] and of_all[position, "late"] for position in gone)  # only of what was not looked at


@settings(max_examples=10)
@given(logs())
def test_outcomes_of_index_are_those_of_decoding_and_filtering(tmp_path_factory, log):
    """What the document type does not select ends as passed; the rest is indexed as ever."""

    @document(readings, select=urgent)
    def level(reading: Reading, facts) -> Document:
        return Document(reading.id, f"{reading.metres} metres")

    def ended(selects):
        index = EdgeIndex(tmp_path_factory.mktemp("index"), size=HashEmbedder().size)
        try:
            indexer = Indexer(index, HashEmbedder(), [level], clock=lambda: NOW)
            work = [
                work
                for p in log if log[p]
                for work in decode_step({"readings": readings}, "b", selects)([OneBatch(log[p])])
            ]  # fmt: skip
            found = dict(indexer.index([one for each in work for one in each.received]).outcomes)
            return found | {one.position: "passed" for each in work for one in each.unwanted}, sum(len(w.received) for w in work)
        finally:
            index.close()

    some, decoded = ended({"readings": (urgent,)})
    all_of_them, _ = ended({})
    assert some == all_of_them
    assert decoded == sum(one != "passed" for one in some.values())


def test_what_nobody_wants_is_not_decoded():
    """Nonsense under unselected headers is passed by; under selected ones it is a failure; a time mark is for everyone."""
    nonsense = [("ce_id", b"1"), ("ce_priority", b"low")]
    messages = [
        Message("readings", 0, 0, NOW // 1000, None, b"nonsense", nonsense),
        Message("readings", 0, 1, NOW // 1000, None, b"nonsense", [("ce_id", b"2"), ("ce_priority", b"high")]),
        Message("readings", 0, 2, NOW // 1000, None, b"", [("ce_id", b"3"), ("ce_type", MARK.encode())]),
    ]
    [work] = decode_step({"readings": readings}, "b", {"readings": (urgent,)})([OneBatch(messages)])
    assert [one.position for one in work.unwanted] == [Position("b", "readings", 0, 0)]
    assert [failure.position.offset for failure in work.failures] == [1]
    assert [one.position.offset for one in work.received] == [2]


@pytest.mark.parametrize("selects", [None, {"readings": (urgent,)}])
def test_a_tombstone_of_a_compacted_topic_is_no_event(selects):
    """It ends as passed and its time moves no rule; on a topic that is not compacted a message without value is wrong, as it was."""
    message = Message("readings", 0, 0, NOW // 1000 + 10**6, b"a", None, [])
    compacted = Topic("readings", Reading, key="id", compact=True)
    [work] = decode_step({"readings": compacted}, "b", selects)([OneBatch([message])])
    assert [(one.position, one.time) for one in work.unwanted] == [(Position("b", "readings", 0, 0), None)]
    assert not work.received and not work.failures
    rule = Threshold("deep", of=compacted, value=pl.col("metres"), within="5s", opens_at=2, closes_at=1)
    detector = Detector(compacted, [rule], idle=False)
    state = detector.start(NOW)
    outcomes = detector.step(state, hinted(detector.signals([], compacted.name), work.unwanted, None), NOW).outcomes
    assert [(place.offset, ended) for place, ended in outcomes] == [(0, "passed")]
    if selects is None:
        [work] = decode_step({"readings": readings}, "b")([OneBatch([message])])
        assert len(work.failures) == 1


def test_a_rule_does_not_stumble_over_what_it_did_not_select():
    """An expression that raises for an event fails it only for a rule that selected the event."""

    def explode(value: float) -> float:
        raise ValueError(value)

    bad = Threshold(
        "bad", of=readings, value=pl.col("metres").map_elements(explode, return_dtype=pl.Float64), opens_at=1, closes_at=0, select=urgent
    )
    calm = Threshold("calm", of=readings, value=pl.col("metres"), opens_at=1, closes_at=0)
    events = [from_binary([("ce_id", b"1"), *more], b"{}", topic="t", appended=NOW) for more in ([], [("ce_priority", b"high")])]
    received = [Received(Position("b", "readings", 0, n), event, Reading(id="a", metres=2), NOW) for n, event in enumerate(events)]
    signals = Detector(readings, [bad, calm]).signals(received)
    assert [one.position.offset for one, _ in signals.failures] == [1]
    assert [signal.readings for signal in signals.signals] == [(None, ("all", 2.0))]


def test_an_unbelievable_time_moves_nothing():
    """A hint from beyond the clock, or none at all, does not make others late."""
    detector = Detector(readings, [high], idle=False)
    state = detector.start(NOW)
    far = Message("readings", 0, 0, -1, None, b"", [("ce_id", b"1"), ("ce_priority", b"low"), ("ce_time", b"2990-01-01T00:00:00Z")])
    wrong = far._replace(offset=1, headers=[("ce_id", b"1"), ("ce_priority", b"low"), ("ce_time", b"yesterday")])
    [work] = decode_step({"readings": readings}, "b", {"readings": (urgent,)})([OneBatch([far, wrong])])
    step = detector.step(state, hinted(detector.signals([]), work.unwanted, NOW), NOW)
    assert [outcome for _, outcome in step.outcomes] == ["passed", "passed"]
    assert state["order"]["floors"] == detector.start(NOW)["order"]["floors"]


@pytest.mark.parametrize(("selects", "told"), [((urgent, None), ()), ((urgent, Select(type="t")), (urgent, Select(type="t")))])
def test_an_application_knows_what_its_subscribers_select(selects, told):
    """Per flow: topic → what is selected, nothing where one subscriber wants all."""
    documents = [document(readings, select=select)(f) for select, f in zip(selects, (_one, _other), strict=True)]
    assert App("a", documents=documents).selected_documents == {"readings": told}


def _one(reading: Reading, facts) -> None: ...
def _other(reading: Reading, facts) -> None: ...
