"""The rules over any days of the year, in memory: the same detector as the flow `detect`, without broker, index or clock."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any

from headwater.agents.activation import Activation
from headwater.agents.detect import Detector, State, groups_of
from headwater.agents.rules import Rule
from headwater.agents.signals import Batch
from headwater.flows.nyc import data
from headwater.lineage.decode import MARK, Received
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

BROKER = "rehearsal"
_BATCH = 20_000
_END = 2**52


def rehearse(rules: Sequence[Rule], start: date = data.FIRST, end: date = data.LAST) -> list[Activation]:
    """The activations of the rules over the New York days from `start` to `end` (inclusive), in order of time, rule and key."""
    topics = [topic for group, _ in groups_of(rules) for topic in group]
    watching: dict[str, tuple[Detector, State]] = {}
    for group, members in groups_of(rules):
        detector = Detector(group, members, {topic.name: 1 for topic in group}, idle=False)
        watching |= dict.fromkeys(detector.topics, (detector, detector.start(0)))
    found: list[Activation] = []
    for name, batch in received(topics, start, end):
        detector, state = watching[name]
        found += detector.step(state, detector.signals(batch), 0).activations
    return sorted(found, key=lambda activation: (activation.at, activation.rule, activation.key))


def run(detector: Detector, batches: Iterable[Batch]) -> list[Activation]:
    """The activations of one detector over batches of signals, in the order it fires."""
    state = detector.start(0)
    return [activation for batch in batches for activation in detector.step(state, batch, 0).activations]


def received(topics: Sequence[Topic[Any]], start: date, end: date) -> Iterator[tuple[str, list[Received]]]:
    """The topics' events of the days, each topic in one partition, in batches, and an end mark each. Events bring no facts."""
    by_name = {topic.name: topic for topic in topics}
    offsets = dict.fromkeys(by_name, 0)
    held: dict[str, list[Received]] = {name: [] for name in by_name}
    for name, event in data.events(start, end):
        topic = by_name.get(name)
        if topic is None:
            continue
        held[name].append(Received(Position(BROKER, name, 0, offsets[name]), event, topic.decode(event.data), 0))
        offsets[name] += 1
        if len(held[name]) == _BATCH:
            yield name, held[name]
            held[name] = []
    for name, rest in held.items():
        mark = Event(id="end", source=BROKER, type=MARK, time=_END)
        yield name, [*rest, Received(Position(BROKER, name, 0, offsets[name]), mark, None, 0)]
