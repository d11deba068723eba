"""Event-time order: watermark, lateness, marks, idleness."""

from dataclasses import replace

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.detect import Detector, State, Step
from headwater.agents.order import LOOK, NEVER, RECENT, Ends
from headwater.agents.rules import Rate, Threshold
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import Gone, Misused
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

S = 1_000_000
NOW = 1_000 * S


class Ping(msgspec.Struct):
    host: str
    up: bool = False


pings = Topic("pings", Ping, key="host", partitions=2, lateness="2s", idle_after="5s")
down = Rate("down", of=pings, where=~pl.col("up"), per="host", within="10s", opens_at=0.5, closes_at=0.2)


def ping(partition: int, offset: int, second: float, *, id: str = "", host: str = "h", broker: str = "b", up: bool = False) -> Received:
    event = Event(id=id or f"{partition}-{offset}", source="test", type="ping", time=round(second * S))
    return Received(Position(broker, "pings", partition, offset), event, Ping(host, up), appended=0)


def mark(partition: int, offset: int, second: float) -> Received:
    event = Event(id=f"mark-{partition}-{offset}", source="test", type=MARK, time=round(second * S))
    return Received(Position("b", "pings", partition, offset), event, None, appended=0)


class Bench:
    """A detector with its state, driven by hand."""

    def __init__(self, *rules: Rate | Threshold, idle: bool = False) -> None:
        self.detector = Detector(pings, rules or [down], idle=idle)
        self.state: State = self.detector.start(NOW)

    def step(self, *received: Received, now: int = NOW) -> Step:
        """Both sources stand at their ends: all there is was read."""
        return self.detector.step(self.state, self.detector.signals(received), now, [now, now])

    def tick(self, now: int, ends: Ends | None = None) -> Step:
        return self.detector.tick(self.state, now, [now, now] if ends is None else ends)

    def wake_at(self, now: int) -> int | None:
        return self.detector.wake_at(self.state, now, [now, now])

    @property
    def watermark(self) -> int:
        return self.detector.watermark(self.state)


def ended(step: Step) -> list[tuple[int, int, str]]:
    return [(where.partition, where.offset, outcome) for where, outcome in step.outcomes]


def test_the_watermark_is_the_least_over_all_partitions() -> None:
    """A partition that has not spoken holds everything; then the slowest one sets the pace, minus the lateness."""
    bench = Bench()
    assert ended(bench.step(ping(0, 0, 100), ping(0, 1, 200))) == []
    assert bench.watermark == NEVER
    assert bench.detector.waiting(bench.state) == [2, 0]
    assert ended(bench.step(ping(1, 0, 150))) == [(0, 0, "passed")]
    assert bench.watermark == 148 * S
    assert bench.detector.waiting(bench.state) == [1, 1]


def test_an_event_at_the_watermark_waits_for_its_equals() -> None:
    """Only what is earlier than the watermark is released: an equal may still arrive in time, and ties go by id."""
    bench = Bench()
    bench.step(ping(0, 0, 98, id="z"), ping(0, 1, 100), mark(1, 0, 500))
    assert bench.watermark == 98 * S
    step = bench.step(ping(0, 2, 98, id="a"), ping(0, 3, 103))
    assert [cause.id for cause in step.activations[0].events] == ["a"]
    assert ended(step) == [(0, 0, "passed"), (0, 1, "passed"), (0, 2, "passed")]


def test_lateness_is_judged_within_the_partition() -> None:
    """An event is late by what its own partition showed before it, not by how far the others happen to be."""
    bench = Bench()
    step = bench.step(ping(0, 0, 100), ping(0, 1, 97), ping(0, 2, 98))
    assert ended(step) == [(0, 1, "late")]
    assert bench.watermark == NEVER


def test_a_mark_moves_the_watermark_without_lateness_and_ends_at_once() -> None:
    """After a mark at T nothing earlier than T follows: T itself is the partition's floor, and what comes below it is late."""
    bench = Bench()
    assert ended(bench.step(mark(0, 0, 100), mark(1, 0, 100))) == [(0, 0, "passed"), (1, 0, "passed")]
    assert bench.watermark == 100 * S
    assert ended(bench.step(ping(0, 1, 99.5))) == [(0, 1, "late")]


def test_an_end_mark_releases_everything() -> None:
    """The end of a finite replay is an event in the stream: after end marks in all partitions nothing waits."""
    bench = Bench()
    bench.step(ping(0, 0, 100), ping(1, 0, 120))
    step = bench.step(mark(0, 1, 10**9), mark(1, 1, 10**9))
    assert ended(step) == [(0, 0, "passed"), (0, 1, "passed"), (1, 0, "passed"), (1, 1, "passed")]
    assert [one.phase for one in step.activations] == ["opened", "closed"] * 2


def test_an_event_told_twice_counts_once() -> None:
    """The second copy of an event id within the lateness ends `passed` and is shown to no rule, in whatever partition it lies."""
    rule = Rate("many", of=pings, where=~pl.col("up"), per=None, within="10s", opens_at=0.5, closes_at=0.2, at_least=2)
    bench = Bench(rule)
    step = bench.step(ping(0, 0, 100, id="x", host="a"), ping(1, 0, 101, id="x", host="b"), mark(0, 1, 500), mark(1, 1, 500))
    assert step.activations == []
    assert ended(step) == [(0, 0, "passed"), (0, 1, "passed"), (1, 0, "passed"), (1, 1, "passed")]


def test_a_silent_partition_stops_holding_the_watermark_and_it_is_recorded() -> None:
    """After `idle_after` of wall clock the others go on without it; the return value and a record say so; it holds again once it speaks."""
    bench = Bench(idle=True)
    bench.step(ping(0, 0, 100), ping(0, 1, 110), ping(1, 0, 90))
    quiet = bench.step(ping(0, 2, 120), now=NOW + 5 * S)
    assert quiet.idle is not None
    assert (quiet.idle.partitions, quiet.idle.clock, quiet.idle.after) == ((1,), False, 118 * S)
    assert [record.data["partitions"] for record in quiet.records if record.kind == "idle"] == [[1]]
    back = bench.step(ping(1, 1, 117), ping(1, 2, 119), now=NOW + 6 * S)
    assert ended(back) == [(1, 1, "late")]
    assert [record.data["partitions"] for record in back.records if record.kind == "idle"] == [[]]
    assert bench.watermark == 118 * S


def test_when_all_are_silent_the_clock_moves_the_watermark() -> None:
    """All partitions idle: the watermark follows the wall clock minus the lateness, waiting events are released, windows empty."""
    bench = Bench(idle=True)
    second = NOW // S
    bench.step(ping(0, 0, second), ping(1, 0, second - 1, up=True, host="g"))
    assert bench.tick(NOW + 5 * S - 1).idle is None
    released = bench.tick(NOW + 5 * S)
    assert ended(released) == [(0, 0, "passed"), (1, 0, "passed")]
    assert released.idle is not None
    assert released.idle.clock
    assert bench.watermark == NOW + 3 * S
    assert bench.tick(NOW + 12 * S).activations == []
    closed = bench.tick(NOW + 12 * S + 1)
    assert [(one.phase, one.at) for one in closed.activations] == [("closed", NOW + 10 * S)]
    assert [record.data["clock"] for record in closed.records if record.kind == "idle"] == [True]


@pytest.mark.parametrize(
    "ends", [(), (None, None), (NOW - 1, NOW + 60 * S), (NOW + 60 * S, None), (NOW + 59 * S - 1, NOW + 60 * S), (NOW + 60 * S,)]
)
def test_silence_is_no_idleness_while_the_source_is_not_known_to_be_at_its_end(ends: Ends) -> None:
    """Unread, unknown, at its end before the last arrival or too long ago: such a partition holds the watermark, however long a silence."""
    bench = Bench(idle=True)
    bench.step(ping(0, 0, 100), ping(1, 0, 90))
    later = NOW + 60 * S
    held = bench.watermark
    partial = bench.tick(later, ends)
    assert partial.idle is None or not partial.idle.clock
    wake = bench.detector.wake_at(bench.state, later, ends)
    assert wake is not None
    assert wake <= later + LOOK
    assert bench.watermark <= max(held, 98 * S)
    backlog = bench.step(ping(0, 1, 99), ping(1, 1, 99), now=later)
    assert [each for each in ended(backlog) if each[2] == "late"] == []


def test_an_end_before_the_last_arrival_says_nothing() -> None:
    """With an `idle_after` shorter than an end is believed: what arrived since the end may be the first of many."""
    detector = Detector(replace(pings, idle_after="100ms"), [down])
    state = detector.start(NOW - S)
    detector.step(state, detector.signals([ping(0, 0, 100), ping(1, 0, 90)]), NOW)
    later = NOW + S // 5
    assert detector.tick(state, later, [NOW - 1, NOW - 1]).idle is None
    assert detector.tick(state, later, [NOW, NOW]).idle is not None


def test_the_clock_moves_the_watermark_no_further_than_the_sources_have_looked() -> None:
    """All are idle: what was appended after a source last stood at its end is not known, so time has come no further than that."""
    bench = Bench(idle=True)
    bench.step(ping(0, 0, 100), ping(1, 0, 90))
    later = NOW + 60 * S
    assert bench.tick(later, [later, later - RECENT]).idle is not None
    assert bench.watermark == later - RECENT - 2 * S


def test_what_waits_for_others_alone_is_told_apart() -> None:
    """Of the partition that holds the watermark nothing is `ahead`, however much waits for its own lateness: it is never paused."""
    bench = Bench()
    bench.step(*(ping(0, offset, 100 + offset) for offset in range(10)), *(ping(1, offset, 90) for offset in range(5)))
    assert bench.detector.waiting(bench.state) == [10, 5]
    assert bench.detector.ahead(bench.state) == [7, 0]


def test_without_the_idle_path_time_moves_nothing() -> None:
    """Replays switch idleness off: however long a silence, only events and marks move the watermark."""
    bench = Bench(idle=False)
    bench.step(ping(0, 0, 100), ping(1, 0, 100))
    assert bench.tick(NOW + 10**12) == Step([], [], [], None)
    assert bench.detector.wake_at(bench.state, NOW) is None
    assert bench.watermark == 98 * S


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-30, 3), st.integers(0, 8)), min_size=1, max_size=8),
    st.integers(0, 20),
)
def test_wake_at_is_the_first_moment_at_which_time_does_something(arrivals: list[tuple[int, int, int]], pause: int) -> None:
    """A tick just before `wake_at` gives nothing that a tick now does not; a tick at `wake_at` takes the idle path further."""
    bench, now, offsets = Bench(idle=True), NOW, [0, 0]
    for partition, second, wait in arrivals:
        now += wait * S
        bench.step(ping(partition, offsets[partition], NOW // S + second, host=f"h{second % 3}"), now=now)
        offsets[partition] += 1
    now += pause * S
    bench.tick(now)
    wake = bench.wake_at(now)
    if wake is None:
        assert not any(bench.detector.waiting(bench.state))
        return
    assert wake > now
    before = bench.tick(wake - 1)
    assert (before.activations, before.outcomes, before.records) == ([], [], [])
    if wake < now + 60 * S:
        assert bench.tick(wake).idle is not None


def test_after_a_restart_silence_counts_from_now() -> None:
    """A partition is not taken for idle because the process was down."""
    bench = Bench(idle=True)
    bench.step(ping(0, 0, 100), ping(1, 0, 90))
    later = NOW + 3_600 * S
    state = bench.detector.restore(bench.detector.snapshot(bench.state), later)
    assert bench.detector.tick(state, later + 5 * S - 1).idle is None


def test_a_state_goes_on_under_changed_rules() -> None:
    """Levels may change under a running rule; a rule that reads otherwise, or is new, starts afresh; a dropped one is forgotten."""
    other = Rate("other", of=pings, where=pl.col("up"), per="host", within="10s", opens_at=0.5, closes_at=0.2)
    bench = Bench(other, down)
    opened = bench.step(ping(0, 0, 100), ping(0, 1, 110), mark(1, 0, 105)).activations[0]
    louder = Rate("down", of=pings, where=~pl.col("up"), per="host", within="10s", opens_at=0.9, closes_at=0.5)
    fresh = Rate("fresh", of=pings, where=~pl.col("up"), per="host", within="10s", opens_at=0.5, closes_at=0.2)
    new = Detector(pings, [fresh, louder], idle=False)
    state = new.restore(bench.detector.snapshot(bench.state), NOW)
    step = new.step(state, new.signals([ping(0, 2, 115), mark(0, 3, 500), mark(1, 1, 500)]), NOW)
    fired = [(one.rule, one.phase, one.at // S, one.total) for one in step.activations]
    assert fired == [("fresh", "opened", 115, 1), ("down", "closed", 125, 0), ("fresh", "closed", 125, 0)]
    assert step.activations[1].episode == opened.id
    assert set(state["groups"]) == {"fresh", "down"}


one_partition = Topic("pings", Ping, key="host", lateness="2s", idle_after="5s")
UP = pl.col("up").cast(pl.Float64)
beats = Topic("pings", Ping, partitions=2, lateness="2s", idle_after="5s")
failing = Rate("down", of=beats, where=~pl.col("up"), per="host", within="10s", opens_at=0.5, closes_at=0.2)


def test_a_new_partition_begins_where_the_watermark_stands() -> None:
    """Growing touches nothing that was released; the new one holds the watermark from then on; its past is late."""
    detector = Detector(beats, [failing], idle=False)
    state = detector.start(NOW)
    step = detector.step(state, detector.signals([ping(0, 0, 100), ping(1, 0, 104), mark(0, 1, 103), mark(1, 1, 110)]), NOW)
    assert len(step.activations) == 1
    before = detector.watermark(state)
    detector.grow(state, 3, NOW)
    assert detector.tick(state, NOW).outcomes == [] and detector.watermark(state) == before
    detector.step(state, detector.signals([mark(0, 2, 200), mark(1, 2, 200)]), NOW)
    assert detector.watermark(state) == before
    step = detector.step(state, detector.signals([ping(2, 0, 102), ping(2, 1, 107)]), NOW)
    assert (Position("b", "pings", 2, 0), "late") in step.outcomes
    assert before < detector.watermark(state) == 105 * S
    step = detector.step(state, detector.signals([mark(2, 2, 200)]), NOW)
    assert (Position("b", "pings", 2, 1), "passed") in step.outcomes


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=40), st.integers(0, 40))
def test_growing_never_moves_the_watermark_back(events: list[tuple[int, int]], at: int) -> None:
    """Whenever partitions are added, each event ends once, and the watermark never falls."""
    detector = Detector(beats, [failing], idle=False)
    state, offsets, ended, before = detector.start(NOW), [0] * 4, [], NEVER
    for number, (partition, second) in enumerate(events):
        if number == at:
            detector.grow(state, 4, NOW)
        partition %= detector.partitions
        step = detector.step(state, detector.signals([ping(partition, offsets[partition], second)]), NOW)
        offsets[partition] += 1
        ended += [position for position, _ in step.outcomes]
        assert detector.watermark(state) >= before
        before = detector.watermark(state)
    ended += [position for position, _ in detector.finish(state, NOW).outcomes]
    assert sorted(ended) == [Position("b", "pings", p, offset) for p, many in enumerate(offsets) for offset in range(many)]


def test_a_snapshot_of_fewer_partitions_is_gone_on_with() -> None:
    """Of a topic without a key: its state is restored into more partitions, and one that knows of more than we do yet is kept whole."""
    few, many = Detector(beats, [failing], idle=False), Detector(beats, [failing], 3, idle=False)
    state = few.start(NOW)
    few.step(state, few.signals([ping(0, 0, 100), mark(0, 1, 103), mark(1, 0, 110)]), NOW)
    grown = many.restore(few.snapshot(state), NOW)
    assert many.watermark(grown) == few.watermark(state) and len(grown["cut"]) == len(grown["order"]["floors"]) == 3
    few.restore(many.snapshot(grown), NOW)
    assert few.partitions == 3


def test_a_migrated_topic_is_gone_on_with() -> None:
    """A keyed topic that was grown while its flows stood: what the rules remember holds in more partitions."""
    bench = Bench()
    bench.step(ping(0, 0, 100), ping(1, 0, 100))
    detector = Detector(pings, [down], 3)
    state = detector.restore(bench.detector.snapshot(bench.state), NOW)
    assert len(state["cut"]) == 3 and detector.watermark(state) == bench.detector.watermark(bench.state)


def test_a_keyed_topic_does_not_grow() -> None:
    """Keys that lie elsewhere than before would be seen out of order, so the rules refuse while they run."""
    bench = Bench()
    with pytest.raises(Misused, match="keyed"):
        bench.detector.grow(bench.state, 3, NOW)


def test_a_rule_of_one_partition_goes_on_in_two() -> None:
    """What a rule said at once while there was one partition, it does not say again when the event is released in order."""
    single = Topic("pings", Ping, lateness="2s")
    seen = Threshold("seen", of=single, value=pl.col("up").cast(pl.Float64), per="host", opens_at=0.5, closes_at=0.2)
    detector = Detector(single, [seen], idle=False)
    state = detector.start(NOW)
    first = detector.step(state, detector.signals([ping(0, 0, 100, up=True)]), NOW)
    detector.grow(state, 2, NOW)
    rest = detector.step(state, detector.signals([mark(0, 1, 300), mark(1, 0, 300)]), NOW)
    assert len(first.activations) == 1 and rest.activations == []
    assert rest.outcomes[0] == (Position("b", "pings", 0, 0), "passed")


def test_a_snapshot_of_something_else_is_refused() -> None:
    """A keyed topic's state of more partitions than it has, or one of another broker's life, is never gone on with."""
    bench = Bench()
    bench.step(ping(0, 0, 100))
    with pytest.raises(Misused, match=r"2 partitions.*empty recovery store"):
        Detector(one_partition, [Threshold("up", of=one_partition, value=UP, per="host", opens_at=0.5, closes_at=0.2)]).restore(
            bench.detector.snapshot(bench.state), NOW
        )
    with pytest.raises(Gone, match=r"broker b.*other"):
        bench.step(ping(0, 1, 101, broker="other"))
    with pytest.raises(Gone, match="two brokers"):
        bench.step(ping(0, 1, 101), ping(0, 2, 101, broker="other"))
