"""The best of a search are the same whether all that could count was fetched, or only what settles them."""

from types import SimpleNamespace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from headwater.enrichers.engine import Found
from headwater.enrichers.rank import Need, fuse, ranking, settled, widened

IDS = [f"{n:02}" for n in range(40)]
noise = st.lists(st.integers(0, 6), min_size=40, max_size=40)
halves = st.one_of(noise.map(lambda more: [n // 2 + each for n, each in enumerate(more)]), noise)
"""Scores of the ids, with ties: of some halves the later ids have higher ones, as of texts that answer both ways, of others any."""


def hit(id, score):
    return Found(score, SimpleNamespace(id=id))


@settings(max_examples=400)
@given(st.lists(halves, min_size=1, max_size=2), st.sets(st.sampled_from(IDS)), st.integers(4, 30), st.integers(1, 4), st.data())
def test_what_is_settled_is_what_more_would_give(said, dead, width, limit, data):
    """Ties, hits that do not count, and however few are fetched first: once settled, the best have the scores of the long way."""
    weights = (1.0, 3.0)[: len(said)]
    found = [[hit(id, score) for id, score in sorted(zip(IDS, half, strict=True), key=lambda pair: -pair[1])] for half in said]

    def counting(ids):
        return {id: id for id in ids if id not in dead}

    firsts = [data.draw(st.integers(width, 40)) for _ in found]
    rankings = [ranking(half[:first], first, counting, Need(width)) for half, first in zip(found, firsts, strict=True)]
    long = [
        widened(one, first, lambda more, half=half: half[:more], counting, Need(width))
        for one, first, half in zip(rankings, firsts, found, strict=True)
    ]
    best = fuse([one.groups for one in long], limit, weights)
    if settled(rankings, weights, limit):
        event(f"settled early: {any(one.wanting for one in rankings)}")
        assert fuse([one.groups for one in rankings], limit, weights) == best
    assert settled(long, weights, limit)


def test_the_words_of_a_record_settle_what_ties_below_them():
    """Ten texts that both halves put first are the best, whatever the hundreds are that share the score after them."""
    first = [hit(id, 90.0 - n) for n, id in enumerate(IDS[:10])]
    words = [*first, *(hit(f"x{n}", 0.5) for n in range(70))]

    def counting(ids):
        return dict.fromkeys(ids, "note/a")

    meaning = ranking(first, 80, counting, Need(64))
    tied = ranking(words, 80, counting, Need(64))
    assert tied.wanting and tied.rank == 11
    assert settled([meaning, tied], (1.0, 3.0), 10)
    assert not settled([meaning, tied], (1.0, 3.0), 11)


def test_the_best_is_not_settled_while_the_other_half_may_raise_it():
    """It may be in the crowd that the other half has cut: its score would be another, whoever else comes near it or not."""
    near = [hit(f"m{n}", 90.0 - n) for n in range(60)] + [hit(f"t{n}", 1.0) for n in range(20)]
    meaning = ranking(near, 80, lambda ids: dict.fromkeys(ids, "note/a"), Need(64))
    words = ranking([hit("x", 9.0), hit("y", 8.0)], 80, lambda ids: dict.fromkeys(ids, "note/a"), Need(64))
    assert meaning.wanting and meaning.rank == 61 and not words.wanting
    assert not settled([meaning, words], (1.0, 3.0), 1)


def test_ties_that_are_all_known_are_settled():
    """Which of equals comes last among the best, their ids decide: none of them need be looked for again."""
    words = [hit(id, 9.0) for id in IDS[:15]] + [hit(f"x{n}", 0.5) for n in range(65)]
    tied = ranking(words, 80, lambda ids: dict.fromkeys(ids, "note/a"), Need(64))
    assert tied.wanting and settled([tied], (3.0,), 10) and settled([tied], (3.0,), 15) and not settled([tied], (3.0,), 16)


@given(
    st.one_of(*(st.lists(st.sampled_from([1.0] + [2.0] * 8 + more), min_size=20, max_size=60) for more in ([], [3.0]))),
    st.lists(st.integers(0, 59), max_size=8, unique=True),
    st.one_of(st.sets(st.integers(0, 59)), st.integers(0, 40).map(lambda many: set(range(many)))),
    st.integers(1, 2),
)
def test_of_a_crowd_that_ties_only_those_that_can_be_best_are_looked_at(scores, meant, dead, limit):
    """A group of any size, whoever of it does not count or was found by meaning as well: the best are those of looking at all."""
    width = 4 * limit
    names = {n: f"{n:02}" for n in range(60)}
    words = sorted((hit(names[n], score) for n, score in enumerate(scores)), key=lambda one: -one.score)
    meaning = [hit(names[n], 1.0 - n / 100) for n in meant]
    looked = set()

    def counting(ids):
        looked.update(ids)
        return {id: id for id in ids if int(id) not in dead}

    beside = ranking(meaning, 100, counting, Need(width))
    looked.clear()
    few = ranking(words, 100, counting, Need(width, others={one.id for one in meaning}))
    most, tied = len(looked), max((scores.count(score) for score in scores), default=0)
    event(f"looked at fewer than tie: {most < tied}")
    every = ranking(words, 100, counting, Need(width))
    best = [fuse([beside.groups, one.groups], limit, (1.0, 3.0)) for one in (few, every)]
    assert best[0] == best[1]
