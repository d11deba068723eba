"""The rules over any days of the year, in memory: the same detector as the flow `detect`, without broker, index or clock."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby, islice
from typing import Any

from headwater.agents.activation import Activation
from headwater.agents.detect import Detector
from headwater.agents.rules import Rule
from headwater.agents.signals import Batch
from headwater.flows.nyc import data
from headwater.lineage.decode import MARK, Received
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

BROKER = "rehearsal"
_BATCH = 5_000
_END = 2**52


def rehearse(rules: Sequence[Rule], start: date = data.FIRST, end: date = data.LAST) -> list[Activation]:
    """The activations of the rules over the New York days from `start` to `end` (inclusive), in order of time, rule and key."""
    found: list[Activation] = []
    for topic, watching in _by_topic(rules):
        detector = Detector(topic, watching, 1, idle=False)
        found += run(detector, (detector.signals(batch) for batch in received(topic, start, end)))
    return sorted(found, key=lambda activation: (activation.at, activation.rule, activation.key))


def run(detector: Detector, batches: Iterable[Batch]) -> list[Activation]:
    """The activations of one detector over batches of signals, in the order it fires."""
    state = detector.start(0)
    return [activation for batch in batches for activation in detector.step(state, batch, 0).activations]


def received(topic: Topic[Any], start: date, end: date) -> Iterator[list[Received]]:
    """The topic's events of the days, in one partition, and the end mark, in batches. Only the event's own fields are known, no facts."""
    own = (event for name, event in data.events(start, end) if name == topic.name)
    offset = 0
    while batch := list(islice(own, _BATCH)):
        yield [_received(topic, offset + n, event) for n, event in enumerate(batch)]
        offset += len(batch)
    mark = Event(id="end", source=BROKER, type=MARK, time=_END)
    yield [Received(Position(BROKER, topic.name, 0, offset), mark, None, 0)]


def _received(topic: Topic[Any], offset: int, event: Event) -> Received:
    return Received(Position(BROKER, topic.name, 0, offset), event, topic.decode(event.data), 0)


def _by_topic(rules: Sequence[Rule]) -> Iterator[tuple[Topic[Any], list[Rule]]]:
    for _, group in groupby(sorted(rules, key=lambda rule: rule.of.name), key=lambda rule: rule.of.name):
        watching = list(group)
        yield watching[0].of, watching
