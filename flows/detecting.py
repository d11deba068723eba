"""The `detect` step: signals of a group of topics into its detector, activations out, in event-time order."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from headwater.agents.activation import activation_event
from headwater.agents.detect import Detector, Step, groups_of
from headwater.agents.signals import Batch as Signals
from headwater.agents.state import Lane
from headwater.flows.attempt import RUN
from headwater.flows.rulebook import Rulebook, book_of, reread, watching
from headwater.flows.signalling import Signalled, Turned
from headwater.flows.sink import Outgoing, outgoing
from headwater.flows.weighing import Line, Weighed, Weigher
from headwater.lineage.duration import to_datetime
from headwater.lineage.record import Record, outcomes
from headwater.lineage.topic import ACTIVATIONS, Topic

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

_log = structlog.get_logger("headwater.detect")

AHEAD_MAX = 10_000
"""Signals of one partition that wait only for other partitions; beyond it the source reads the others first."""

REST = 5_000
"""µs between two wakes at least: the end of a partition is known from poll to poll, no finer."""


@dataclass(slots=True)
class Detected:
    """What one step of a group's detector gave, and how far it is now.

    reached  (topic, partition, offset after the last event of it that was taken in)
    """

    topics: Iterable[str]
    activations: list[Outgoing] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    reached: list[tuple[str, int, int]] = field(default_factory=list)
    watermark: int = 0


def detectors(run: "Runtime") -> dict[str, Detector]:
    """A detector for each group of topics that rules connect, by the group's name."""
    found = [
        Detector(topics, rules, {topic.name: _partitions(run, topic) for topic in topics}, idle=run.idle)
        for topics, rules in groups_of(run.app.triggers)
    ]
    return {detector.name: detector for detector in found}


def _partitions(run: "Runtime", topic: Topic[Any]) -> int:
    """How many partitions the rules over a topic reckon with: of a keyed topic those declared, else those that are there by now."""
    return topic.partitions if topic.key is not None else max(run.partitions.count(topic.name), 1)


def facts_needed(known: dict[str, Detector]) -> dict[str, Topic[Any]]:
    """The watched topics with those enrichers only that some rule looks at: the others' facts would be thrown away."""
    return {
        name: replace(topic, enrich={fact: topic.enrich[fact] for fact in detector.facts_of(name)})
        for detector in known.values()
        for name, topic in detector.topics.items()
    }


def detect_logic(run: "Runtime", known: dict[str, Detector] | Rulebook) -> Callable[[bytes | None], "DetectLogic"]:
    """The builder of the keyed logic."""
    return lambda resume: DetectLogic(run, known, resume)


class DetectLogic(StatefulBatchLogic[Signalled | Turned, Detected, bytes]):
    """One group's detector and its state. At the end of input nothing fires: the state is kept for what comes next.

    A later revision of the rules begins once every worker reads under it; what was read under it before that waits, until the end of the
    epoch at most.

    Silent partitions are idle only if their source, in this process, stood at their end a moment ago with all it read seen here.
    What a source of another process does is not known: such a partition holds the watermark until it speaks.
    """

    def __init__(self, run: "Runtime", known: dict[str, Detector] | Rulebook, resume: bytes | None) -> None:
        self._run, self._book = run, book_of(known)
        self._revision: int | None = None
        self._turned: Counter[int] = Counter()
        self._early: list[Signalled] = []
        self._name = ""
        self._seen: dict[Lane, int] = {}
        self._unwatched: bytes | None = None
        self._line = Line()
        if resume is None:
            return
        self._revision = self._book.revision
        head, _, saved = resume.partition(b"\n")
        name = head.decode()
        if name not in self._book.at(self._revision):
            self._unwatched = resume
            _log.warning("no rules look at just these topics any more: what theirs remembered is dropped", topics=name)
            return
        self._open(self._book.at(self._revision)[name], saved)
        self._tell_ahead()

    def _weigher(self) -> Weigher:
        return self._run.weigher

    def _open(self, detector: Detector, saved: bytes | None = None) -> None:
        self._name, self._detector = detector.name, detector
        self._state = detector.start(self._run.clock()) if saved is None else detector.restore(saved, self._run.clock())
        for held in self._state["held"]:
            self._line.add(Weighed.of(held), self._detector, self._weigher)

    def _begin(self, first: Signalled | Turned) -> int:
        """The revision to begin under, which is not the one that workers are changing to at this moment."""
        self._revision = min(max(first.revision - 1, 0), self._book.revision)
        return self._revision

    def _turn(self, turned: Turned) -> list[Detected]:
        """One more worker reads under a revision: if it was the last, go on under it, with what was read so far."""
        if not self._name:
            self._open(self._book.at(self._begin(turned))[turned.group])
        self._turned[turned.revision] += 1
        if self._turned[turned.revision] < self._run.workers or turned.revision <= self._current:
            return []
        del self._turned[turned.revision]
        self._renew(turned.revision)
        early, self._early = self._early, []
        return [detected for signalled in early for detected in self._take(signalled)]

    @property
    def _current(self) -> int:
        return self._revision or 0

    def _renew(self, revision: int) -> None:
        """Go on under the rules of a later revision: what is remembered goes over as in a restart."""
        self._revision, now = revision, self._book.at(revision)[self._name]
        if now is self._detector:
            return
        self._state["held"], heard = self._line.held, self._state["order"]["heard"]
        saved, self._line = self._detector.snapshot(self._state), Line()
        self._open(now, saved)
        self._state["order"]["heard"] = heard

    def _ends(self) -> list[int | None]:
        """Where the sources stand, in all partitions that there are by now: those that appeared hold the watermark from here on."""
        counts = {name: _partitions(self._run, topic) for name, topic in self._detector.topics.items()}
        for topic, partition in self._seen:  # the source of another process may know of more
            counts[topic] = max(counts[topic], partition + 1)
        self._detector.grow(self._state, counts, self._run.clock())
        ends = self._run.ends
        return [ends.stood(*lane, self._seen.get(lane, 0)) for lane in self._detector.lanes(self._state)]

    def _tell_ahead(self) -> None:
        """Let the source know which partitions to pause; counted only when there are enough signals to matter."""
        ahead: list[int] = []
        if len(self._state["order"]["waiting"]) > AHEAD_MAX:
            ahead = self._detector.ahead(self._state)
        far = [lane for lane, many in zip(self._detector.lanes(self._state), ahead, strict=False) if many > AHEAD_MAX]
        for name in self._detector.topics:
            self._run.far_ahead[name] = frozenset(partition for topic, partition in far if topic == name)
            if self._line.full:
                self._run.far_ahead[name] = frozenset(range(self._detector.counts[name]))

    def on_batch(self, values: list[Signalled | Turned]) -> tuple[Iterable[Detected], bool]:
        detected = []
        for each in values:
            detected += self._turn(each) if isinstance(each, Turned) else self._take(each)
        self._tell_ahead()
        return (detected, StatefulBatchLogic.RETAIN)

    def _take(self, signalled: Signalled) -> list[Detected]:
        if self._revision is None:
            self._begin(signalled)
        if signalled.revision > self._current:
            self._early.append(signalled)
            return []
        if not self._name:
            self._open(watching(self._book.at(self._current), signalled.signals.topic))
        signals = signalled.signals
        if signalled.revision < self._current:
            signals = reread(signals, self._book.at(signalled.revision)[self._name], self._detector)
        if signals.texts or self._line:
            self._line.add(Weighed(signals, signalled.partition, signalled.next), self._detector, self._weigher)
            return [Detected((), records=signalled.records), *self._weighed()]
        one = self._step(signals, signalled.partition, signalled.next)
        one.records += signalled.records
        return [one]

    def _weighed(self) -> list[Detected]:
        """Steps of what need not wait for its texts any more."""
        return [self._step(self._detector.weighed(one.signals, one.near), one.partition, one.next) for one in self._line.ready()]

    def _step(self, signals: Signals, partition: int, following: int) -> Detected:
        self._seen[signals.topic, partition] = following
        detected = self._detected(self._detector.step(self._state, signals, self._run.clock(), self._ends()))
        detected.reached.append((signals.topic, partition, following))
        self._run.meter.count("seen by rules", len(signals.signals))
        return detected

    def on_notify(self) -> tuple[Iterable[Detected], bool]:
        if self._unwatched is not None:
            return ([self._left(self._unwatched)], StatefulBatchLogic.DISCARD)
        detected = self._weighed()
        detected.append(self._detected(self._detector.tick(self._state, self._run.clock(), self._ends())))
        self._tell_ahead()
        return (detected, StatefulBatchLogic.RETAIN)

    def on_eof(self) -> tuple[Iterable[Detected], bool]:
        """Nothing, for a stop is a pause: the state goes on after it. Unless the broker ends too; then what waits is told now."""
        if not (self._name and self._run.ending.is_set()):
            return ([], StatefulBatchLogic.RETAIN)
        return ([self._detected(self._detector.finish(self._state, self._run.clock()))], StatefulBatchLogic.RETAIN)

    def notify_at(self) -> datetime | None:
        now = self._run.clock()
        if self._unwatched is not None:
            return to_datetime(now)
        if self._line:
            return to_datetime(now + REST)
        at = self._detector.wake_at(self._state, now, self._ends())
        return None if at is None else to_datetime(max(at, now + REST))

    def snapshot(self) -> bytes:
        if self._unwatched is not None:
            return self._unwatched
        if self._early:  # the engine lets nobody read in an epoch before all workers have done with the one before
            raise RuntimeError(f"rules over {self._name}: an epoch ended before all workers had changed to the same rules")
        self._state["held"] = self._line.held
        return self._name.encode() + b"\n" + self._detector.snapshot(self._state)

    def _left(self, unwatched: bytes) -> Detected:
        """What waited ends as passed, episodes that run are closed: nobody else would."""
        name, _, saved = unwatched.partition(b"\n")
        topics = [self._run.app.topics.get(each) or Topic(each, _Forgotten) for each in name.decode().split("+")]
        detector, now = Detector(topics, [], idle=False), self._run.clock()
        state = detector.restore(saved, now)
        steps = [detector.step(state, Weighed.of(held).signals, now) for held in state["held"]]
        left = Detected(())
        for step in (*steps, detector.finish(state, now)):
            one = self._detected(step, ())
            left.activations += one.activations
            left.records += one.records
        return left

    def _detected(self, step: Step, topics: Iterable[str] | None = None) -> Detected:
        now = self._run.clock()
        fired = [outgoing(ACTIVATIONS, activation_event(activation), activation.key) for activation in step.activations]
        records = [*step.records, *outcomes("detect", step.outcomes, now)]
        if topics is not None:
            return Detected(topics, fired, records)
        return Detected(self._detector.topics, fired, records, [], self._detector.watermark(self._state))


class _Forgotten(msgspec.Struct):
    """The model of a topic that the application does not know any more."""


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
        told = (RUN, self._run.id.encode())
        written = [each._replace(headers=[*each.headers, told]) for item in items for each in item.activations]
        meter.wrote(self._run.writer.write(written))
        meter.count("activations", sum(len(item.activations) for item in items))
        for item in items:
            for topic, partition, offset in item.reached:
                meter.reached("detect", topic, partition, offset)
            for topic in item.topics:
                meter.watermark(topic, item.watermark)
