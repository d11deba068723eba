"""Rules over several streams, over silence and over histories, against brute-force oracles that recompute everything from the past."""

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.absence import Absence
from headwater.agents.activation import Activation, Cause, activation_id
from headwater.agents.anomaly import Anomaly
from headwater.agents.change import Change
from headwater.agents.detect import Detector, State
from headwater.agents.heartbeat import Heartbeat
from headwater.agents.join import Join
from headwater.agents.machine import Rule
from headwater.agents.order import NEVER
from headwater.agents.sequence import Sequence
from headwater.agents.when import When
from headwater.lineage.decode import MARK, Received
from headwater.lineage.duration import duration
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

S = 1_000_000
END = 10**7 * S


class Call(msgspec.Struct):
    who: str | None
    kind: str
    level: float | None = None


calls = Topic("calls", Call, partitions=2, lateness="3s")
answers = Topic("answers", Call, partitions=1, lateness="2s")
LATENESS = {"calls": 3 * S, "answers": 2 * S}
LANES = [("answers", 0), ("calls", 0), ("calls", 1)]


def kind(name: str) -> pl.Expr:
    return pl.col("kind") == name


A, B, C = When(calls, kind("a")), When(answers, kind("b")), When(calls, kind("c"))
LEVEL = pl.col("level")
RULES: dict[str, Rule] = {
    "absence": Absence("absence", of=B, after=A, within="4s", per="who", closes_after="9s", update_step=1),
    "absence cooled": Absence("absence cooled", of=B, after=A, within="4s", per="who", closes_after=None, cool_down="7s"),
    "heartbeat": Heartbeat("heartbeat", of=calls, every="4s", per="who", closes_after="10s"),
    "heartbeat cooled": Heartbeat("heartbeat cooled", of=calls, every="3s", per="who", closes_after="4s", cool_down="6s"),
    "sequence": Sequence("sequence", A, B, within="5s", per="who", unless=C, update_step=1),
    "three": Sequence("three", A, C, A, within="9s", per="who", at_least=2, cool_down="5s"),
    "join": Join("join", A, B, within="3s", per="who", update_step=2),
    "anomaly": Anomaly(
        "anomaly", of=calls, value=LEVEL, per="who", history=6, at_least=3, opens_at=2, closes_at=1, update_step=1, forgets="12s"
    ),
    "odd low": Anomaly(
        "odd low", of=calls, value=LEVEL, per="who", history="8s", at_least=2, opens_at=1, closes_at=0.5, side="below", least=0.5,
        cool_down="4s",
    ),
    "change": Change("change", of=calls, value=LEVEL, per="who", within="4s", against="6s", opens_at=2, closes_at=1, update_step=1),
    "grew": Change(
        "grew", of=calls, value=LEVEL, per="who", within="3s", opens_at=0.5, closes_at=0, stat="median", relative=True, side="above",
        at_least=2, cool_down="3s",
    ),
}  # fmt: skip


class Told(NamedTuple):
    """One message as the test tells it: a mark has no kind."""

    topic: str
    partition: int
    time: int
    id: str
    who: str | None = None
    kind: str = ""
    level: float | None = None


@dataclass(frozen=True)
class Placed:
    told: Told
    offset: int

    @property
    def lane(self) -> int:
        return LANES.index((self.told.topic, self.told.partition))

    @property
    def order(self) -> tuple[int, str, int, int]:
        return self.told.time, self.told.id if self.told.kind else "", self.lane, self.offset

    def received(self) -> Received:
        told = self.told
        model = Call(told.who, told.kind, told.level) if told.kind else None
        event = Event(id=told.id, source="test", type="call" if told.kind else MARK, time=told.time)
        return Received(Position("b", told.topic, told.partition, self.offset), event, model, appended=told.time + 7)


Contents = list[list[Placed]]
"""Per lane, in offset order."""


# ---------------------------------------------------------------------------------------------------------------- the oracles


@dataclass
class Oracle:
    """One rule over one key. `past`: all its events so far, as (event, input); what a rule says is computed from them anew each time."""

    rule: Any
    key: str
    cut: Callable[[int | Placed], dict[str, int]]
    past: list[tuple[Placed, int]] = field(default_factory=list)
    fired: list[Activation] = field(default_factory=list)
    episode: Activation | None = None
    reported: float = 0.0
    cool: int = NEVER
    opened: int = NEVER

    def __post_init__(self) -> None: ...

    def fire(
        self, phase: Any, now: int | Placed, level: float, causes: list[Placed], count: int, total: int, value: float | None = None
    ) -> None:
        time = now if isinstance(now, int) else now.told.time
        if phase == "opened" and time < self.cool:
            return
        at = max(time, self.fired[-1].at + 1) if self.fired else time
        id = activation_id(self.rule.name, self.key, at)
        one = Activation(
            id=id, rule=self.rule.name, key=self.key, phase=phase, at=at, value=level if value is None else value,
            episode=self.episode.id if self.episode else id, count=count, total=total, cut=self.cut(now),
            events=tuple(Cause(c.told.topic, c.told.partition, c.offset, c.told.id, c.told.id) for c in causes),
        )  # fmt: skip
        self.fired.append(one)
        self.reported = level
        self.episode = (self.episode or one) if phase != "closed" else None
        if phase == "closed" and self.rule.cool_down:
            self.cool = at + duration(self.rule.cool_down)

    def judge(self, level: float, now: Placed, causes: list[Placed], count: int, total: int, value: float) -> None:
        rule, phase = self.rule, None
        if self.episode is None:
            phase = "opened" if level >= rule.opens_at else None
        elif level <= rule.closes_at:
            phase = "closed"
        elif rule.update_step and level - self.reported >= rule.update_step - 1e-9:
            phase = "updated"
        if phase:
            self.fire(phase, now, level, causes, count, total, value)

    def pending(self) -> int | None:
        """The next moment at which something happens without an event."""
        return None

    def at(self, moment: int) -> None: ...

    def event(self, placed: Placed, stream: int) -> None:
        raise NotImplementedError


class AbsenceOracle(Oracle):
    """An A is answered by any later B; it is over `within` after it; `dropped` with the episode that gave up."""

    def __post_init__(self) -> None:
        self.within, self.told, self.dropped = duration(self.rule.within), set[int](), set[int]()

    def unanswered(self) -> list[Placed]:
        last = max((n for n, (_, stream) in enumerate(self.past) if stream == 0), default=-1)
        return [one for n, (one, stream) in enumerate(self.past) if stream == 1 and n > last and n not in self.dropped]

    def over(self) -> list[Placed]:
        return [one for one in self.unanswered() if one.offset * 8 + one.lane in self.told]

    def pending(self) -> int | None:
        moments = [one.told.time + self.within for one in self.unanswered() if one not in self.over()]
        if self.episode and self.rule.closes_after:
            moments.append(self.opened + duration(self.rule.closes_after))
        if self.over() and not self.episode:
            moments.append(self.cool)
        return min(moments, default=None)

    def at(self, moment: int) -> None:
        for one in self.unanswered():
            if one not in self.over() and one.told.time + self.within == moment:
                self.told.add(one.offset * 8 + one.lane)
                break
        else:
            if self.episode:
                self.dropped |= {n for n, (one, stream) in enumerate(self.past) if stream == 1 and one in self.over()}
                self.fire("closed", moment, 0, [], 0, len(self.unanswered()))
                return
        over, total = self.over(), len(self.unanswered())
        if self.episode is None:
            self.opened = moment
            self.fire("opened", moment, len(over), over[::-1], len(over), total)
        elif self.rule.update_step and len(over) - self.reported >= self.rule.update_step:
            self.fire("updated", moment, len(over), over[::-1], len(over), total)

    def event(self, placed: Placed, stream: int) -> None:
        self.past.append((placed, stream))
        if stream == 0 and self.episode:
            self.fire("closed", placed, 0, [placed], 0, 0)


class HeartbeatOracle(Oracle):
    forgotten = 0

    def beats(self) -> list[Placed]:
        return [one for one, _ in self.past[self.forgotten :]]

    def pending(self) -> int | None:
        if not self.beats():
            return None
        if self.episode:
            return self.opened + duration(self.rule.closes_after)
        return max(self.beats()[-1].told.time + duration(self.rule.every), self.cool)

    def at(self, moment: int) -> None:
        beats = self.beats()
        silence = moment - beats[-1].told.time
        missed, heard = silence // duration(self.rule.every), len(beats)
        if self.episode:
            self.fire("closed", moment, silence / S, [], missed, heard)
            self.forgotten = len(self.past)
        else:
            self.opened = moment
            self.fire("opened", moment, silence / S, [beats[-1]], missed, heard)

    def event(self, placed: Placed, stream: int) -> None:
        beats = self.beats()
        if self.episode:
            silence = placed.told.time - beats[-1].told.time
            self.fire("closed", placed, silence / S, [placed], silence // duration(self.rule.every), len(beats))
            self.forgotten = len(self.past)
        self.past.append((placed, stream))


class TallyOracle(Oracle):
    """Matches found so far, each newest event first; those of the window make the episode."""

    def __post_init__(self) -> None:
        self.within, self.matches = duration(self.rule.within), list[list[Placed]]()

    def pending(self) -> int | None:
        return self.matches[-1][0].told.time + self.within if self.episode and self.matches else None

    def at(self, moment: int) -> None:
        self.fire("closed", moment, 0, [], 0, 0)

    def match(self, match: list[Placed]) -> None:
        self.matches.append(match)
        now = match[0]
        window = [one for one in self.matches if one[0].told.time > now.told.time - self.within]
        events = list(dict.fromkeys(one for each in window[::-1] for one in each))
        phase = None
        if self.episode is None:
            phase = "opened" if len(window) >= self.rule.at_least else None
        elif self.rule.update_step and len(window) - self.reported >= self.rule.update_step:
            phase = "updated"
        if phase:
            self.fire(phase, now, len(window), events, len(window), len(events), (now.told.time - match[-1].told.time) / S)


class SequenceOracle(TallyOracle):
    """Of all ways to lead up to an event that fits the last step, the one whose steps, from the last back, are the latest."""

    begun = 0

    def event(self, placed: Placed, stream: int) -> None:
        step = len(self.rule.steps) - 1 - (stream - (self.rule.unless is not None))
        if step == len(self.rule.steps):
            self.begun = len(self.past)
            return
        if self.matches and self.matches[-1][0] == placed:
            return
        self.past.append((placed, step))
        if step == len(self.rule.steps) - 1 and (found := self.lead_up(placed, step, self.past[self.begun : -1])):
            self.begun = len(self.past)
            self.match([placed, *found])

    def lead_up(self, placed: Placed, step: int, before: list[tuple[Placed, int]]) -> list[Placed] | None:
        ways: list[list[Placed]] = [[placed]]
        for wanted in reversed(range(step)):
            ways = [[*way, one] for way in ways for one, fits in before if fits == wanted and one.order < way[-1].order]
        in_time = [way for way in ways if placed.told.time - way[-1].told.time <= self.within]
        return max((way[1:] for way in in_time), key=lambda way: [one.order for one in way], default=None)


class JoinOracle(TallyOracle):
    def event(self, placed: Placed, stream: int) -> None:
        others = [one for one, other in self.past if other != stream]
        self.past.append((placed, stream))
        if others and placed.told.time - others[-1].told.time <= self.within:
            self.match([placed, others[-1]])


class AnomalyOracle(Oracle):
    beyond = 0

    def __post_init__(self) -> None:
        self.forgets = duration(self.rule.forgets)

    def pending(self) -> int | None:
        return self.past[-1][0].told.time + self.forgets if self.past else None

    def at(self, moment: int) -> None:
        if self.episode:
            self.fire("closed", moment, 0, [], 0, 0)
        self.past = []

    def event(self, placed: Placed, stream: int) -> None:
        rule = self.rule
        values = [one.told.level for one, _ in self.past]
        if isinstance(rule.history, int):
            values = values[-rule.history :]
        else:
            values = [one.told.level for one, _ in self.past if one.told.time > placed.told.time - duration(rule.history)]
        self.past.append((placed, stream))
        if len(values) < rule.at_least:
            return
        middle = statistics.median(values)
        scale = max(1.4826 * statistics.median([abs(value - middle) for value in values]), rule.least)
        moved = placed.told.level - middle
        far = max(-1e6, min(1e6, moved / scale)) if scale else 0.0 if moved == 0 else 1e6 if moved > 0 else -1e6
        level = abs(far) if rule.side == "both" else -far if rule.side == "below" else far
        self.beyond = (self.beyond if self.episode else 0) + (level >= rule.opens_at)
        self.judge(level, placed, [placed], self.beyond, len(values), far)


class ChangeOracle(Oracle):
    moved = 0.0

    def pending(self) -> int | None:
        return self.past[-1][0].told.time + duration(self.rule.within) if self.episode else None

    def at(self, moment: int) -> None:
        self.fire("closed", moment, 0, [], 0, 0, self.moved)

    def event(self, placed: Placed, stream: int) -> None:
        rule, now = self.rule, placed.told.time
        within, against = duration(rule.within), duration(rule.against or rule.within)
        self.past.append((placed, stream))
        recent = [one for one, _ in self.past if one.told.time > now - within]
        former = [one for one, _ in self.past if now - within - against < one.told.time <= now - within]
        if min(len(recent), len(former)) < rule.at_least:
            return
        measure = {"mean": mean, "median": statistics.median}[rule.stat]
        lately, before = (measure([one.told.level for one in ones]) for ones in (recent, former))
        if rule.relative and before == 0:
            return
        self.moved = (lately - before) / abs(before) if rule.relative else lately - before
        level = abs(self.moved) if rule.side == "both" else self.moved if rule.side == "above" else -self.moved
        self.judge(level, placed, recent[::-1], len(recent), len(recent) + len(former), self.moved)


def mean(values: list[float]) -> float:
    return float(sum(map(Fraction, values)) / len(values))


ORACLES = {
    Absence: AbsenceOracle, Heartbeat: HeartbeatOracle, Sequence: SequenceOracle, Join: JoinOracle, Anomaly: AnomalyOracle,
    Change: ChangeOracle,
}  # fmt: skip


def says(rule: Any, n: int, told: Told) -> bool:
    """Whether an event says something to one of a rule's inputs."""
    if isinstance(rule, Heartbeat):
        return told.topic == "calls"
    if isinstance(rule, Anomaly | Change):
        return told.topic == "calls" and told.level is not None
    topic = rule.inputs[n].topic.name
    name = {str(kind(one)): one for one in "abc"}[str(rule.inputs[n].where)]
    return (told.topic, told.kind) == (topic, name)


def in_time(contents: Contents) -> tuple[list[Placed], int]:
    """What is not late, in order; the last watermark."""
    kept: list[Placed] = []
    floors = []
    for lane, messages in enumerate(contents):
        floor = NEVER
        for placed in messages:
            told = placed.told
            if told.time >= floor:
                kept.append(placed)
            floor = max(floor, told.time - LATENESS[LANES[lane][0]] if told.kind else told.time)
        floors.append(floor)
    return sorted((one for one in kept if one.told.time < min(floors)), key=lambda one: one.order), min(floors)


def truth(rules: list[Rule], contents: Contents) -> dict[tuple[str, str], list[Activation]]:
    released, watermark = in_time(contents)
    oracles: dict[tuple[str, str], Oracle] = {}
    seen: dict[tuple[str, str], int] = {}

    def cut_of(rule: Rule) -> Callable[[int | Placed], dict[str, int]]:
        topics = {given.topic.name for given in rule.inputs}

        def cut(until: int | Placed) -> dict[str, int]:
            offsets: dict[str, int] = {}
            for one in released:
                before = one.told.time <= until if isinstance(until, int) else one.order <= until.order
                if before and one.told.topic in topics:
                    place = f"{one.told.topic}/{one.told.partition}"
                    offsets[place] = max(offsets.get(place, 0), one.offset + 1)
            return offsets

        return cut

    def pass_time(before: int) -> None:
        for oracle in oracles.values():
            while (moment := oracle.pending()) is not None and moment < before:
                oracle.at(moment)

    for placed in released:
        told = placed.told
        pass_time(told.time)
        before = seen.get((told.topic, told.id))
        if not told.kind or (before is not None and told.time - before <= LATENESS[told.topic]):
            continue
        seen[told.topic, told.id] = told.time
        for rule in rules:
            for n in range(len(rule.inputs)):
                if told.who is not None and says(rule, n, told):
                    made = oracles.setdefault((rule.name, told.who), ORACLES[type(rule)](rule, told.who, cut_of(rule)))
                    made.event(placed, n)
    pass_time(watermark)
    return {place: oracle.fired for place, oracle in oracles.items() if oracle.fired}


# --------------------------------------------------------------------------------------------------- random streams, random runs


def stream(many: int, dice: random.Random) -> Contents:
    """Two topics of events mostly within the lateness, some repeated, some late, with silences and marks; often closed by end marks."""
    told: list[Told] = []
    clock = 0
    for number in range(many):
        what = dice.choice(["event"] * 9 + ["repeat", "gap", "mark"])
        topic, partition = dice.choice(LANES)
        clock += dice.randint(0, 3) * S // 2 + (dice.randint(5, 16) * S if what == "gap" else 0)
        events = [one for one in told if one.kind and one.topic == topic]
        if what == "mark":
            told.append(Told(topic, partition, clock - dice.randint(0, 4) * S, f"m{number}"))
        elif what == "repeat" and events:
            one = dice.choice(events)
            told.append(one._replace(time=one.time + dice.choice([0, 0, S, 3 * S, 6 * S]), partition=partition))
        else:
            time = clock - dice.choice([0, 0, 0, 1, 2, 3, 5]) * S
            name = "b" if topic == "answers" else dice.choice("aac")
            level = dice.choice([None, 0.0, 0.1, 1.0, 2.0, 2.5, 3.0, 5.0, 9.3])
            told.append(Told(topic, partition, time, f"e{number % 30:02}", dice.choice(["X", "X", "Y", None]), name, level))
    if dice.random() < 0.5:
        told += [Told(topic, partition, END, "end") for topic, partition in LANES]
    contents: Contents = [[], [], []]
    for one in told:
        lane = contents[LANES.index((one.topic, one.partition))]
        lane.append(Placed(one, len(lane)))
    return contents


Way = list[tuple[list[Placed], bool]]


def way_of(contents: Contents, dice: random.Random) -> Way:
    """One way the contents may arrive: lanes interleaved and cut into batches at random; True: snapshot and restore after it."""
    rest = [list(lane) for lane in contents]
    way: Way = []
    while any(rest):
        for lane in dice.sample(range(3), 3):
            take = dice.randint(0, len(rest[lane]))
            if take:
                way.append((rest[lane][:take], dice.random() < 0.5))
                rest[lane] = rest[lane][take:]
    return way


STREAMS = {"many": st.integers(1, 60), "seed": st.integers(0, 2**32)}


def detector_of(rules: list[Rule]) -> Detector:
    return Detector([calls, answers], rules, idle=False)


def run(rules: list[Rule], way: Way) -> tuple[dict[tuple[str, str], list[Activation]], State]:
    detector = detector_of(rules)
    state, fired = detector.start(0), dict[tuple[str, str], list[Activation]]()
    for now, (batch, stop) in enumerate(way):
        step = detector.step(state, detector.signals([one.received() for one in batch]), now)
        for activation in step.activations:
            fired.setdefault((activation.rule, activation.key), []).append(activation)
        if stop:
            detector = detector_of(rules)
            state = detector.restore(detector.snapshot(state), now)
    return fired, state


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=60, deadline=None)
@given(**STREAMS)
def test_a_rule_fires_as_its_definition_says_whatever_the_batches_interleaving_and_restarts(name: str, many: int, seed: int) -> None:
    """Law 5: activations, field by field, follow from the topics' contents alone, duplicates, lateness and silences included."""
    dice = random.Random(seed)
    contents = stream(many, dice)
    fired, _ = run([RULES[name]], way_of(contents, dice))
    assert fired == truth([RULES[name]], contents)


@settings(max_examples=25, deadline=None)
@given(**STREAMS)
def test_rules_of_a_group_do_not_disturb_each_other(many: int, seed: int) -> None:
    """All together fire what each fires alone; `at` strictly increases per key; episodes are opened, updated, closed."""
    dice, rules = random.Random(seed), list(RULES.values())
    contents = stream(many, dice)
    fired, _ = run(rules, way_of(contents, dice))
    assert fired == truth(rules, contents)
    for ones in fired.values():
        assert all(one.at < other.at for one, other in pairwise(ones))
        assert [one.phase == "opened" for one in ones] == [n == 0 or ones[n - 1].phase == "closed" for n in range(len(ones))]


@settings(max_examples=25, deadline=None)
@given(**STREAMS)
def test_nothing_is_remembered_of_what_is_over(many: int, seed: int) -> None:
    """Memory is bounded: after end marks only an absence that waits for ever is known, and it has an episode."""
    dice = random.Random(seed)
    contents = stream(many, dice)
    for (topic, partition), lane in zip(LANES, contents, strict=True):
        lane.append(Placed(Told(topic, partition, END, "end"), len(lane)))
    _, state = run(list(RULES.values()), way_of(contents, dice))
    left = {(name, bool(known["episode"])) for name, keys in state["groups"].items() for known in keys.values()}
    assert left <= {("absence cooled", True)}
