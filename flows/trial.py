"""A trial of a rule: what it would have done over the history of its topic. Reads, and touches nothing.

The events go through the same detector as in the flow `detect`, in the order of their partitions, those ahead waiting for those behind;
so a trial of the rule that runs gives its activations, id by id.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headwater.agents.activation import Activation
from headwater.agents.detect import Detector
from headwater.agents.meaning import Meaning
from headwater.agents.signals import Batch
from headwater.agents.standing import Standing
from headwater.enrichers.enrich import enrich
from headwater.enrichers.latest import Latest
from headwater.flows.detecting import facts_needed
from headwater.lineage.decode import Received
from headwater.lineage.errors import Misused
from headwater.lineage.topic import Topic

SAMPLES = 600
"""Looks at the levels that are kept; beyond twice as many every second one goes."""


@dataclass
class Episode:
    """One episode of a key: its activations, the first of which opened it."""

    key: str
    activations: list[Activation] = field(default_factory=list)

    @property
    def opened(self) -> int:
        return self.activations[0].at

    @property
    def closed(self) -> int | None:
        last = self.activations[-1]
        return last.at if last.phase == "closed" else None

    def furthest(self, rule: Any) -> float:
        """The value furthest beyond the opening level of its rule that was reported."""
        values = [each.value for each in self.activations if each.phase != "closed"] or [self.activations[0].value]
        side = getattr(rule, "side", "below" if getattr(rule, "below", False) else "above")
        return max(values, key=abs) if side == "both" else min(values) if side == "below" else max(values)


@dataclass
class Trial:
    """What came of it. `levels`: key → (event time in µs, level), as the rules stood when they had come so far."""

    rule: Any
    events: int = 0
    unread: int = 0
    late: int = 0
    first: int | None = None
    last: int | None = None
    activations: list[Activation] = field(default_factory=list)
    levels: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def episodes(self) -> list[Episode]:
        """In the order in which they opened."""
        found: dict[str, Episode] = {}
        for activation in self.activations:
            found.setdefault(activation.episode, Episode(activation.key)).activations.append(activation)
        return sorted(found.values(), key=lambda each: (each.opened, each.key))

    def within(self, start: int | None, end: int | None) -> "Trial":
        """The same, told of a span of event time (µs, end excluded) only: episodes that began, went on or ended in it."""

        def inside(at: int) -> bool:
            return (start is None or at >= start) and (end is None or at < end)

        kept = [each for each in self.activations if inside(each.at)]
        levels = {key: [one for one in line if inside(one[0])] for key, line in self.levels.items()}
        return Trial(self.rule, self.events, self.unread, self.late, self.first, self.last, kept, {k: v for k, v in levels.items() if v})


def topics_of(rule: Any) -> list[Topic[Any]]:
    """The topics that a rule looks at."""
    return list({given.topic.name: given.topic for given in rule.inputs}.values())


def tried(
    rule: Any, tables: Sequence[Latest], counts: Mapping[str, int], history: Iterable[tuple[str, Sequence[Received]]],
    meaning: Callable[[], Meaning] | None = None,
) -> Trial:  # fmt: skip
    """Run a rule over history: pieces of its topics, and of those that its look-ups follow, in `history`, which tells where they end.

    meaning  by which a rule that asks for meaning (`Standing`) weighs texts. Raises Misused where there is none; Unavailable.
    """
    weighs = _weighing(rule, meaning)
    detector = Detector(topics_of(rule), [rule], counts, idle=False)
    needed = facts_needed({detector.name: detector})
    state, trial = detector.start(0), Trial(rule)
    looks, step, since = 0, 1, 0
    for name, received in history:
        for table in tables:
            if table.topic.name == name:
                table.feed([each for each in received if not each.is_mark])
        # Texts are embedded together, so what they come in is not cut; such a rule has no level to look at between them.
        for piece in _pieces(received, max(step, len(received)) if weighs else step) if name in needed else ():
            signals = _read(trial, detector, needed[name], piece)
            if weighs is not None:
                signals = detector.weighed(signals, detector.near(signals, weighs))
            _take(trial, detector.step(state, signals, 0))
            since += len(piece)
            if since < step:
                continue
            looks, since = looks + 1, 0
            _look(trial, levels_of(state, rule), detector.watermark(state))
            if looks >= 2 * SAMPLES:
                looks, step = looks // 2, step * 2
                trial.levels = {key: line[::2] for key, line in trial.levels.items()}
    _look(trial, levels_of(state, rule), trial.last or 0)
    return trial


def _weighing(rule: Any, meaning: Callable[[], Meaning] | None) -> Meaning | None:
    """What weighs texts, if the rule asks for meaning."""
    if not isinstance(rule, Standing):
        return None
    if meaning is None:
        raise Misused(f"rule {rule.name} asks for meaning, and there is no embedder to weigh texts with")
    return meaning()


def _pieces(received: Sequence[Received], size: int) -> Iterator[Sequence[Received]]:
    """Few events at a time, so that levels are seen between them; of a long history more."""
    return (received[start : start + size] for start in range(0, len(received), size))


def _read(trial: Trial, detector: Detector, topic: Topic[Any], received: Sequence[Received]) -> Batch:
    """The signals of a piece, counted."""
    ready, refused = enrich(topic, received)
    signals = detector.signals(ready, topic.name)
    times = [each.event.time for each in received if not each.is_mark]
    trial.events += len(times)
    trial.unread += len(refused) + len(signals.failures)
    if times:
        trial.first = min(times) if trial.first is None else min(trial.first, *times)
        trial.last = max(times) if trial.last is None else max(trial.last, *times)
    return signals._replace(failures=[])


def levels_of(state: Any, rule: Any) -> dict[str, float]:
    """What the rule measures now, of each key that it remembers."""
    return {key: float(known["level"]) for key, known in state["groups"][rule.name].items() if "level" in known}


def _take(trial: Trial, step: Any) -> None:
    trial.activations += step.activations
    trial.late += sum(outcome == "late" for _, outcome in step.outcomes)
    for activation, level in zip(step.activations, step.levels, strict=True):
        trial.levels.setdefault(activation.key, []).append((activation.at, level))


def _look(trial: Trial, levels: Mapping[str, float], at: int) -> None:
    """Note the levels; of a key that is forgotten there is none any more."""
    if at <= 0:
        return
    for key, level in levels.items():
        line = trial.levels.setdefault(key, [])
        if not line or at > line[-1][0]:
            line.append((at, level))
