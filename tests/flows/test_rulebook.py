"""Rules that change while they run: without restart, missed or doubled activations."""

import pickle
import random
import threading
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater import Heartbeat, Rate, Threshold, Topic, When
from headwater.agents.absence import Absence
from headwater.agents.activation import activation_of
from headwater.agents.detect import Detector
from headwater.agents.expression import told as whole_of
from headwater.agents.expression import without_digest
from headwater.agents.machine import Rule
from headwater.flows.detecting import DetectLogic
from headwater.flows.ends import Ends
from headwater.flows.meter import Meter
from headwater.flows.rulebook import Rulebook
from headwater.flows.signalling import Signalled, Turned
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import Misused
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic as _Topic

S = 1_000_000
END = 10**7


class Ping(msgspec.Struct):
    host: str
    up: bool = True
    ms: float | None = None


pings: _Topic[Any] = Topic("pings", Ping, partitions=2, lateness="2s")
down = Rate("down", of=pings, where=~pl.col("up"), per="host", within="10s", opens_at=0.5, closes_at=0.2)
slow = Threshold("slow", of=pings, value=pl.col("ms"), per="host", within="8s", opens_at=5, closes_at=3)
silent = Heartbeat("silent", of=pings, per="host", every="4s", closes_after="20s")
stuck = Absence("stuck", of=When(pings, pl.col("up"), per="host"), after=When(pings, ~pl.col("up"), per="host"), within="3s")
WAYS: list[list[Rule]] = [
    [down, slow, silent],
    [replace(down, opens_at=0.9, closes_at=0.5, version="2"), slow, silent],
    [replace(down, within="4s", version="3"), slow, replace(silent, every="2s")],
    [silent, replace(down, per=None, version="4"), stuck],
    [stuck, slow],
]


class Named(msgspec.Struct):
    kind: str
    ms: float | None = None


named: _Topic[Any] = Topic("named", Named)


class Bench:
    """The rules of one group as `detect` runs them on two workers, each of which reads a partition; and a book to change them by."""

    def __init__(self, rules: list[Rule]) -> None:
        detector = Detector(pings, rules, idle=False)
        self.book = Rulebook({"pings": detector})
        self.run: Any = SimpleNamespace(
            clock=lambda: 0, ends=Ends(lambda: 0), far_ahead={}, meter=Meter(), ending=threading.Event(), workers=2,
            partitions=SimpleNamespace(count=lambda name: 2),
        )  # fmt: skip
        self.logic = DetectLogic(self.run, self.book, None)
        self.reads = [0, 0]
        self.activations: list[Any] = []
        self.records: list[Any] = []

    def read(self, batch: list[Received]) -> Signalled:
        partition = batch[0].position.partition
        revision = self.reads[partition]
        signals = self.book.at(revision)["pings"].signals(batch)
        return Signalled(signals, partition, batch[-1].position.offset + 1, [], revision)

    def turn(self, worker: int) -> Turned:
        """A worker hears of the next revision."""
        self.reads[worker] += 1
        return Turned("pings", self.reads[worker])

    def change(self, rules: list[Rule]) -> list[str]:
        """Both at once."""
        names = self.book.take(rules)
        for worker in (0, 1) if names else ():
            self.see(self.turn(worker))
        return names

    def see(self, *seen: Signalled | Turned) -> None:
        for one in self.logic.on_batch(list(seen))[0]:
            self.activations += [
                activation_of(SimpleNamespace(id=dict(each.headers)["ce_id"].decode(), data=each.value)) for each in one.activations
            ]
            self.records += one.records

    def restart(self) -> None:
        """The process ends and starts again, with the rules that the file has now."""
        saved = self.logic.snapshot()
        self.book, self.reads = Rulebook(self.book.at(self.book.revision)), [0, 0]
        self.logic = DetectLogic(self.run, self.book, saved)

    @property
    def fired(self) -> list[Any]:
        return sorted((one.rule, one.key, one.at, one.id, one.phase, one.version, one.episode, one.value) for one in self.activations)


@settings(max_examples=100, deadline=None)
@given(many=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_whatever_changes_nothing_is_missed_or_doubled(many: int, seed: int) -> None:
    """Workers hear of changes at different times and are heard in any order: what fires is what fires in a run without disturbance
    that changes at the same offsets. Ids once, `at` strictly increasing, episodes whole, each position ended once."""
    dice = random.Random(seed)
    bench, clock, offsets = Bench(WAYS[0]), 0, [0, 0]
    ways, stretches = [WAYS[0]], [[list[Received](), list[Received]()]]
    channels: list[list[Signalled | Turned]] = [[], []]

    def hear(worker: int) -> None:
        channels[worker].append(bench.turn(worker))

    def drain(all_of_it: bool) -> None:
        while waiting := [channel for channel in channels if channel]:
            bench.see(dice.choice(waiting).pop(0))
            if not all_of_it and dice.random() < 0.3:
                return

    def read(partition: int, events: list[Received]) -> None:
        channels[partition].append(bench.read(events))
        stretches[-1 if bench.reads[partition] == bench.book.revision else -2][partition] += events

    for _ in range(many):
        clock += dice.choice([0, 1, 1, 2, 7])
        partition = dice.randint(0, 1)
        batch = []
        for _ in range(dice.randint(1, 3)):
            event = Event(id=f"{partition}-{offsets[partition]}", source="t", type="p", time=(clock - dice.randint(0, 2)) * S)
            model = Ping(dice.choice("ab"), dice.random() < 0.5, dice.choice([None, 1.0, 4.0, 9.0]))
            batch.append(Received(Position("b", "pings", partition, offsets[partition]), event, model, 0))
            offsets[partition] += 1
        read(partition, batch)
        behind = [worker for worker in (0, 1) if bench.reads[worker] < bench.book.revision]
        if not behind and dice.random() < 0.2 and bench.book.take(way := dice.choice(WAYS)):
            ways.append(way)
            stretches.append([[], []])
        elif behind and dice.random() < 0.5:
            hear(dice.choice(behind))
        if dice.random() < 0.7:
            drain(False)
        if dice.random() < 0.1 and bench.records:  # an epoch ends: by then all is heard
            for worker in (0, 1):
                if bench.reads[worker] < bench.book.revision:
                    hear(worker)
            drain(True)
            bench.restart()
    for worker in (0, 1):
        if bench.reads[worker] < bench.book.revision:
            hear(worker)
    for partition in (0, 1):
        mark = Event(id="end", source="t", type=MARK, time=END * S)
        read(partition, [Received(Position("b", "pings", partition, offsets[partition]), mark, None, 0)])
    drain(True)
    undisturbed = Bench(WAYS[0])
    for n, (way, stretch) in enumerate(zip(ways, stretches, strict=True)):
        if n:
            assert undisturbed.change(way)
        for events in stretch:
            if events:
                undisturbed.see(undisturbed.read(events))
    assert bench.fired == undisturbed.fired
    assert all(count == 1 for count in Counter(one.id for one in bench.activations).values())
    for rule, key in {(one.rule, one.key) for one in bench.activations}:
        ones = [one for one in bench.activations if (one.rule, one.key) == (rule, key)]
        assert all(one.at < other.at for one, other in pairwise(ones))
        for before, one in zip([None, *ones], ones, strict=False):
            opens = before is None or before.phase == "closed"
            assert (one.phase == "opened") == opens and one.episode == (one.id if opens else before.episode)
        if rule != "stuck":
            assert ones[-1].phase == "closed"
    ended = Counter((one.partition, at) for one in bench.records if one.kind == "outcome" for at in range(one.first, one.next))
    assert ended == Counter((partition, at) for partition in (0, 1) for at in range(offsets[partition] + 1))


def told(second: float, offset: int, partition: int = 0, **given: Any) -> Received:
    event = Event(id=f"{partition}-{offset}", source="t", type="p" if given else MARK, time=round(second * S))
    return Received(Position("b", "pings", partition, offset), event, Ping(**given) if given else None, 0)


def test_a_changed_rule_is_told_with_what_it_had_seen() -> None:
    """Levels go over, a rule that reads otherwise closes what runs and begins anew: a record each, with versions and the cut."""
    bench = Bench([down, slow])
    bench.see(bench.read([told(100, 0, 1)]))
    bench.see(bench.read([told(0, 0, host="a", up=False, ms=9), told(3, 1, host="a", ms=9), told(6, 2, host="a", ms=9)]))
    changed = bench.change([replace(down, within="4s", version="2"), replace(slow, opens_at=20, closes_at=10, version="2")])
    assert changed == ["down", "slow"]
    bench.see(bench.read([told(7, 3, host="a", up=False, ms=9), told(100, 4)]))
    assert [(one.rule, one.phase, one.version, one.at / S) for one in bench.activations] == [
        ("down", "opened", "1", 0), ("slow", "opened", "1", 0), ("down", "closed", "1", 4),
        ("slow", "closed", "2", 6), ("down", "opened", "2", 7), ("down", "closed", "2", 11),
    ]  # fmt: skip
    rules = [
        (one.ref, one.data["before"], one.data["version"], one.data["afresh"], one.data["cut"])
        for one in bench.records
        if one.kind == "rule"
    ]
    assert rules == [("down", "1", "2", True, {"pings/0": 2}), ("slow", "1", "2", False, {"pings/0": 2})]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([], "no rule looks at pings any more; restart"),
        ([replace(down, of=Topic("pongs", Ping))], "rules over pongs together are new"),
        (
            [replace(down, of=Topic("pings", msgspec.defstruct("Ping", [("host", str), ("up", bool)]), partitions=2))],
            "the model or the key of topic pings",
        ),
    ],
)
def test_what_needs_a_restart_is_refused(rules: list[Rule], says: str) -> None:
    """Topics, models and enrichers are read at the start; the rules that run stay as they are."""
    book = Bench([down]).book
    with pytest.raises(Misused, match=says):
        book.take(rules)
    assert book.revision == 0


def kinds(*names: str) -> pl.Expr:
    return pl.col("kind").is_in(names)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (kinds("a", "b", "c", "d", "e"), kinds("a", "b", "x", "d", "e")),
        (pl.col("ms").round(1) > 3, pl.col("ms").round(2) > 3),
        (pl.col("kind").str.contains("a.c"), pl.col("kind").str.contains("a.c", literal=True)),
        (pl.col("kind").str.to_integer(strict=True) > 3, pl.col("kind").str.to_integer(strict=False) > 3),
    ],
)
def test_an_expression_changed_where_its_text_is_not_is_another_rule(before: pl.Expr, after: pl.Expr) -> None:
    """polars tells a long list by its ends, and of functions not what they were given: the change is taken, and starts afresh."""
    assert str(before) == str(after)
    old, new = (Threshold("odd", of=named, value=pl.col("ms"), where=where, opens_at=1, closes_at=0) for where in (before, after))
    again = Threshold("odd", of=named, value=pl.col("ms"), where=pl.Expr.deserialize(before.meta.serialize()), opens_at=1, closes_at=0)
    book = Rulebook({"named": Detector(named, [old], idle=False)})
    assert book.take([again]) == [] and book.take([new]) == ["odd"]
    assert old.shape == again.shape != new.shape


def test_a_state_of_a_release_that_told_expressions_by_their_text_goes_on() -> None:
    """The same rule is recognised: its running episodes go on, and nothing is told of a change."""
    rule = Threshold("odd", of=named, value=pl.col("ms"), where=kinds("a", "b", "c", "d"), opens_at=1, closes_at=0)
    detector = Detector(named, [rule], idle=False)
    state = detector.start(0)
    event = Event(id="1", source="t", type="p", time=S)
    detector.step(state, detector.signals([Received(Position("b", "named", 0, 0), event, Named("a", 5.0), 0)]), 0)
    saved = pickle.loads(detector.snapshot(state))
    shape, version, definition = saved["rules"]["odd"]
    plain = without_digest(shape)
    assert plain != shape
    saved["rules"]["odd"] = (plain, version, definition.replace(shape, plain))
    after = detector.restore(pickle.dumps(saved), 0)
    assert (after["news"], after["parting"]) == ([], [])
    assert [known["episode"] != "" for known in after["groups"]["odd"].values()] == [True]


def test_of_a_python_function_only_its_place_is_told() -> None:
    """Where it stands in the file, and in memory, says nothing of what it does; what stands around it counts."""
    one, other = (pl.col("ms").map_batches(lambda ms: ms + 1, return_dtype=pl.Float64) > 2 for _ in range(2))
    assert whole_of(one) == whole_of(other) != whole_of(one & (pl.col("ms") < 9))


def test_a_function_that_cannot_be_written_down_is_a_rule_all_the_same() -> None:
    """One that holds a lock, say: the expression is known by its text."""
    lock = threading.Lock()

    def held(values: pl.Series) -> pl.Series:
        with lock:
            return values

    value = pl.col("ms").map_batches(held, return_dtype=pl.Float64)
    rule = Threshold("locked", of=named, value=value, opens_at=1, closes_at=0)
    assert whole_of(value) == str(value) and rule.shape
