import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.freshness import Progress, StoredProgress
from headwater.lineage.errors import Behind, DeadLettered, Gone, Misused
from headwater.lineage.event import Position


def progress(now=1_000_000):
    return Progress("b", lambda: now, ["t"])


def at(offset, broker="b", topic="t"):
    return Position(broker, topic, 0, offset)


def test_settled_positions_are_answered_at_once():
    """A position below the progress is waited for no longer."""
    p = progress()
    p.settle("t", 0, 5)
    p.wait([at(4), at(0)], timeout_s=0)
    assert p.as_of() == {"t/0": 5}


@given(st.lists(st.integers(0, 50)))
def test_progress_never_goes_back(steps):
    """Whatever is told in whatever order, `next` only grows, across restarts too."""
    p = progress()
    highest = 0
    for n, step in enumerate(steps):
        (p.settle if n % 3 else p.start)("t", 0, step)
        highest = max(highest, step)
        assert p.as_of() == {"t/0": highest}


WOKEN_BY = {
    "settled": (lambda p: p.settle("t", 0, 4), type(None)),
    "dead": (lambda p: p.dead_letter(at(3), "dl-1"), DeadLettered),
    "moved": (lambda p: p.moved(at(3)), Behind),
}


@pytest.mark.parametrize("told", WOKEN_BY)
def test_a_reader_is_woken_by_whatever_becomes_of_its_position(told):
    """However long it would wait: settled, dead-lettered or moved, it hears of it."""
    p, ends = progress(), []
    tell, ended = WOKEN_BY[told]
    reader = waiting(p, ends, [at(3)], None)
    tell(p)
    reader.join(30)
    assert [type(end) for end in ends] == [ended]


def test_a_reader_who_wants_it_fresh_is_woken_when_it_is():
    """Nothing becomes of a position then: the source stood at the end."""
    p, ends = progress(), []
    reader = waiting(p, ends, [], 200_000)
    p.at_end("t", 0, 900_000, 0)
    reader.join(30)
    assert [type(end) for end in ends] == [type(None)]


def waiting(p, ends, positions, max_staleness_us):
    """A thread that waits for these, and leaves how it ended."""

    def wait():
        try:
            p.wait(positions, 300, max_staleness_us)
        except Exception as error:
            ends.append(error)
        else:
            ends.append(None)

    reader = threading.Thread(target=wait, daemon=True)
    reader.start()
    while not p._readers:
        reader.join(0.001)
    return reader


def test_a_dead_letter_is_told_with_its_id_even_before_it_is_settled():
    """Waiting for a dead-lettered position is refused with the dead letter's id."""
    p = progress()
    p.dead_letter(at(3), "dl-1")
    with pytest.raises(DeadLettered) as refused:
        p.wait([at(3)], timeout_s=0)
    assert refused.value.details["id"] == "dl-1"


def test_another_life_of_the_broker_is_gone_and_an_unread_topic_misused():
    """Tokens of another broker's life are Gone, those of topics that the index does not read are Misused, both at once."""
    with pytest.raises(Gone):
        progress().wait([at(0, broker="old")], timeout_s=60)
    with pytest.raises(Misused, match="other"):
        progress().wait([at(0, topic="other")], timeout_s=60)


def test_behind_says_how_far():
    """When the time is up the refusal says how many events are missing and when to ask again."""
    p = progress()
    p.settle("t", 0, 5)
    with pytest.raises(Behind) as refused:
        p.wait([at(9)], timeout_s=0)
    assert refused.value.details["behind"] == {"t/0@9": 5} and refused.value.details["retry_after"] == 1


def test_a_moved_position_is_behind_until_it_arrives():
    """What went to the retry ladder is not searchable, though settled; once arrived it is."""
    p = progress()
    p.moved(at(2))
    p.settle("t", 0, 3)
    with pytest.raises(Behind, match="tried again"):
        p.wait([at(2)], timeout_s=60)
    p.arrived(at(2))
    p.wait([at(2)], timeout_s=0)


def test_a_waiter_wakes_when_its_position_is_settled():
    """Waiting ends by being told, not by looking at the clock."""
    p = progress()
    done = threading.Event()
    thread = threading.Thread(target=lambda: (p.wait([at(4)], timeout_s=60), done.set()))
    thread.start()
    for next in range(1, 6):
        assert not done.is_set()
        p.settle("t", 0, next)
    thread.join(30)
    assert done.is_set()


def test_staleness_counts_from_the_oldest_unsettled_event():
    """Behind: from the append time of the oldest unsettled event. Caught up: from the last moment at the end."""
    p = progress(now=1_000_000)
    p.start("t", 0, 0)
    p.note_appended("t", 0, 10, 400_000)
    p.note_appended("t", 0, 20, 600_000)
    assert p.staleness_ms() == 600.0
    p.settle("t", 0, 9)
    assert p.staleness_ms() == 600.0
    p.settle("t", 0, 10)
    assert p.staleness_ms() == 400.0
    p.at_end("t", 0, 900_000, 20)
    assert p.staleness_ms() == 400.0
    p.settle("t", 0, 20)
    assert p.staleness_ms() == 100.0


def test_the_end_counts_only_once_all_before_it_is_settled():
    """A source at the end of a partition whose events are still on their way does not make the index complete."""
    p = progress(now=1_000_000)
    p.start("t", 0, 0)
    p.at_end("t", 0, 900_000, 100)
    assert math.isinf(p.staleness_ms())
    p.settle("t", 0, 99)
    assert math.isinf(p.staleness_ms())
    p.settle("t", 0, 100)
    assert p.staleness_ms() == 100.0


def test_the_stalest_partition_counts_and_silence_is_no_freshness():
    """Staleness is that of the stalest partition; a topic not heard of yet makes it infinite."""
    p = Progress("b", lambda: 1_000_000, ["t", "u"])
    p.at_end("t", 0, 900_000, 0)
    assert math.isinf(p.staleness_ms())
    p.at_end("u", 0, 700_000, 0)
    assert p.staleness_ms() == 300.0
    with pytest.raises(Behind, match="behind"):
        p.wait([], timeout_s=0, max_staleness_us=200_000)
    p.wait([], timeout_s=0, max_staleness_us=300_000)


def test_a_partition_nobody_tells_of_is_no_freshness(world):
    """An index process that never came up stored nothing: its partitions are known to the reader, and make every answer's age unknown."""
    p = Progress("b", lambda: 1_000_000)
    p.at_end("notes", 0, 900_000)
    world.index.save_progress(p.rows())
    reader = StoredProgress(world.index, "b", lambda: 1_000_000, ["notes"], [("notes", 0), ("notes", 1)])
    with pytest.raises(Behind):
        reader.wait([], timeout_s=0, max_staleness_us=3_600_000_000)
    assert math.isinf(reader.staleness_ms()) and reader.as_of() == {"notes/0": 0, "notes/1": 0}
    p.at_end("notes", 1, 800_000)
    world.index.save_progress(p.rows())
    reader.wait([], timeout_s=0, max_staleness_us=200_000)


def test_what_was_learnt_is_not_stored_as_our_own():
    """Two processes index one topic: what one learnt of the other's partition at its start never overwrites what that one stores since."""
    theirs, ours = Progress("b", lambda: 0), Progress("b", lambda: 0)
    theirs.settle("t", 1, 5)
    ours.learn(theirs.rows())
    assert ours.rows() == []
    ours.settle("t", 0, 3)
    assert [(row.partition, row.next) for row in ours.rows()] == [(0, 3)]


def test_topics_that_are_no_longer_indexed_do_not_count():
    """Rows of a topic that the application indexed once would make every answer stale for ever."""
    before = Progress("b", lambda: 0)
    before.at_end("old", 0, 1)
    before.at_end("t", 0, 900_000)
    now = Progress("b", lambda: 1_000_000, ["t"], [("t", 0)])
    now.learn(before.rows())
    assert now.staleness_ms() == 100.0
    with pytest.raises(Misused, match="old"):
        now.wait([at(0, topic="old")], timeout_s=0)


def test_progress_goes_on_from_what_was_stored():
    """Resumed from an older snapshot, what was settled stays settled; what is read again makes nothing stale; the end counts again."""
    before = Progress("b", lambda: 0)
    before.settle("t", 0, 9)
    before.at_end("t", 0, 500_000, 9)
    p = Progress("b", lambda: 1_000_000, ["t"], [("t", 0)])
    p.learn(before.rows())
    p.start("t", 0, 6)
    p.note_appended("t", 0, 9, 100_000)
    p.wait([at(8)], timeout_s=0)
    assert p.as_of() == {"t/0": 9} and p.staleness_ms() == 500.0
    p.at_end("t", 0, 900_000, 9)
    assert p.staleness_ms() == 100.0


def test_progress_travels_through_the_store(world):
    """What the index flow saves, a reader of another process learns before it answers; another broker's rows say nothing."""
    p = Progress("b", lambda: 1_000_000)
    p.settle("notes", 0, 7)
    p.dead_letter(at(3, topic="notes"), "dl")
    p.moved(at(4, topic="notes"))
    p.at_end("notes", 0, 900_000)
    p.start("idle", 0, 0)
    world.index.save_progress(p.rows())
    other = Progress("earlier", lambda: 0)
    other.settle("old", 0, 99)
    world.index.save_progress(other.rows())
    reader = StoredProgress(world.index, "b", lambda: 1_000_000)
    reader.wait([], timeout_s=0)
    assert reader.as_of() == {"notes/0": 7} and reader.staleness_ms() == 100.0
    with pytest.raises(DeadLettered):
        reader.wait([at(3, topic="notes")], timeout_s=0)
    with pytest.raises(Behind):
        reader.wait([at(4, topic="notes")], timeout_s=0)
    p.settle("notes", 0, 8)
    world.index.save_progress(p.rows())
    reader.wait([at(7, topic="notes")], timeout_s=30)
    assert Progress.from_json(p.to_json(), "b", lambda: 0).as_of() == {"notes/0": 8}
