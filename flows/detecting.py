"""The `detect` step: signals of one topic into its detector, activations out, in event-time order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from headwater.agents.activation import activation_event
from headwater.agents.detect import Detector, Step
from headwater.agents.signals import Batch as Signals
from headwater.flows.gateway import AHEAD, too_far_ahead
from headwater.flows.sink import Outgoing, outgoing
from headwater.flows.steps import Work, bury_all
from headwater.lineage.duration import to_datetime
from headwater.lineage.event import Position
from headwater.lineage.record import Record, outcomes
from headwater.lineage.topic import ACTIVATIONS, Topic

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

_log = structlog.get_logger("headwater.detect")

AHEAD_MAX = 100_000
"""Signals of one partition that wait only for other partitions; beyond it the source reads the others first."""

REST = 5_000
"""µs between two wakes at least: the end of a partition is known from poll to poll, no finer."""


@dataclass(slots=True)
class Signalled:
    """What one source batch says to the rules; `records` of what did not get that far."""

    signals: Signals
    partition: int
    next: int
    records: list[Record]


@dataclass(slots=True)
class Detected:
    """What one step of a topic's detector gave, and how far it is now."""

    topic: str
    activations: list[Outgoing] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    reached: list[tuple[int, int]] = field(default_factory=list)
    watermark: int = 0


def detectors(run: "Runtime") -> dict[str, Detector]:
    """A detector for each watched topic."""
    return {
        name: Detector(topic, [rule for rule in run.app.triggers if rule.of is topic], run.counts[name], idle=run.idle)
        for name, topic in run.app.watched.items()
    }


def facts_needed(known: dict[str, Detector]) -> dict[str, Topic[Any]]:
    """The watched topics with those enrichers only that some rule looks at: the others' facts would be thrown away."""
    return {
        name: replace(detector.topic, enrich={fact: detector.topic.enrich[fact] for fact in detector.facts})
        for name, detector in known.items()
    }


def signal_step(run: "Runtime", known: dict[str, Detector], ahead: int = AHEAD) -> Callable[[list[Work]], list[tuple[str, Signalled]]]:
    """Work → signals, keyed by topic: one owner for each topic's rules.

    What fails before the rules see it (decode, enrich) on a topic that is indexed too, `index` buries; here only its outcome is told.
    What fails here (RuleFailed, Invalid) nobody else sees: it is always buried here.

    One event must not silence all others of its partition by making them late. So while the wall clock has a say (`run.idle`) an event more
    than `ahead` µs beyond it fails, and time marks end as `passed`, unheeded: only a replay sends them, and only a replay needs them.
    """
    elsewhere = frozenset(run.app.indexed) if run.indexes else frozenset()

    def step(work: list[Work]) -> list[tuple[str, Signalled]]:
        found = []
        for each in work:
            topic, now = each.batch.topic, run.clock()
            before = len(each.failures)
            unheeded = _unheeded(each, now, ahead) if run.idle else []
            signals = known[topic].signals(each.received)
            each.fail(signals.failures)
            records = bury_all("detect", each.failures[:before], run.writer, now, own=topic not in elsewhere)
            records += bury_all("detect", each.failures[before:], run.writer, now, own=True)
            ended = [*((f.position, "dead_lettered") for f in each.failures), *((position, "passed") for position in unheeded)]
            records += outcomes("detect", sorted(ended), now)
            found.append((topic, Signalled(signals._replace(failures=[]), each.batch.partition, each.batch.next, records)))
        return found

    return step


def _unheeded(work: Work, now: int, ahead: int) -> list[Position]:
    """Take time marks out of live work, and fail what lies too far ahead of the clock. Gives the positions of the marks."""
    marks = [received.position for received in work.received if received.is_mark]
    if marks:
        work.received = [received for received in work.received if not received.is_mark]
    work.fail([(r, error) for r in work.received if (error := too_far_ahead(r.event, now, ahead)) is not None])
    return marks


def detect_logic(run: "Runtime", known: dict[str, Detector]) -> Callable[[bytes | None], "DetectLogic"]:
    """The builder of the keyed logic."""
    return lambda resume: DetectLogic(run, known, resume)


class DetectLogic(StatefulBatchLogic[Signalled, Detected, bytes]):
    """One topic's detector and its state. At the end of input nothing fires: the state is kept for what comes next.

    Silent partitions are idle only if their source, in this process, stood at their end a moment ago with all it read seen here.
    What a source of another process does is not known: such a partition holds the watermark until it speaks.
    """

    def __init__(self, run: "Runtime", known: dict[str, Detector], resume: bytes | None) -> None:
        self._run, self._known = run, known
        self._topic = ""
        self._seen: dict[int, int] = {}
        self._unwatched: bytes | None = None
        if resume is None:
            return
        name, _, saved = resume.partition(b"\n")
        if name.decode() not in known:
            self._unwatched = resume
            _log.warning("no rule watches this topic any more: what its rules remembered is dropped", topic=name.decode())
            return
        self._topic = name.decode()
        self._detector = known[self._topic]
        self._state = self._detector.restore(saved, run.clock())
        self._tell_ahead()

    def _open(self, topic: str) -> None:
        self._topic = topic
        self._detector = self._known[topic]
        self._state = self._detector.start(self._run.clock())

    def _ends(self) -> list[int | None]:
        ends = self._run.ends
        return [ends.stood(self._topic, partition, self._seen.get(partition, 0)) for partition in range(self._detector.partitions)]

    def _tell_ahead(self) -> None:
        """Let the source know which partitions to pause; counted only when there are enough signals to matter."""
        ahead: list[int] = []
        if len(self._state["order"]["waiting"]) > AHEAD_MAX:
            ahead = self._detector.ahead(self._state)
        self._run.far_ahead[self._topic] = frozenset(partition for partition, many in enumerate(ahead) if many > AHEAD_MAX)

    def on_batch(self, values: list[Signalled]) -> tuple[Iterable[Detected], bool]:
        detected = []
        for signalled in values:
            if not self._topic:
                self._open(signalled.signals.topic)
            self._seen[signalled.partition] = signalled.next
            one = self._detected(self._detector.step(self._state, signalled.signals, self._run.clock(), self._ends()))
            one.records += signalled.records
            one.reached.append((signalled.partition, signalled.next))
            self._run.meter.count("seen by rules", len(signalled.signals.signals))
            detected.append(one)
        self._tell_ahead()
        return (detected, StatefulBatchLogic.RETAIN)

    def on_notify(self) -> tuple[Iterable[Detected], bool]:
        if self._unwatched is not None:
            return ([], StatefulBatchLogic.DISCARD)
        detected = self._detected(self._detector.tick(self._state, self._run.clock(), self._ends()))
        self._tell_ahead()
        return ([detected], StatefulBatchLogic.RETAIN)

    def on_eof(self) -> tuple[Iterable[Detected], bool]:
        """Nothing, for a stop is a pause: the state goes on after it. Unless the broker ends too; then what waits is told now."""
        if not (self._topic and self._run.ending.is_set()):
            return ([], StatefulBatchLogic.RETAIN)
        return ([self._detected(self._detector.finish(self._state, self._run.clock()))], StatefulBatchLogic.RETAIN)

    def notify_at(self) -> datetime | None:
        now = self._run.clock()
        if self._unwatched is not None:
            return to_datetime(now)
        at = self._detector.wake_at(self._state, now, self._ends())
        return None if at is None else to_datetime(max(at, now + REST))

    def snapshot(self) -> bytes:
        if self._unwatched is not None:
            return self._unwatched
        return self._topic.encode() + b"\n" + self._detector.snapshot(self._state)

    def _detected(self, step: Step) -> Detected:
        now = self._run.clock()
        fired = [outgoing(ACTIVATIONS, activation_event(activation), activation.key) for activation in step.activations]
        records = [*step.records, *outcomes("detect", step.outcomes, now)]
        return Detected(self._topic, fired, records, [], self._detector.watermark(self._state))


class DetectedSink(DynamicSink[Detected]):
    """Writes the activations; only then does the meter hear how far the rules are."""

    def __init__(self, run: "Runtime") -> None:
        self._run = run

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Partition":
        return _Partition(self._run)


class _Partition(StatelessSinkPartition[Detected]):
    def __init__(self, run: "Runtime") -> None:
        self._run = run

    def write_batch(self, items: list[Detected]) -> None:
        meter = self._run.meter
        meter.wrote(self._run.writer.write(activation for item in items for activation in item.activations))
        meter.count("activations", sum(len(item.activations) for item in items))
        for item in items:
            for partition, offset in item.reached:
                meter.reached("detect", item.topic, partition, offset)
            meter.watermark(item.topic, item.watermark)
