"""One step of a detector at work: signals in, in order through the rules, what comes of it out."""

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from headwater.agents.activation import EVENTS_KEPT, Activation, Cause, activation_id, activation_record
from headwater.agents.hops import Hops, longest
from headwater.agents.machine import Entry, Fired, Machine, Mind, Rule
from headwater.agents.order import NEVER, Ends, Idle, Reading, Signal, advance, arrive, release, repeated
from headwater.agents.state import Parting, State
from headwater.lineage.event import Position
from headwater.lineage.record import Outcome, Record, fact

if TYPE_CHECKING:
    from headwater.agents.detect import Detector


class Step(NamedTuple):
    """What a step gave.

    outcomes  positions that ended, by topic, partition and offset: `passed` once released, `late` at once. Those waiting end later
    records   one `activation` each; `idle` where silent partitions stopped or began to hold the watermark, or the clock had an effect;
              `rule` where a rule changed
    idle      the idle path taken in this step, if it was
    levels    of each activation, what its rule measured then: `value` may tell something else, or have a sign
    """

    activations: list[Activation]
    outcomes: list[tuple[Position, Outcome]]
    records: list[Record]
    idle: Idle | None
    levels: Sequence[float] = ()


class Watching(NamedTuple):
    """A rule with its machine; `cool` its cool-down in µs, `topics` those it looks at."""

    rule: Rule
    machine: Machine
    cool: int
    topics: frozenset[str]


Look = tuple[int, int, Watching]
"""Where a rule finds its reading among a signal's, for which of its inputs, and the rule."""


class Pace:
    """One step at work: what it has given so far."""

    def __init__(self, detector: "Detector", state: State, now: int, ends: Ends = ()) -> None:
        self.detector, self.state, self.now, self.ends = detector, state, now, ends
        self.lanes = state["lanes"]
        self.ordered = [detector.ordered[topic] for topic, _ in self.lanes]
        self.lateness = [detector.lateness[topic] for topic, _ in self.lanes]
        self.activations: list[Activation] = []
        self.levels: list[float] = []
        self.outcomes: list[tuple[Position, Outcome]] = []
        self.records: list[Record] = []
        self.hops: Hops | None = None  # of the event that is being looked at
        if state["parting"] or state["news"]:
            self._part()

    def take(self, topic: str, signals: Sequence[Signal]) -> None:
        """Signals of a topic into the buffer; rules that need not wait look at them now."""
        order, immediate, lateness = self.state["order"], self.detector.immediate[topic], self.detector.lateness[topic]
        lane_of = {partition: lane for lane, (name, partition) in enumerate(self.lanes) if name == topic}
        for signal in signals:
            lane = lane_of[signal.partition]
            if lane != signal.partition:
                signal = signal._replace(partition=lane)
            order["heard"][lane] = self.now
            in_time = arrive(order, signal, lateness)
            if not signal.is_event or signal.readings is None:
                self._ended(signal, "passed")
            elif not in_time:
                self._ended(signal, "late")
            else:
                self.hops = signal.hops
                for ordinal, stream, watching in immediate:
                    reading = signal.readings[ordinal]
                    if reading is not None:
                        self._look(watching, stream, reading, signal, self._place(lane, signal.offset + 1))
        self.hops = None

    def end(self) -> Step:
        """Release what the watermark now allows, and close the step."""
        detector, order = self.detector, self.state["order"]
        idle = advance(order, self.now, detector.horizon, detector.idle_after(self.lanes), self.ends)
        moved = len(self.outcomes), len(self.activations)
        while (signal := release(order)) is not None:
            self._forward(signal)
        self._expire(order["watermark"])
        if idle is not None and (idle.changed or (idle.clock and moved != (len(self.outcomes), len(self.activations)))):
            self.records.append(self._idle_record(idle))
        self.outcomes.sort(key=_place)
        return Step(self.activations, self.outcomes, self.records, idle, tuple(self.levels))

    def _forward(self, signal: Signal) -> None:
        """One signal, in order."""
        state, lane = self.state, signal.partition
        self._expire(signal.time)
        state["cut"][lane] = max(state["cut"][lane], signal.offset + 1)
        if not signal.is_event or signal.readings is None:
            return
        self._ended(signal, "passed")
        id = signal.id if self.detector.single else f"{self.lanes[lane][0]}\x1f{signal.id}"
        if repeated(state["order"], signal.time, id, self.lateness[lane], self.detector.horizon):
            return
        self.hops = signal.hops
        for ordinal, stream, watching in self.ordered[lane]:
            reading = signal.readings[ordinal]
            if reading is not None:
                self._look(watching, stream, reading, signal, None)
        self.hops = None

    def _look(self, watching: Watching, stream: int, reading: Reading, signal: Signal, cut: dict[str, int] | None) -> None:
        """A rule looks at an event."""
        key, value = reading
        machine, groups = watching.machine, self.state["groups"][watching.rule.name]
        known = groups.get(key)
        if known is None:
            known = groups[key] = machine.begin()
        place = signal.partition, signal.offset
        entry = Entry(signal.time, signal.id, *place, signal.thing, value, signal.appended, signal.hops, signal.reads)
        fired = machine.take(known, stream, entry)
        if fired is not None:
            self._fire(watching, key, known, fired, signal.time, cut)
        due = machine.due(known)
        if known["armed"] == NEVER or (due is not None and due < known["armed"]):
            self._arm(watching, key, known, due, signal.time)

    def _arm(self, watching: Watching, key: str, known: Mind, due: int | None, now: int) -> None:
        """Set the deadline for a key, or forget it: not before event time has passed its last firing, and its cool-down."""
        if due is None and watching.machine.is_empty(known):
            due = max(known["at"], known["cool"])
            if due <= now:
                del self.state["groups"][watching.rule.name][key]
                return
        if due is not None:
            known["armed"] = due
            heappush(self.state["due"], (due, watching.rule.name, key))

    def _expire(self, before: int) -> None:
        """What falls due before an event time: what happens for want of events happens, keys of which nothing is left go."""
        due = self.state["due"]
        while due and due[0][0] < before:
            moment, name, key = heappop(due)
            known = self.state["groups"][name].get(key)
            if known is None or known["armed"] != moment:
                continue  # another deadline was set meanwhile
            watching = self.detector.watching[name]
            known["armed"] = NEVER
            when = watching.machine.due(known)
            if when is not None and when <= moment:
                fired = watching.machine.expire(known, moment)
                if fired is not None:
                    self._fire(watching, key, known, fired, moment, None)
                when = watching.machine.due(known)
            self._arm(watching, key, known, when, moment)

    def _fire(self, watching: Watching, key: str, known: Mind, fired: Fired, time: int, cut: dict[str, int] | None) -> None:
        if fired.phase == "opened" and time < known["cool"]:
            return
        rule = watching.rule
        at = known["at"] = max(time, known["at"] + 1)
        id = activation_id(rule.name, key, at)
        episode = id if fired.phase == "opened" else known["episode"]
        known["episode"] = "" if fired.phase == "closed" else episode
        known["reported"] = known["level"]
        if fired.phase == "closed" and watching.cool:
            known["cool"] = at + watching.cool
        causes = list(fired.causes)
        hops = known["hops"] = self._hops(known, causes)
        activation = Activation(
            id=id, rule=rule.name, key=key, phase=fired.phase, at=at, value=known["level"] if fired.value is None else fired.value,
            episode=episode, count=fired.many, total=fired.total, events=tuple(map(self._cause, causes[:EVENTS_KEPT])),
            cut=self._cut(watching.topics) if cut is None else cut, version=rule.version, via=hops.via, correlation=hops.correlation,
            trace=hops.trace,
        )  # fmt: skip
        traces = list(dict.fromkeys(entry.hops.trace for entry in causes[:EVENTS_KEPT] if entry.hops.trace))
        self._tell(activation, known["level"], causes[0].appended if causes else None, _reads(activation, causes), traces)

    def _hops(self, known: Mind, causes: Sequence[Entry]) -> Hops:
        """Of the event at hand and those behind it; what fires without any follows from the firing before."""
        if self.hops is None and not causes:
            return known["hops"]
        here = [] if self.hops is None else [self.hops]
        return longest([*here, *(entry.hops for entry in causes)])

    def _tell(
        self, activation: Activation, level: float, appended: int | None, reads: Mapping[str, Mapping[str, Any]] | None = None,
        traces: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.activations.append(activation)
        self.levels.append(level)
        broker, now = self.state["broker"], self.now
        self.records.append(activation_record(activation, broker, appended=appended, logged=now, reads=reads or {}, traces=traces))

    def _part(self) -> None:
        """Tell which rules changed, and close the episodes of those that go or read otherwise."""
        state, watermark = self.state, self.state["order"]["watermark"]
        for name, before, version, afresh in state["news"]:
            cut = self._cut(self.detector.topics)
            data = {"rule": name, "version": version, "before": before, "afresh": afresh, "cut": cut}
            said = f"{before} {version} {state['rules'].get(name)} {sorted(cut.items())}"
            self.records.append(fact("rule", "detect", "rules", name, logged=self.now, ordinal=said, data=data))
        for one in state["parting"]:
            at = max(watermark, one.at + 1)
            self._tell(self._parted(one, at), one.level, None)
            known = state["groups"].get(one.rule, {}).get(one.key)
            if known is not None:
                known["at"] = at
        state["news"], state["parting"] = [], []

    def _parted(self, one: Parting, at: int) -> Activation:
        id = activation_id(one.rule, one.key, at)
        return Activation(
            id=id, rule=one.rule, key=one.key, phase="closed", at=at, value=one.level, episode=one.episode,
            cut=self._cut(self.detector.topics), version=one.version,
        )  # fmt: skip

    def _cause(self, entry: Entry) -> Cause:
        topic, partition = self.lanes[entry.partition]
        return Cause(topic, partition, entry.offset, entry.id, entry.thing)

    def _place(self, lane: int, offset: int) -> dict[str, int]:
        topic, partition = self.lanes[lane]
        return {f"{topic}/{partition}": offset}

    def _cut(self, topics: Iterable[str]) -> dict[str, int]:
        seen = zip(self.lanes, self.state["cut"], strict=True)
        return {f"{topic}/{partition}": offset for (topic, partition), offset in seen if offset and topic in topics}

    def _ended(self, signal: Signal, outcome: Outcome) -> None:
        topic, partition = self.lanes[signal.partition]
        self.outcomes.append((Position(self.state["broker"], topic, partition, signal.offset), outcome))

    def _idle_record(self, idle: Idle) -> Record:
        group, single = self.detector.name, self.detector.single
        partitions: list[Any] = [self.lanes[n][1] if single else "/".join(map(str, self.lanes[n])) for n in idle.partitions]
        data = {"topic": group, "partitions": partitions, "clock": idle.clock, "before": idle.before, "after": idle.after}
        return fact("idle", "detect", "order", group, logged=self.now, ordinal=f"{idle.partitions} {idle.after}", data=data)


def _place(ended: tuple[Position, Outcome]) -> tuple[str, int, int]:
    return ended[0][1:]


def _reads(activation: Activation, causes: Sequence[Entry]) -> dict[str, Mapping[str, Any]]:
    """Of an activation's events, as it names them: `topic/partition@offset` → where the facts of each are from."""
    pairs = zip(activation.events, causes, strict=False)
    return {f"{cause.topic}/{cause.partition}@{cause.offset}": entry.reads for cause, entry in pairs if entry.reads}
