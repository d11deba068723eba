"""Runs: joining ranges before they travel changes how they are cut, and nothing else."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headwater.lineage.event import Position
from headwater.lineage.record import Kind, Record, fact, run_of
from headwater.lineage.runs import Runs

KINDS: list[tuple[Kind, str]] = [("consumed", ""), ("absent", ""), ("outcome", "indexed"), ("outcome", "passed"), ("outcome", "waiting")]
batches = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 5), st.sampled_from(KINDS)), max_size=60)


def told(records) -> Counter:
    """How often each offset was told, of each lane, and how many messages each lane counts."""
    found: Counter = Counter()
    for record in records:
        lane = (record.kind, record.flow, record.partition, record.outcome)
        found[(*lane, "count")] += record.count
        found.update((*lane, offset) for offset in range(record.first, record.next))
    return found


@given(batches, st.sets(st.integers(0, 60)))
def test_any_sequence_of_batches_tells_the_same(steps, cuts):
    """Whatever batches with whatever gaps come, and whenever what was joined is taken: the same offsets, as often, with the same counts."""
    following: Counter = Counter()
    plain: list[Record] = []
    for partition, gap, length, (kind, outcome) in steps:
        first = following[partition, kind, outcome] + gap
        following[partition, kind, outcome] = first + length
        plain.append(run_of(kind, "f", Position("b", "t", partition, first), first + length, length, 0, outcome))
    runs, out = Runs(), []
    for number, record in enumerate(plain):
        assert runs.add(record)
        if number in cuts:
            out += itertools.chain(*runs.take())
    held = len(runs)
    rest = list(itertools.chain(*runs.take()))
    assert len(rest) == held
    assert told(out + rest) == told(plain)
    assert len(runs) == 0


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), max_size=30))
def test_what_was_told_twice_stays_told_twice(ranges):
    """Ranges that overlap are never made one: verify must still see each of them."""
    plain = [run_of("consumed", "f", Position("b", "t", 0, first), first + length, length, 0) for first, length in ranges]
    runs = Runs()
    assert all(runs.add(record) for record in plain)
    assert told(runs.take()[0]) == told(plain)


def test_neighbours_become_the_record_that_one_batch_would_have_told():
    """A joined run is equal to the run told at once, its id included, with the time of its last part."""
    runs = Runs()
    for first in range(0, 1000, 10):
        runs.add(run_of("consumed", "f", Position("b", "t", 0, first), first + 10, 10, first))
    assert runs.take() == ([run_of("consumed", "f", Position("b", "t", 0, 0), 1000, 1000, 990)], [])


def test_what_says_more_than_where_is_not_taken():
    """Facts, and outcomes that name a decision or a successor, stay whole."""
    runs = Runs()
    where = Position("b", "t", 0, 1)
    assert not runs.add(run_of("outcome", "f", where, 2, 1, 0, "acted", "decision"))
    assert not runs.add(fact("note", "f", "s", "x", logged=1, where=where))
    assert not runs.add(fact("outcome", "f", "s", "", logged=1, where=where, outcome="passed", data={"why": "x"}))
    assert len(runs) == 0


def test_read_and_ended_are_apart():
    """What was read comes first, so that it is never told after how it ended."""
    runs = Runs()
    for kind, outcome in reversed(KINDS):
        runs.add(run_of(kind, "f", Position("b", "t", 0, 0), 1, 1, 0, outcome))
    read, ended = runs.take()
    assert {record.kind for record in read} == {"consumed", "absent"}
    assert {record.outcome for record in ended} == {"indexed", "passed", "waiting"}
