"""The ladder's source and the word it sends round: what is not due waits outside the flow, and no offset goes untold."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.freshness import Progress
from headwater.flows.attempt import DUE
from headwater.flows.retry import Piece, RetrySource, due_at
from headwater.flows.source import STATE
from headwater.flows.spread import HearLogic
from headwater.flows.steps import Told
from headwater.lineage.errors import Behind, DeadLettered
from headwater.lineage.event import Message, Position
from headwater.lineage.topic import RETRY

TOPIC = f"{RETRY}1"


def message(offset: int) -> Message:
    return Message(TOPIC, 0, offset, 0, None, None, [])


class Below:
    """A part that hands on what it is given, one batch per poll, while the gate is open."""

    def __init__(self, source, batches):
        self.source, self.batches, self.next = source, list(batches), 0

    def next_batch(self):
        if not self.batches or not self.source.gate(TOPIC, 0):
            return []
        offsets, absent = self.batches.pop(0)
        self.next = offsets[-1] + 1
        return [SimpleNamespace(broker="b", topic=TOPIC, partition=0, absent=absent, plain=lambda: [message(o) for o in offsets])]

    def next_awake(self):
        return None

    def snapshot(self):
        return {"form": STATE, "next": {(TOPIC, 0): self.next}}

    def close(self):
        self.batches = []


class Source:
    gate = None

    def __init__(self, batches):
        self.batches = batches

    def list_parts(self):
        return ["0"]

    def build_part(self, step_id, for_part, resume_state):
        return Below(self, self.batches)


def ladder(monkeypatch, batches, due):
    """A part of the ladder's source whose messages are due as told, and its clock."""
    monkeypatch.setattr("headwater.flows.retry.due_at", lambda message: due[message.offset])
    now, hurry = [0], [False]
    part = RetrySource(Source(batches), lambda: now[0], lambda: hurry[0]).build_part("s", "0", None)
    return part, now, hurry


def offsets(pieces):
    return [message.offset for piece in pieces for message in piece.messages]


def test_what_is_not_due_waits_and_the_rung_is_paused(monkeypatch):
    """First in, first out; nothing more is read meanwhile; the snapshot begins with the first that waits, absent offsets before it too."""
    part, now, _ = ladder(monkeypatch, [([0, 1], []), ([4, 5], [(2, 4)]), ([6], [])], {0: 0, 1: 5, 4: 6, 5: 3, 6: 0})
    assert offsets(part.next_batch()) == [0] and part.snapshot()["next"] == {(TOPIC, 0): 1}
    assert part.next_batch() == [] and part._below.next == 2
    now[0] = 5
    assert offsets(part.next_batch()) == [1]
    assert part.next_batch() == [] and part.snapshot()["next"] == {(TOPIC, 0): 2}
    now[0] = 6
    [piece] = part.next_batch()
    assert (offsets([piece]), piece.absent, piece.next) == ([4, 5], [(2, 4)], 6)
    assert offsets(part.next_batch()) == [6] and part.snapshot()["next"] == {(TOPIC, 0): 7}


def test_in_a_hurry_nothing_waits(monkeypatch):
    """Before the embedded broker goes."""
    part, _, hurry = ladder(monkeypatch, [([0, 1], [])], {0: 9, 1: 99})
    assert part.next_batch() == []
    hurry[0] = True
    assert offsets(part.next_batch()) == [0, 1]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8, unique=True), st.data())
def test_every_offset_is_told_once_however_a_piece_is_cut(there, data):
    """Consumed and absent of the parts are those of the whole."""
    there = sorted(there)
    gaps = [(first, following) for first, following in zip([0, *(o + 1 for o in there)], there, strict=False) if first < following]
    due = {offset: data.draw(st.integers(0, 3)) for offset in there}
    left, told = Piece("b", TOPIC, 0, [message(o) for o in there], gaps), []
    for now in range(4):
        ready, left = left.due(lambda m: due[m.offset], now) if left else (None, None)
        told += ready.records("index", 1) if ready else []
    assert left is None
    said = sorted((o, record.kind) for record in told for o in range(record.first, record.next))
    assert said == [(o, "consumed" if o in there else "absent") for o in range(there[-1] + 1)]


def test_a_message_that_does_not_say_when_is_due():
    """Nothing waits for a stranger."""
    assert due_at(message(0)) == due_at(message(0)._replace(headers=[(DUE, b"soon")])) == 0


def test_word_comes_to_whom_it_concerns():
    """A position that arrived, or died, on another process's ladder: told by the one that reads its topic; others keep out of it."""
    progress, saved = Progress("b", lambda: 1), []
    logic = HearLogic(SimpleNamespace(progress=progress, save_progress=lambda: saved.append(1)))
    mine, dying, other = Position("b", "t", 0, 0), Position("b", "t", 0, 1), Position("b", "t", 1, 0)
    progress.settle("t", 0, 2)
    for position in (mine, dying):
        progress.moved(position)
        with pytest.raises(Behind):
            progress.wait([position], 0)
    logic.on_batch([Told(other)])
    assert not saved and not progress.reads(other)
    logic.on_batch([Told(mine), Told(dying, "d")])
    progress.wait([mine], 0)
    with pytest.raises(DeadLettered):
        progress.wait([dying], 0)
    assert saved and progress.moving() == 0
