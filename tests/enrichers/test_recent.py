"""Recent: what came before an event follows from the topic alone."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.enrichers.recent import WINDOWS, Recent
from headwater.lineage.decode import Received
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Event, Position


class Reading(BaseModel):
    gauge: str
    n: int


class Log:
    """One partition: gauges by offset, None where there is nothing (a marker, what cannot be decoded)."""

    def __init__(self, gauges, kept_from=0):
        self.gauges, self.kept_from, self.read_again = gauges, kept_from, []

    def at(self, offset):
        gauge = self.gauges[offset]
        event = Event(id=f"e{offset}", source="s", type="t", time=1)
        return None if gauge is None else Received(Position("b", "readings", 0, offset), event, Reading(gauge=gauge, n=offset), 1)

    def read(self, topic, partition, first, until):
        self.read_again.append((first, until))
        return [one for offset in range(max(first, self.kept_from), until) if (one := self.at(offset))]

    def before(self, offset, many, reach):
        same = [n for n in range(max(0, offset - reach, self.kept_from), offset) if self.gauges[n] == self.gauges[offset]]
        return same[::-1][:many]


def numbers(answers):
    return [[row["n"] for row in known.facts] for known in answers]


@given(
    st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 59), st.integers(1, 9)), min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(4, 12),
)
@example(["a"] * 11, [(2, 9), (0, 2)], 1, 4)
def test_facts_follow_from_the_topic_alone(gauges, asked, many, reach):
    """In whatever order, pieces and repetitions events are asked for, each gets the rows that stand before it in the log."""
    log = Log(gauges)
    recent = Recent(many, by="gauge", reach=reach)
    recent.read = log.read
    for start, size in asked:
        batch = [one for offset in range(start, min(start + size, len(gauges))) if (one := log.at(offset))]
        answers = recent.facts_of(batch)
        assert numbers(answers) == [log.before(one.position.offset, many, reach) for one in batch]
        for known in answers:
            assert known.reads == [f"readings/0@{row['n']}" for row in known.facts]


def test_a_flow_that_goes_on_reads_nothing_again():
    """Where no offset is missing, the events at hand are enough; after a restart the reach is read once."""
    log = Log(["a", "b"] * 500)
    recent = Recent(2, by="gauge", reach=10)
    recent.read = log.read
    for start in range(0, 1000, 50):
        recent.facts_of([log.at(offset) for offset in range(start, start + 50)])
    assert log.read_again == []
    again = Recent(2, by="gauge", reach=10)
    again.read = log.read
    assert numbers(again.facts_of([log.at(500)])) == [[498, 496]]
    assert numbers(again.facts_of([log.at(501)])) == [[499, 497]]
    assert log.read_again == [(490, 501)]


def test_readers_at_different_places_keep_windows_of_their_own():
    """Two flows, one far behind the other, do not make each other read again; windows and what they hold are bounded."""
    log = Log(["a"] * 2000)
    recent = Recent(1, by="gauge", reach=10)
    recent.read = log.read
    for n in range(50):
        assert numbers(recent.facts_of([log.at(n), log.at(n + 1)])) == [[n - 1] if n else [], [n]]
        assert numbers(recent.facts_of([log.at(1000 + n)])) == [[999 + n]]
    assert log.read_again == [(990, 1001)]
    for offset in range(100, 1900, 100):
        recent.facts_of([log.at(offset)])
    [windows] = recent._windows.values()
    assert len(windows) == WINDOWS and all(len(window.order) <= 22 for window in windows)


def test_beyond_the_bounds_there_are_fewer_rows():
    """What lies further back than the reach, or is no longer kept by the broker, is not there."""
    log = Log(["a", *["b"] * 20, "a", "a"], kept_from=18)
    recent = Recent(3, by="gauge", reach=10)
    recent.read = log.read
    assert numbers(recent.facts_of([log.at(22)])) == [[21]]
    assert numbers(recent.facts_of([log.at(20)])) == [[19, 18]]


def test_without_a_reader_what_passed_here_is_known():
    """In memory, as in tests of applications, the events at hand are the topic."""
    log = Log(["a", "b", "a", "a"])
    recent = Recent(2, by="gauge")
    assert numbers([recent.facts_of([log.at(offset)])[0] for offset in range(4)]) == [[], [], [0], [2, 0]]


def test_a_topic_that_cannot_be_read_fails_for_now():
    """A broker that does not answer is no missing row: the events are to be tried again."""
    recent = Recent(1, by="gauge")

    def refuse(*asked):
        raise Unavailable("no broker")

    recent.read = refuse
    with pytest.raises(Unavailable):
        recent.facts_of([Log(["a", "a"]).at(1)])
    recent.read = Log(["a", "a"]).read
    assert numbers(recent.facts_of([Log(["a", "a"]).at(1)])) == [[0]]


def test_senseless_bounds_are_misused():
    """At least one row, within reach."""
    for many, reach in ((0, 5), (6, 5)):
        with pytest.raises(Misused, match="reach"):
            Recent(many, by="gauge", reach=reach)
