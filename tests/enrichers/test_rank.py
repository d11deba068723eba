"""The best of a search are the same whether all that could count was fetched, or only what settles them."""

from itertools import accumulate

from hypothesis import event, given
from hypothesis import strategies as st

from headwater.enrichers.engine import Found
from headwater.enrichers.rank import fuse, ranking, settled, widened

IDS = [f"{n:02}" for n in range(40)]
halves = st.lists(st.integers(0, 3), min_size=40, max_size=40).map(lambda steps: list(accumulate(steps)))
"""Scores of the ids, the first the least: with ties, and near to one another in order."""


@given(st.lists(halves, min_size=1, max_size=2), st.sets(st.sampled_from(IDS)), st.integers(10, 30), st.integers(1, 4), st.data())
def test_what_is_settled_is_what_more_would_give(said, dead, width, limit, data):
    """Ties, hits that do not count, and however few are fetched first: once settled, the best have the scores of the long way."""
    weights = (1.0, 3.0)[: len(said)]
    found = [[Found(id, score) for id, score in sorted(zip(IDS, half, strict=True), key=lambda pair: -pair[1])] for half in said]

    def counting(ids):
        return {id: id for id in ids if id not in dead}

    firsts = [data.draw(st.integers(width, 40)) for _ in found]
    rankings = [ranking(half[:first], first, counting, width, 1) for half, first in zip(found, firsts, strict=True)]
    long = [
        widened(one, first, lambda more, half=half: half[:more], counting, width, 1)
        for one, first, half in zip(rankings, firsts, found, strict=True)
    ]
    best = fuse([one.groups for one in long], limit, weights)
    if settled(rankings, weights, limit):
        event(f"settled early: {any(one.wanting for one in rankings)}")
        assert fuse([one.groups for one in rankings], limit, weights) == best
    assert settled(long, weights, limit)


def test_the_words_of_a_record_settle_what_ties_below_them():
    """Ten texts that both halves put first are the best, whatever the hundreds are that share the score after them."""
    first = [Found(id, 90.0 - n) for n, id in enumerate(IDS[:10])]
    words = [*first, *(Found(f"x{n}", 0.5) for n in range(70))]

    def counting(ids):
        return dict.fromkeys(ids, "note/a")

    meaning = ranking(first, 80, counting, 64, 1)
    tied = ranking(words, 80, counting, 64, 1)
    assert tied.wanting and tied.rank == 11
    assert settled([meaning, tied], (1.0, 3.0), 10)
    assert not settled([meaning, tied], (1.0, 3.0), 11)


def test_ties_that_are_all_known_are_settled():
    """Which of equals comes last among the best, their ids decide: none of them need be looked for again."""
    words = [Found(id, 9.0) for id in IDS[:15]] + [Found(f"x{n}", 0.5) for n in range(65)]
    tied = ranking(words, 80, lambda ids: dict.fromkeys(ids, "note/a"), 64, 1)
    assert tied.wanting and settled([tied], (3.0,), 10) and settled([tied], (3.0,), 15) and not settled([tied], (3.0,), 16)
