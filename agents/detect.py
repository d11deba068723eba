"""detect: signals of one topic → activations, in event-time order (law 5).

The unit of the flow `detect`: one Detector per topic, one state per topic. The state is plain data, `snapshot` gives its immutable
form for recovery. What comes out is determined by the topic's contents: not by batch boundaries, not by how partitions interleave,
not by a restart in between. No clock is read; `now` is passed in and used for idleness only.
"""

import pickle
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from itertools import islice
from typing import Any, NamedTuple, TypedDict, cast

from headwater.agents.activation import EVENTS_KEPT, Activation, Cause, Phase, activation_id, activation_record
from headwater.agents.hops import NONE, Hops, longest
from headwater.agents.order import NEVER, Ends, Idle, Order, Signal, advance, arrive, begin, grow, release, repeated, wake_at
from headwater.agents.rules import Rule, is_immediate, judge, matches, shape, window_of
from headwater.agents.signals import Batch, Reader
from headwater.agents.window import SHARE, Entry, Group, counted, empty, group, measure, slide, succeed
from headwater.lineage.decode import Received
from headwater.lineage.duration import duration
from headwater.lineage.errors import Gone, Misused
from headwater.lineage.event import Position
from headwater.lineage.record import Outcome, Record, fact
from headwater.lineage.topic import Topic

VERSION = 1


class State(TypedDict):
    """All that a Detector remembers.

    cut     per partition: the offset after the highest released so far
    groups  rule name → key → what the rule remembers of it
    due     a heap of (event time, rule name, key): when a window may have emptied, or a key may be forgotten
    rules   (name, shape) of the rules in the order of the waiting signals' readings
    """

    version: int
    topic: str
    broker: str
    order: Order
    cut: list[int]
    groups: dict[str, dict[str, Group]]
    due: list[tuple[int, str, str]]
    rules: list[tuple[str, str]]


class Step(NamedTuple):
    """What a step gave.

    outcomes  positions that ended, by partition and offset: `passed` once released, `late` at once. Those waiting in the buffer end later
    records   one `activation` each; `idle` where silent partitions stopped or began to hold the watermark, or the clock had an effect
    idle      the idle path taken in this step, if it was
    """

    activations: list[Activation]
    outcomes: list[tuple[Position, Outcome]]
    records: list[Record]
    idle: Idle | None


class Detector:
    """The rules over one topic.

    partitions  of the topic, all of them now; `grow` where a topic without a key has got more
    idle        whether silent partitions stop holding the watermark (`topic.idle_after`); replays send time marks and switch it off
    """

    def __init__(self, topic: Topic[Any], rules: Sequence[Rule], partitions: int | None = None, *, idle: bool = True) -> None:
        _check(topic, rules)
        self.topic = topic
        self.rules = tuple(rules)
        self.partitions = partitions or topic.partitions
        self.lateness = duration(topic.lateness)
        self.idle_after = duration(topic.idle_after) if idle else None
        self._reader = Reader(topic, rules)
        self._arrange()
        self.by_name = {rule.name: rule for rule in rules}

    def _arrange(self) -> None:
        """Which rules need not wait for the watermark: what looks at one event alone, where one partition holds all of a key."""
        ways = [(is_immediate(rule, self.partitions), ordinal, rule) for ordinal, rule in enumerate(self.rules)]
        self.immediate = [(ordinal, rule) for immediate, ordinal, rule in ways if immediate]
        self.ordered = [(ordinal, rule) for immediate, ordinal, rule in ways if not immediate]

    def grow(self, state: State, partitions: int, now: int) -> None:
        """The topic has so many partitions by now (never fewer). New ones begin where the watermark stands, see `order`.

        The state is changed in place. Raises Misused for a keyed topic: its keys would lie elsewhere than before.
        """
        if partitions > self.partitions and self.topic.key is not None:
            raise Misused(f"topic {self.topic.name} is keyed: its {self.partitions} partitions do not grow to {partitions} under its rules")
        if partitions > self.partitions:
            self.partitions = partitions
            self._arrange()
        more = self.partitions - len(state["cut"])
        if more > 0:
            state["cut"] += [0] * more
            grow(state["order"], self.partitions, now)

    @property
    def facts(self) -> frozenset[str]:
        """The names of the facts that the rules look at."""
        return frozenset(self._reader.facts)

    def signals(self, received: Sequence[Received]) -> Batch:
        """What the rules read off received events; needs no state. Raises Gone (two brokers' lives in one batch)."""
        return self._reader.read(received)

    def start(self, now: int) -> State:
        """The state before the first event; `now` is the wall clock in µs."""
        return State(
            version=VERSION, topic=self.topic.name, broker="", order=begin(self.partitions, now), cut=[0] * self.partitions,
            groups={rule.name: {} for rule in self.rules}, due=[], rules=_shapes(self.rules),
        )  # fmt: skip

    def step(self, state: State, batch: Batch, now: int, ends: Ends = ()) -> Step:
        """Take a batch in; `ends` as for `tick`. The state is changed in place. Raises Gone for a batch of another broker's life."""
        if batch.signals and state["broker"] != batch.broker:
            if state["broker"]:
                raise Gone(
                    f"the rules' state over {self.topic.name} belongs to broker {state['broker']}, the events to {batch.broker}: "
                    "start detect on an empty recovery store"
                )
            state["broker"] = batch.broker
        pace = _Pace(self, state, now, ends)
        pace.take(batch.signals)
        return pace.end()

    def tick(self, state: State, now: int, ends: Ends = ()) -> Step:
        """Let time pass: only the idle path can move anything. The state is changed in place.

        ends  per partition: wall clock (µs) when its source last stood at its end with all before it handed to `step`. A partition
              of which nothing is told is not idle, however silent: perhaps its events merely have not been read.
        """
        return _Pace(self, state, now, ends).end()

    def finish(self, state: State, now: int) -> Step:
        """The stream is over for good (its broker goes): nothing follows, so all that waits is released. The state is changed in place."""
        order = state["order"]
        end = max((signal.time for signal in order["waiting"]), default=NEVER) + 1
        order["floors"] = [max(floor, end) for floor in order["floors"]]
        return _Pace(self, state, now).end()

    def wake_at(self, state: State, now: int, ends: Ends = ()) -> int | None:
        """The wall clock (µs) at which `tick` may do something, at most a minute ahead; None: only an event can."""
        if self.idle_after is None:
            return None
        deadline = state["due"][0][0] if state["due"] else None
        return wake_at(state["order"], deadline, now, self.lateness, self.idle_after, ends)

    def watermark(self, state: State) -> int:
        """The event time (µs) before which all is released; NEVER (hugely negative) before every partition has spoken."""
        return state["order"]["watermark"]

    def waiting(self, state: State) -> list[int]:
        """Per partition, how many signals wait for the watermark: a source should pause partitions that are far ahead."""
        counts = [0] * self.partitions
        for signal in state["order"]["waiting"]:
            counts[signal.partition] += 1
        return counts

    def ahead(self, state: State) -> list[int]:
        """Per partition, how many of its signals wait for other partitions alone: of the one that holds the watermark, none.

        So a source that pauses partitions far ahead never pauses the one that all wait for.
        """
        order, counts = state["order"], [0] * self.partitions
        for signal in order["waiting"]:
            if signal.time < order["floors"][signal.partition]:
                counts[signal.partition] += 1
        return counts

    def snapshot(self, state: State) -> bytes:
        """The immutable form of a state, for recovery."""
        order = {**state["order"], "waiting": [tuple(signal) for signal in state["order"]["waiting"]]}
        groups = {name: {key: _frozen(known) for key, known in keys.items()} for name, keys in state["groups"].items()}
        return pickle.dumps({**state, "order": order, "groups": groups}, protocol=5)

    def restore(self, saved: bytes, now: int) -> State:
        """The state of a snapshot, under the rules of today: a rule that is new or reads otherwise starts afresh.

        Silence counts from `now`, not from before the stop. A topic may have got more partitions since (a keyed one by a migration, for
        which the rules had seen all before); of one without a key this process may not know yet of all that it has. Raises Misused for a
        snapshot of another form or topic, or of more partitions of a keyed topic than it has.
        """
        state: State = pickle.loads(saved)  # noqa: S301 (our own recovery store)
        sizes = len(state["cut"]), self.partitions
        if state["version"] != VERSION or state["topic"] != self.topic.name or (self.topic.key is not None and sizes[0] > sizes[1]):
            raise Misused(
                f"the snapshot is of {state['topic']} with {len(state['cut'])} partitions, version {state['version']}; detect now has "
                f"{self.topic.name} with {self.partitions}, version {VERSION}: start it on an empty recovery store"
            )
        self.grow(state, max(sizes), now)
        today = _shapes(self.rules)
        kept = [state["rules"].index(one) if one in state["rules"] else None for one in today]
        order, groups, due = state["order"], state["groups"], state["due"]
        order["heard"] = [now] * self.partitions
        order["waiting"] = [_reread(Signal(*signal), kept) for signal in order["waiting"]]
        names = {rule.name: rule.within is not None for rule, place in zip(self.rules, kept, strict=True) if place is not None}
        state["groups"] = {
            rule.name: {key: _thawed(known, names[rule.name]) for key, known in groups[rule.name].items()} if rule.name in names else {}
            for rule in self.rules
        }
        state["due"] = sorted(one for one in due if one[1] in names)
        state["rules"] = today
        return state


class _Pace:
    """One step at work: what it has given so far."""

    def __init__(self, detector: Detector, state: State, now: int, ends: Ends = ()) -> None:
        self.detector = detector
        self.state = state
        self.now = now
        self.ends = ends
        self.activations: list[Activation] = []
        self.outcomes: list[tuple[Position, Outcome]] = []
        self.records: list[Record] = []
        self.hops: Hops | None = None  # of the event that is being looked at

    def take(self, signals: Sequence[Signal]) -> None:
        """Signals into the buffer; rules that need not wait look at them now."""
        order, detector = self.state["order"], self.detector
        for signal in signals:
            order["heard"][signal.partition] = self.now
            in_time = arrive(order, signal, detector.lateness)
            if not signal.is_event or signal.readings is None:
                self._ended(signal, "passed")
            elif not in_time:
                self._ended(signal, "late")
            else:
                self.hops = signal.hops
                for ordinal, rule in detector.immediate:
                    reading = signal.readings[ordinal]
                    if reading is not None:
                        self._look(rule, *reading, signal, {f"{detector.topic.name}/{signal.partition}": signal.offset + 1})
        self.hops = None

    def end(self) -> Step:
        """Release what the watermark now allows, and close the step."""
        detector, order = self.detector, self.state["order"]
        idle = advance(order, self.now, detector.lateness, detector.idle_after, self.ends)
        moved = len(self.outcomes), len(self.activations)
        while (signal := release(order)) is not None:
            self._forward(signal)
        self._expire(order["watermark"])
        if idle is not None and (idle.changed or (idle.clock and moved != (len(self.outcomes), len(self.activations)))):
            self.records.append(self._idle_record(idle))
        self.outcomes.sort(key=_place)
        return Step(self.activations, self.outcomes, self.records, idle)

    def _forward(self, signal: Signal) -> None:
        """One signal, in order."""
        state, detector = self.state, self.detector
        self._expire(signal.time)
        state["cut"][signal.partition] = max(state["cut"][signal.partition], signal.offset + 1)
        if not signal.is_event or signal.readings is None:
            return
        self._ended(signal, "passed")
        if repeated(state["order"], signal, detector.lateness):
            return
        self.hops = signal.hops
        for ordinal, rule in detector.ordered:
            reading = signal.readings[ordinal]
            if reading is None:
                continue
            if rule.within is None:
                self._look(rule, *reading, signal, None)
            else:
                self._slide(rule, *reading, signal)
        self.hops = None

    def _slide(self, rule: Rule, key: str, value: float, signal: Signal) -> None:
        """One event into a rule's window, and what the window then says."""
        within = window_of(rule) or 0
        known = self._known(rule, key, signal.time + within)
        slide(known, _entry(signal, value), within, rule.stat)
        level = known["level"] = measure(known, rule.stat)
        phase = judge(rule, level, len(known["newest"]), known["reported"] if known["episode"] else None)
        if phase is not None:
            causes = [entry for entry in counted(known) if matches(rule, entry.value)]
            self._fire(rule, key, known, phase, signal.time, causes, len(causes), len(known["newest"]), None)

    def _look(self, rule: Rule, key: str, value: float, signal: Signal, cut: dict[str, int] | None) -> None:
        """One event alone: the latest of its key decides, one that is older than the latest says nothing more."""
        lateness = self.detector.lateness
        known = self._known(rule, key, signal.time + lateness)
        entry = _entry(signal, value)
        if not succeed(known, entry, lateness):
            return
        known["level"] = value
        phase = judge(rule, value, 1, known["reported"] if known["episode"] else None)
        if phase is not None:
            self._fire(rule, key, known, phase, signal.time, [entry], int(matches(rule, value)), 1, cut)

    def _known(self, rule: Rule, key: str, due: int) -> Group:
        groups = self.state["groups"][rule.name]
        known = groups.get(key)
        if known is None:
            known = groups[key] = group()
        if not known["armed"]:
            known["armed"] = True
            heappush(self.state["due"], (due, rule.name, key))
        return known

    def _expire(self, before: int) -> None:
        """What falls due before an event time: windows that emptied close their episode, keys of which nothing is left go."""
        due = self.state["due"]
        while due and due[0][0] < before:
            moment, name, key = due[0]
            rule = self.detector.by_name[name]
            groups = self.state["groups"][name]
            known = groups[key]
            last = _last(known, window_of(rule), self.detector.lateness)
            if last > moment:
                heapreplace(due, (last, name, key))
                continue
            heappop(due)
            known["armed"] = False
            if rule.within is None:
                if not known["episode"]:
                    del groups[key]
                continue
            empty(known)
            if known["episode"]:
                known["level"] = 0.0 if rule.stat == SHARE else known["level"]
                self._fire(rule, key, known, "closed", moment, [], 0, 0, None)
            if known["at"] > moment:
                self._known(rule, key, known["at"])
            else:
                del groups[key]

    def _fire(
        self, rule: Rule, key: str, known: Group, phase: Phase, time: int,
        causes: list[Entry], count: int, total: int, cut: dict[str, int] | None,
    ) -> None:  # fmt: skip
        topic, state = self.detector.topic.name, self.state
        at = known["at"] = max(time, known["at"] + 1)
        id = activation_id(rule.name, key, at)
        episode = id if phase == "opened" else known["episode"]
        known["episode"] = "" if phase == "closed" else episode
        known["reported"] = known["level"]
        hops = known["hops"] if self.hops is None else longest([self.hops, *(entry.hops for entry in causes)])
        known["hops"] = hops
        if cut is None:
            cut = {f"{topic}/{partition}": offset for partition, offset in enumerate(state["cut"]) if offset}
        activation = Activation(
            id=id, rule=rule.name, key=key, phase=phase, at=at, value=known["level"], episode=episode, count=count, total=total,
            events=tuple(Cause(topic, entry.partition, entry.offset, entry.id, entry.thing) for entry in islice(causes, EVENTS_KEPT)),
            cut=cut, version=rule.version, via=hops.via, correlation=hops.correlation,
        )  # fmt: skip
        self.activations.append(activation)
        appended = causes[0].appended if causes else None
        self.records.append(activation_record(activation, state["broker"], appended=appended, logged=self.now))

    def _ended(self, signal: Signal, outcome: Outcome) -> None:
        self.outcomes.append((Position(self.state["broker"], self.detector.topic.name, signal.partition, signal.offset), outcome))

    def _idle_record(self, idle: Idle) -> Record:
        topic, ordinal = self.detector.topic.name, f"{idle.partitions} {idle.after}"
        data = {"topic": topic, "partitions": list(idle.partitions), "clock": idle.clock, "before": idle.before, "after": idle.after}
        return fact("idle", "detect", "order", topic, logged=self.now, ordinal=ordinal, data=data)


def _last(known: Group, within: int | None, lateness: int) -> int:
    """The event time from which nothing of a key is left in its window (of one event alone: in the horizon of its ids)."""
    if not known["entries"]:
        return known["at"]
    last = known["entries"][-1].time + (lateness if within is None else within)
    return max(last, known["at"]) if within is None else last


def _entry(signal: Signal, value: float) -> Entry:
    return Entry(signal.time, signal.id, signal.partition, signal.offset, signal.thing, value, signal.appended, signal.hops)


def _place(ended: tuple[Position, Outcome]) -> tuple[int, int]:
    return ended[0].partition, ended[0].offset


def _shapes(rules: Sequence[Rule]) -> list[tuple[str, str]]:
    return [(rule.name, shape(rule)) for rule in rules]


def _reread(signal: Signal, kept: Sequence[int | None]) -> Signal:
    """A waiting signal with its readings in the order of today's rules."""
    readings = signal.readings
    if readings is None or not signal.is_event:
        return signal
    return signal._replace(readings=tuple(None if place is None else readings[place] for place in kept))


def _frozen(known: Group) -> dict[str, Any]:
    """A group without what follows from its entries."""
    return {**known, "entries": [tuple(entry) for entry in known["entries"]], "newest": None}


def _thawed(known: Any, window: bool) -> Group:
    entries = deque(Entry(*entry) for entry in known["entries"])
    newest = {entry.thing if window else entry.id: entry for entry in entries}
    return cast(Group, {"hops": NONE, **known, "entries": entries, "newest": newest})


def _check(topic: Topic[Any], rules: Sequence[Rule]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.of.name != topic.name:
            raise Misused(f"rule {rule.name} is over {rule.of.name}, not over {topic.name}: give it to that topic's detector")
        if rule.name in seen:
            raise Misused(f"two rules over {topic.name} are called {rule.name!r}; give each a name of its own")
        seen.add(rule.name)
