"""Rules over random streams against a brute-force oracle that recomputes every window from the definition."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.activation import Activation, Cause, activation_id
from headwater.agents.detect import Detector, State, Step
from headwater.agents.rules import Rate, Rule, Threshold
from headwater.agents.signals import Batch
from headwater.lineage.decode import MARK, Received
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

S = 1_000_000
LATENESS, WITHIN = 3 * S, 10 * S
END = 10**9 * S


class Reading(msgspec.Struct):
    thing: str
    place: str | None
    level: float | None = None


readings = Topic("readings", Reading, key="thing", partitions=3, lateness="3s")

high = pl.col("level") >= 5
RULES: dict[str, Rule] = {
    "share": Rate("share", of=readings, where=high, per="place", within="10s", opens_at=0.5, closes_at=0.25, at_least=2, update_step=0.2),
    "whole": Rate("whole", of=readings, where=high, within="10s", opens_at=0.4, closes_at=0.3, update_step=None),
    "mean": Threshold(
        "mean", of=readings, value=pl.col("level"), per="place", within="10s", opens_at=5, closes_at=3, at_least=2, update_step=1
    ),
    "median": Threshold(
        "median", of=readings, value=pl.col("level"), per="place", within="10s", opens_at=4, closes_at=3.999, stat="median"
    ),
    "p90": Threshold(
        "p90",
        of=readings,
        value=pl.col("level"),
        where=pl.col("level") != 7,
        per="place",
        within="10s",
        opens_at=6,
        closes_at=2,
        stat="p90",
    ),
    "low": Threshold(
        "low", of=readings, value=pl.col("level"), per="place", within="10s", opens_at=2, closes_at=4, stat="min", below=True, update_step=1
    ),
    "samples": Threshold(
        "samples", of=readings, value=pl.col("level"), per="place", within="10s", each="event", opens_at=5, closes_at=3, update_step=1
    ),
    "own": Threshold("own", of=readings, value=pl.col("level"), per="thing", within="10s", opens_at=4, closes_at=3, stat="median"),
    "own share": Rate("own share", of=readings, where=high, per="thing", within="10s", opens_at=0.5, closes_at=0.25, at_least=2),
    "alone": Threshold("alone", of=readings, value=pl.col("level"), per="place", opens_at=5, closes_at=3, update_step=2),
    "at once": Threshold("at once", of=readings, value=pl.col("level"), per="thing", opens_at=5, closes_at=3, update_step=2),
}
ORDERED = [rule for name, rule in RULES.items() if name != "at once"]


@dataclass(frozen=True)
class Told:
    """One message as the test tells it: a mark has no thing."""

    time: int
    id: str
    thing: str = ""
    place: str | None = None
    level: float | None = None

    def received(self, partition: int, offset: int) -> Received:
        kind, model = ("reading", Reading(self.thing, self.place, self.level)) if self.thing else (MARK, None)
        event = Event(id=self.id, source="test", type=kind, time=self.time)
        return Received(Position("b", "readings", partition, offset), event, model, appended=self.time + 7)


Contents = list[list[Told]]


# ---------------------------------------------------------------------------------------------------------------- the oracle


@dataclass
class Placed:
    told: Told
    partition: int
    offset: int

    @property
    def order(self) -> tuple[int, str, int, int]:
        return (self.told.time, self.told.id if self.told.thing else "", self.partition, self.offset)


def in_time(contents: Contents) -> tuple[list[list[Placed]], list[tuple[int, int]], int]:
    """Per partition what is not late; the late positions; the last watermark."""
    kept: list[list[Placed]] = []
    late: list[tuple[int, int]] = []
    floors = []
    for partition, messages in enumerate(contents):
        floor, here = -(2**62), []
        for offset, told in enumerate(messages):
            if told.time >= floor:
                here.append(Placed(told, partition, offset))
            elif told.thing:
                late.append((partition, offset))
            floor = max(floor, told.time - LATENESS if told.thing else told.time)
        kept.append(here)
        floors.append(floor)
    return kept, late, min(floors)


def key_of(rule: Rule, told: Told) -> str | None:
    return "all" if rule.per is None else getattr(told, str(rule.per))


def value_of(rule: Rule, told: Told) -> float | None:
    matching = told.level is not None and told.level >= 5
    if isinstance(rule, Rate):
        return float(matching)
    return None if rule.name == "p90" and told.level == 7 else told.level


STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "share": lambda values: sum(values) / len(values),
    "mean": lambda values: float(sum(map(Fraction, values)) / len(values)),
    "median": statistics.median,
    "p90": lambda values: sorted(values)[math.ceil(0.9 * len(values) - 1e-9) - 1],
    "min": min,
}


class Oracle:
    """One rule over one key, from the definition: each evaluation looks at the whole past."""

    def __init__(self, rule: Rule, key: str, cut: Callable[[Any], dict[str, int]]) -> None:
        self.rule, self.key, self.cut = rule, key, cut
        self.by_event = rule.name in ("samples", "own", "own share")
        self.past: list[tuple[Placed, float]] = []
        self.fired: list[Activation] = []
        self.episode: str | None = None
        self.furthest = self.last_level = 0.0

    def window(self, now: int) -> list[tuple[Placed, float]]:
        """Newest event of each thing (or id, where a thing would be alone or the rule says so) in (now − within, now], newest first."""
        newest: dict[str, tuple[Placed, float]] = {}
        for placed, value in self.past:
            if now - WITHIN < placed.told.time <= now:
                newest[placed.told.id if self.by_event else placed.told.thing] = (placed, value)
        return sorted(newest.values(), key=lambda pair: pair[0].order, reverse=True)

    def event(self, placed: Placed, value: float) -> None:
        now = placed.told.time
        self.past.append((placed, value))
        window = self.window(now) if self.rule.within else [(placed, value)]
        level = STATISTICS[self.rule.stat]([one for _, one in window]) if self.rule.within else value
        self.last_level = level
        sign = -1 if self.rule.below else 1
        opening = [one for one, read in window if (read == 1 if isinstance(self.rule, Rate) else sign * read >= sign * self.rule.opens_at)]
        causes = opening if self.rule.within else [placed]
        if len(window) < self.rule.at_least:
            return
        phase = None
        if self.episode is None:
            phase = "opened" if sign * level >= sign * self.rule.opens_at else None
        elif sign * level <= sign * self.rule.closes_at:
            phase = "closed"
        elif self.rule.update_step and sign * (level - self.furthest) >= self.rule.update_step - 1e-9:
            phase = "updated"
        if phase:
            self.fire(phase, now, level, causes, len(opening), len(window), self.cut(placed))

    def emptied(self, before: int) -> None:
        """Close if the window emptied at a moment earlier than `before`."""
        if self.rule.within and self.episode and (end := self.past[-1][0].told.time + WITHIN) < before:
            level = 0.0 if isinstance(self.rule, Rate) else self.last_level
            self.fire("closed", end, level, [], 0, 0, self.cut(end))

    def fire(self, phase: Any, time: int, level: float, causes: list[Placed], count: int, total: int, cut: dict[str, int]) -> None:
        at = max(time, self.fired[-1].at + 1) if self.fired else time
        id = activation_id(self.rule.name, self.key, at)
        self.episode = id if phase == "opened" else self.episode
        events = tuple(Cause("readings", one.partition, one.offset, one.told.id, one.told.thing) for one in causes)
        self.fired.append(Activation(
            id=id, rule=self.rule.name, key=self.key, phase=phase, at=at, value=level, episode=self.episode or "",
            count=count, total=total, events=events, cut=cut,
        ))  # fmt: skip
        self.furthest = level
        self.episode = None if phase == "closed" else self.episode


def ordered_truth(rules: Sequence[Rule], contents: Contents) -> dict[tuple[str, str], list[Activation]]:
    kept, _, watermark = in_time(contents)
    released = sorted((one for here in kept for one in here if one.told.time < watermark), key=lambda one: one.order)

    def cut(until: Any) -> dict[str, int]:
        offsets: dict[str, int] = {}
        for one in released:
            if one.told.time <= until if isinstance(until, int) else one.order <= until.order:
                place = f"readings/{one.partition}"
                offsets[place] = max(offsets.get(place, 0), one.offset + 1)
        return offsets

    oracles: dict[tuple[str, str], Oracle] = {}
    first_seen: dict[str, int] = {}
    for placed in released:
        told = placed.told
        if not told.thing:
            continue
        if told.id in first_seen and told.time - first_seen[told.id] <= LATENESS:
            continue
        first_seen[told.id] = told.time
        for rule in rules:
            key, value = key_of(rule, told), value_of(rule, told)
            if key is not None and value is not None:
                oracle = oracles.setdefault((rule.name, key), Oracle(rule, key, cut))
                oracle.emptied(told.time)
                oracle.event(placed, value)
    for oracle in oracles.values():
        oracle.emptied(watermark)
    return {place: oracle.fired for place, oracle in oracles.items() if oracle.fired}


def immediate_truth(rule: Rule, contents: Contents) -> dict[tuple[str, str], list[Activation]]:
    kept, _, _ = in_time(contents)
    oracles: dict[str, Oracle] = {}
    taken: dict[str, list[Placed]] = {}
    for here in kept:
        for placed in here:
            told, before = placed.told, taken.setdefault(placed.told.thing, [])
            value = value_of(rule, told) if told.thing else None
            if value is None or any((told.time, told.id) <= (one.told.time, one.told.id) for one in before):
                continue
            if any(one.told.id == told.id and told.time - one.told.time <= LATENESS for one in before):
                continue
            before.append(placed)
            oracle = oracles.setdefault(told.thing, Oracle(rule, told.thing, lambda one: {f"readings/{one.partition}": one.offset + 1}))
            oracle.event(placed, value)
    return {(rule.name, key): oracle.fired for key, oracle in oracles.items() if oracle.fired}


# --------------------------------------------------------------------------------------------------- random streams, random runs


@st.composite
def streams(draw: st.DrawFn, *, by_thing: bool) -> Contents:
    """Three partitions of events mostly within the lateness, some repeated, some late, with marks; often closed by end marks."""
    contents: Contents = [[], [], []]
    clock = 0
    told: list[Told] = []
    for number in range(draw(st.integers(1, 45))):
        kind = draw(st.sampled_from(["event"] * 8 + ["repeat", "gap", "mark"]))
        partition = draw(st.integers(0, 2))
        clock += draw(st.integers(0, 3)) * S // 2 + (draw(st.integers(5, 14)) * S if kind == "gap" else 0)
        if kind == "mark":
            contents[partition].append(Told(clock - draw(st.integers(0, 4)) * S, f"m{number}"))
            continue
        if kind == "repeat" and told:
            one = draw(st.sampled_from(told))
            one = Told(one.time + draw(st.sampled_from([0, 0, S, 3 * S, 6 * S])), one.id, one.thing, one.place, one.level)
        else:
            thing = draw(st.sampled_from("abcde"))
            level = draw(st.none() | st.sampled_from([0.1, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.3]))
            time = clock - draw(st.sampled_from([0, 0, 0, 1, 2, 3, 5])) * S
            one = Told(time, f"e{number % 30:02}", thing, draw(st.sampled_from(["X", "X", "Y", None])), level)
        told.append(one)
        contents["abcde".index(one.thing) % 3 if by_thing else partition].append(one)
    if draw(st.booleans()):
        for messages in contents:
            messages.append(Told(END, "end"))
    return contents


Way = list[tuple[list[Received], bool]]


@st.composite
def ways(draw: st.DrawFn, contents: Contents) -> Way:
    """One way the contents may arrive: partitions interleaved and cut into batches at random; True: snapshot and restore after it."""
    rest = [[told.received(partition, offset) for offset, told in enumerate(messages)] for partition, messages in enumerate(contents)]
    way: Way = []
    while any(rest):
        batch: list[Received] = []
        for partition in draw(st.permutations(range(3))):
            take = len(rest[partition]) - draw(st.integers(0, len(rest[partition])))
            batch, rest[partition] = batch + rest[partition][:take], rest[partition][take:]
        way.append((batch, draw(st.booleans())))
    return way


def run(rules: Sequence[Rule], way: Way) -> tuple[dict[tuple[str, str], list[Activation]], list[Step], State]:
    detector = Detector(readings, rules, 3, idle=False)
    read = iter(detector.signals([one for batch, _ in way for one in batch]).signals)
    state, steps = detector.start(0), []
    for now, (batch, stop) in enumerate(way):
        steps.append(detector.step(state, Batch("b", "readings", list(islice(read, len(batch))), []), now))
        if stop:
            state = detector.restore(detector.snapshot(state), now)
    fired: dict[tuple[str, str], list[Activation]] = {}
    for step in steps:
        for activation in step.activations:
            fired.setdefault((activation.rule, activation.key), []).append(activation)
    return fired, steps, state


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_rules_fire_as_the_definition_says_whatever_the_batches_interleaving_and_restarts(data: st.DataObject) -> None:
    """Law 5: activations, field by field, follow from the topic's contents alone."""
    contents = data.draw(streams(by_thing=False))
    fired, _, _ = run(ORDERED, data.draw(ways(contents)))
    assert fired == ordered_truth(ORDERED, contents)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_rule_over_one_event_alone_fires_at_once_and_the_same_each_time(data: st.DataObject) -> None:
    """Law 5: where one partition holds a key's events, nothing waits for the watermark and nothing hangs on batches."""
    contents = data.draw(streams(by_thing=True))
    rule = RULES["at once"]
    fired, _, _ = run([rule], data.draw(ways(contents)))
    assert fired == immediate_truth(rule, contents)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_position_ends_once_or_still_waits(data: st.DataObject) -> None:
    """Law 1: late events end `late`, released ones and marks `passed`, each once; the rest waits behind the watermark."""
    contents = data.draw(streams(by_thing=False))
    _, steps, state = run(ORDERED, data.draw(ways(contents)))
    kept, late, watermark = in_time(contents)
    ended = [(where.partition, where.offset, outcome) for step in steps for where, outcome in step.outcomes]
    marks = [(p, o, "passed") for p, messages in enumerate(contents) for o, told in enumerate(messages) if not told.thing]
    passed = [(one.partition, one.offset, "passed") for here in kept for one in here if one.told.thing and one.told.time < watermark]
    assert sorted(ended) == sorted([*marks, *passed, *((p, o, "late") for p, o in late)])
    waiting = [one for one in state["order"]["waiting"] if one.readings is not None]
    assert len(waiting) + len(ended) == sum(map(len, contents))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_firings_of_a_key_are_strictly_ordered_and_episodes_whole(data: st.DataObject) -> None:
    """`at` strictly increases per (rule, key); each episode is opened once, then updated, then closed at most once."""
    fired, _, _ = run(list(RULES.values()), data.draw(ways(data.draw(streams(by_thing=True)))))
    for activations in fired.values():
        assert all(one.at < other.at for one, other in pairwise(activations))
        episode = None
        for one in activations:
            assert (one.phase == "opened") == (episode is None)
            episode = one.id if one.phase == "opened" else episode
            assert one.episode == episode
            episode = None if one.phase == "closed" else episode


@pytest.mark.parametrize("lateness", ["0s", "3s"])
def test_what_fell_silent_is_forgotten(lateness: str) -> None:
    """Memory follows the window: after an end mark nothing is kept of keys whose episodes are over."""
    topic = Topic("readings", Reading, key="thing", partitions=1, lateness=lateness)
    rule = Rate("share", of=topic, where=high, per="place", within="10s", opens_at=0.5, closes_at=0.25)
    single = Threshold("single", of=topic, value=pl.col("level"), per="thing", opens_at=50, closes_at=3)
    detector = Detector(topic, [rule, single], idle=False)
    state = detector.start(0)
    batch = [Told(n * S, f"e{n}", f"t{n}", f"p{n % 7}", 9.0).received(0, n) for n in range(100)]
    detector.step(state, detector.signals(batch), 0)
    assert len(state["groups"]["share"]) == 7
    detector.step(state, detector.signals([Told(END, "end").received(0, 100)]), 0)
    assert state["groups"] == {"share": {}, "single": {}}
    assert state["due"] == []
