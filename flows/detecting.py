"""The `detect` step: signals of one topic into its detector, activations out, in event-time order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from headwater.agents.activation import activation_event
from headwater.agents.detect import Detector, Step
from headwater.agents.signals import Batch as Signals
from headwater.flows.sink import Outgoing, outgoing
from headwater.flows.steps import Work, bury_all
from headwater.lineage.duration import to_datetime
from headwater.lineage.record import Record, outcomes
from headwater.lineage.topic import ACTIVATIONS, Topic

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime


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
        name: Detector(topic, [rule for rule in run.app.triggers if rule.of is topic], topic.partitions, idle=run.idle)
        for name, topic in run.app.watched.items()
    }


def facts_needed(known: dict[str, Detector]) -> dict[str, Topic[Any]]:
    """The watched topics with those enrichers only that some rule looks at: the others' facts would be thrown away."""
    return {
        name: replace(detector.topic, enrich={fact: detector.topic.enrich[fact] for fact in detector.facts})
        for name, detector in known.items()
    }


def signal_step(run: "Runtime", known: dict[str, Detector]) -> Callable[[list[Work]], list[tuple[str, Signalled]]]:
    """Work → signals, keyed by topic: one owner for each topic's rules.

    A topic that is indexed too has its dead letters written by `index`; here only their outcome is told.
    """
    elsewhere = frozenset(run.app.indexed) if run.indexes else frozenset()

    def step(work: list[Work]) -> list[tuple[str, Signalled]]:
        found = []
        for each in work:
            topic = each.batch.topic
            signals = known[topic].signals(each.received)
            each.fail(signals.failures)
            now = run.clock()
            records = bury_all("detect", each.failures, run.writer, now, own=topic not in elsewhere)
            records += outcomes("detect", sorted((f.position, "dead_lettered") for f in each.failures), now)
            found.append((topic, Signalled(signals._replace(failures=[]), each.batch.partition, each.batch.next, records)))
        return found

    return step


def detect_logic(run: "Runtime", known: dict[str, Detector]) -> Callable[[bytes | None], "DetectLogic"]:
    """The builder of the keyed logic."""
    return lambda resume: DetectLogic(run, known, resume)


class DetectLogic(StatefulBatchLogic[Signalled, Detected, bytes]):
    """One topic's detector and its state. At the end of input nothing fires: the state is kept for what comes next."""

    def __init__(self, run: "Runtime", known: dict[str, Detector], resume: bytes | None) -> None:
        self._run, self._known = run, known
        self._topic = ""
        if resume is not None:
            name, _, saved = resume.partition(b"\n")
            self._topic = name.decode()
            self._detector = known[self._topic]
            self._state = self._detector.restore(saved, run.clock())

    def _open(self, topic: str) -> None:
        self._topic = topic
        self._detector = self._known[topic]
        self._state = self._detector.start(self._run.clock())

    def on_batch(self, values: list[Signalled]) -> tuple[Iterable[Detected], bool]:
        detected = []
        for signalled in values:
            if not self._topic:
                self._open(signalled.signals.topic)
            one = self._detected(self._detector.step(self._state, signalled.signals, self._run.clock()))
            one.records += signalled.records
            one.reached.append((signalled.partition, signalled.next))
            self._run.meter.count("seen by rules", len(signalled.signals.signals))
            detected.append(one)
        return (detected, StatefulBatchLogic.RETAIN)

    def on_notify(self) -> tuple[Iterable[Detected], bool]:
        return ([self._detected(self._detector.tick(self._state, self._run.clock()))], StatefulBatchLogic.RETAIN)

    def on_eof(self) -> tuple[Iterable[Detected], bool]:
        """Nothing, for a stop is a pause: the state goes on after it. Unless the broker ends too; then what waits is told now."""
        if not (self._topic and self._run.ending.is_set()):
            return ([], StatefulBatchLogic.RETAIN)
        return ([self._detected(self._detector.finish(self._state, self._run.clock()))], StatefulBatchLogic.RETAIN)

    def notify_at(self) -> datetime | None:
        at = self._detector.wake_at(self._state, self._run.clock())
        return None if at is None else to_datetime(at)

    def snapshot(self) -> bytes:
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
