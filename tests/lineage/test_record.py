"""Records: ranges of outcomes lose nothing, ids are stable."""

from hypothesis import given
from hypothesis import strategies as st

from headwater.lineage.event import Position
from headwater.lineage.message import decode_batch, encode_batch
from headwater.lineage.record import fact, outcomes

ends = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.sampled_from(["indexed", "passed", "dead_lettered"])), max_size=60)


@given(ends)
def test_outcome_ranges_cover_exactly_the_positions(pairs):
    """However positions end, their outcome ranges hold each of them once, with its outcome."""
    once = {(partition, offset): outcome for partition, offset, outcome in pairs}
    told = [(Position("b", "t", *place), once[place]) for place in sorted(once)]
    found = {}
    for record in outcomes("index", told, 0):
        assert record.count == record.next - record.first
        for offset in range(record.first, record.next):
            assert (record.partition, offset) not in found
            found[record.partition, offset] = record.outcome
    assert found == once


def test_neighbours_share_one_record():
    """A run of equal outcomes is one record, whatever its length."""
    told = [(Position("b", "t", 0, offset), "indexed") for offset in range(10_000)]
    assert [(r.first, r.next) for r in outcomes("index", told, 0)] == [(0, 10_000)]


def test_a_record_id_names_the_fact_not_the_moment():
    """The same fact told twice, at other times, is the same record; another fact is another."""
    first = fact("document", "index", "upsert", "d/1", logged=1, where=Position("b", "t", 0, 1))
    again = fact("document", "index", "upsert", "d/1", logged=2, where=Position("b", "t", 0, 1))
    other = fact("document", "index", "upsert", "d/1", logged=1, where=Position("b", "t", 0, 2))
    assert first.id == again.id != other.id


def test_a_batch_round_trips():
    """Records survive the lineage topic."""
    batch = [fact("note", "decide/x", "note", "d", logged=5, parents=("a", "b"), at=3, data={"text": "ü", "n": [1, 2.5, None]})]
    assert decode_batch(encode_batch(batch)) == batch
