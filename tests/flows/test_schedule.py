"""Schedules: each due time fires once, whatever restarts; what was missed is made up for as declared; clock changes as in Debian's cron."""

import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater import Schedule, Topic
from headwater.flows.firing import Firing
from headwater.flows.gateway import Gateway
from headwater.lineage.duration import format_time, parse_time
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.select import ORIGIN, PRIORITY

MINUTE = 60_000_000


class Tick(BaseModel):
    kind: str


ticks = Topic("ticks", Tick)


class Writer:
    """Keeps what it is given; while `down`, it takes nothing."""

    def __init__(self) -> None:
        self.messages: list = []
        self.down = False

    def write(self, messages):
        if self.down:
            raise Unavailable("down")
        found = list(messages)
        self.messages += found
        return [Position("b", message.topic, 0, len(self.messages) + n) for n, message in enumerate(found)]

    @property
    def times(self) -> list[str]:
        return [dict(message.headers)["ce_time"].decode() for message in self.messages]


class Clock:
    def __init__(self, at: str) -> None:
        self.now = parse_time(at)

    def __call__(self) -> int:
        return self.now


def schedule(cron: str = "0 * * * *", **more) -> Schedule:
    return Schedule(cron, **{"into": ticks, "data": {"kind": "hour"}, **more})


def fire(declared: Schedule, writer: Writer, clock: Clock, memory) -> Firing:
    return Firing(declared, Gateway({"ticks": ticks}, writer, clock), memory, clock)


def test_each_due_time_fires_once_over_restarts(tmp_path):
    """Turns at any time, a new process for each, one home: every due time once, in order, with its own time and a steady id."""
    writer, clock = Writer(), Clock("2026-05-01T09:59:00Z")
    for _ in range(20):
        fire(schedule(), writer, clock, tmp_path / "m").turn()
        clock.now += 17 * MINUTE
        fire(schedule(missed="all"), writer, clock, tmp_path / "m").turn()
    assert writer.times == [f"2026-05-01T{hour}:00:00Z" for hour in range(10, 16)]
    ids = [dict(message.headers)["ce_id"] for message in writer.messages]
    assert len(set(ids)) == len(ids)
    assert ids[0].decode() == schedule().event(parse_time("2026-05-01T10:00:00Z")).id


def test_what_is_not_acknowledged_fires_again(tmp_path):
    """The broker refuses: nothing is remembered, and the next turn sends it under the same id."""
    writer, clock = Writer(), Clock("2026-05-01T09:59:00Z")
    firing = fire(schedule(), writer, clock, tmp_path / "m")
    clock.now += MINUTE
    writer.down = True
    with pytest.raises(Unavailable):
        firing.turn()
    writer.down = False
    firing.turn()
    firing.turn()
    assert writer.times == ["2026-05-01T10:00:00Z"]


def test_a_kill_between_acknowledgement_and_memory_doubles_nothing(tmp_path):
    """The ids in the topic's tail are known: what fired is not produced again."""
    writer, clock = Writer(), Clock("2026-05-01T09:59:00Z")
    gateway = Gateway({"ticks": ticks}, writer, clock)
    Firing(schedule(), gateway, tmp_path / "m", clock)
    before = (tmp_path / "m").read_bytes()
    clock.now += MINUTE
    Firing(schedule(), gateway, tmp_path / "m", clock).turn()
    (tmp_path / "m").write_bytes(before)
    Firing(schedule(), gateway, tmp_path / "m", clock).turn()
    assert len(writer.messages) == 1


@pytest.mark.parametrize(
    ("missed", "times", "skipped"),
    [("skip", [], 3), ("latest", ["2026-05-01T12:00:00Z"], 2), ("all", [f"2026-05-01T{h}:00:00Z" for h in (10, 11, 12)], 0)],
)
def test_missed_firings_as_declared(tmp_path, missed, times, skipped):
    """After three hours' stop: none, the latest, or all; what was skipped is counted; the next in time fires in any case."""
    writer, clock = Writer(), Clock("2026-05-01T09:30:00Z")
    fire(schedule(missed=missed), writer, clock, tmp_path / "m").turn()
    clock.now += 3 * 60 * MINUTE
    firing = fire(schedule(missed=missed), writer, clock, tmp_path / "m")
    firing.turn()
    firing.turn()
    assert writer.times == times
    assert firing.status()["skipped"] == skipped
    clock.now += 30 * MINUTE
    firing.turn()
    assert writer.times[-1] == "2026-05-01T13:00:00Z"


def test_missed_firings_are_bounded(tmp_path):
    """`all` makes up for the newest thousand."""
    writer, clock = Writer(), Clock("2026-05-01T00:00:00Z")
    fire(schedule("* * * * *", missed="all"), writer, clock, tmp_path / "m").turn()
    clock.now += 1500 * MINUTE
    firing = fire(schedule("* * * * *", missed="all"), writer, clock, tmp_path / "m")
    firing.turn()
    assert (len(writer.messages), firing.status()["skipped"]) == (1000, 500)
    assert writer.times[-1] == format_time(clock.now)


@pytest.mark.parametrize(
    ("cron", "day", "times"),
    [
        ("30 2 * * *", "2026-03-08", ["2026-03-08T07:00:00Z"]),  # the skipped half past two: right after the change
        ("30 1 * * *", "2026-11-01", ["2026-11-01T05:30:00Z"]),  # the hour that comes twice: once
        ("*/30 1 * * *", "2026-03-08", ["2026-03-08T06:00:00Z", "2026-03-08T06:30:00Z"]),
        ("0 6 * * 1-5", "2026-11-02", ["2026-11-02T11:00:00Z"]),
    ],
)
def test_clock_changes(tmp_path, cron, day, times):
    """In New York, minute by minute through the day, with a restart at each: what fires that day."""
    writer, clock = Writer(), Clock(f"{day}T04:59:30Z")
    declared = schedule(cron, zone="America/New_York")
    for _ in range(24 * 12):
        fire(declared, writer, clock, tmp_path / "m").turn()
        clock.now += 5 * MINUTE
    local_day = [time for time in writer.times if time <= f"{day}T23"]
    assert local_day == times


@given(
    st.sampled_from(["*/7 * * * *", "30 1 * * *", "30 2 * * *", "0 6 * * 1-5", "*/30 1-2 * * *"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
    st.lists(st.integers(1, 40_000), min_size=1, max_size=8),
)
def test_due_times_do_not_hang_on_when_one_looks(cron, begin, steps):
    """However the time is cut into turns, the due times are those of one look at the whole, each once and in order."""
    declared = schedule(cron, zone="America/New_York")
    looks = [parse_time(begin.replace(tzinfo=UTC).isoformat())]
    for step in steps:
        looks.append(looks[-1] + step * 1_000_000)
    cut = [at for after, until in pairwise(looks) for at in declared.due(after, until)[0]]
    assert cut == sorted(set(cut))
    assert cut == declared.due(looks[0], looks[-1])[0]


def test_the_event_says_where_it_comes_from(tmp_path):
    """Origin, priority, data of a function of the due time in its zone."""
    writer, clock = Writer(), Clock("2026-05-01T09:59:00Z")
    declared = schedule(zone="Europe/Zurich", data=lambda due: {"kind": f"hour {due.hour}"}, name="hourly", priority="low")
    firing = fire(declared, writer, clock, tmp_path / "m")
    clock.now += MINUTE
    firing.turn()
    [message] = writer.messages
    headers = dict(message.headers)
    assert json.loads(message.value) == {"kind": "hour 12"}
    assert (headers[f"ce_{ORIGIN}"], headers[f"ce_{PRIORITY}"]) == (b"schedule/hourly", b"low")


@pytest.mark.parametrize(
    ("cron", "more", "told"),
    [("61 * * * *", {}, "no cron expression"), ("* * * *", {}, "no cron expression"), ("* * * * *", {"zone": "Mars/North"}, "no time zone"), ("* * * * *", {"missed": "some"}, "none of skip")],  # noqa: E501
)
def test_a_wrong_schedule_is_refused(cron, more, told):
    """Misused, naming what."""
    with pytest.raises(Misused, match=told):
        schedule(cron, **more)
