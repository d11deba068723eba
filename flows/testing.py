"""The whole walk in memory, for tests of applications: no broker, no threads of flows, a fixed clock. Public as `headwater.testing`."""

import asyncio
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from headwater.agents.activation import Activation
from headwater.agents.context import Chooser, Ports
from headwater.agents.decide import decide
from headwater.agents.detect import Detector, groups_of
from headwater.agents.hops import HOPS, bounded
from headwater.agents.journal import Decided, Outgoing
from headwater.agents.meaning import Meaning
from headwater.agents.reins import journal_name
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.embed import Embedder
from headwater.enrichers.enrich import enrich
from headwater.enrichers.freshness import Progress
from headwater.enrichers.index import Indexer
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import FILES_TOPIC, App
from headwater.flows.calling import Called, known, performed
from headwater.flows.detecting import facts_needed
from headwater.flows.files import file_events
from headwater.lineage.decode import MARK, Received
from headwater.lineage.duration import duration, parse_time
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.event import Event, Position
from headwater.lineage.record import Record, outcomes
from headwater.lineage.topic import Topic

START = parse_time("2030-01-01T00:00:00Z")
BROKER = "walk"
Refusal: TypeAlias = tuple[Received, HeadwaterError]
FOREVER = duration("36500d")

Given: TypeAlias = tuple[Topic[Any], Any] | tuple[Topic[Any], Any, str]
"""A topic, the data of an event on it, and its event time (RFC 3339); without one, a second after the event before."""


@dataclass
class Walk:
    """What came of the events.

    documents    document id → its text now (`TYPE/ID`; deleted ones are gone)
    failed       (event id, error) of events that would be dead letters
    effects      the events that decisions published; those held back for a review are not among them
    calls        the calls that decisions made, in order, each with its arguments and what came of it
    """

    documents: dict[str, str] = field(default_factory=dict)
    activations: list[Activation] = field(default_factory=list)
    decisions: list[Decided] = field(default_factory=list)
    effects: list[Outgoing] = field(default_factory=list)
    calls: list[Called] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    failed: list[tuple[str, HeadwaterError]] = field(default_factory=list)


def walk(
    app: App, events: Iterable[Given], *, model: Chooser | None = None, embedder: Embedder | None = None,
    tools: Mapping[str, Callable[..., Any]] | None = None,
) -> Walk:  # fmt: skip
    """Run events through the application: index, detect, decide, and all that follows from what decisions publish.

    Tools that read are called as they are. Of those that act outside nothing is called but what `tools` gives in their place.

    model     what answers `context.choose`; None: the local decision model over `embedder`
    embedder  None: a tiny deterministic one that compares words; `headwater.enrichers.embed.minilm()` is the real one
    tools     name of a tool → the function called in its place; of the others is told what would have been called, see `Called`

    Raises Misused for a tool that no agent declares.
    """
    from headwater.agents.model import model_from

    known(tools or {}, app.agents)
    vectors = embedder or HashEmbedder()
    result = Walk()
    topics = _Topics(app)
    topics.take(events)
    with tempfile.TemporaryDirectory(prefix="headwater-walk-") as folder:
        index = EdgeIndex(Path(folder), size=vectors.size)
        try:
            indexer = Indexer(index, vectors, app.document_types, clock=_clock, history_us=FOREVER)
            _index(app, topics.received, indexer, result)
            retriever = Retriever(index, vectors, topics.progress, reranker=app.reranker)
            chooser, meaning = model or model_from(None, vectors), Meaning(vectors)
            asyncio.run(_decide(app, topics, indexer, retriever, chooser, meaning, tools or {}, result))
            result.documents = _documents(index, result.records)
        finally:
            index.close()
    return result


def _clock() -> int:
    return START


class _Time:
    """A clock that moves by sleeping alone: whoever waits for a turn waits for no real time."""

    def __init__(self) -> None:
        self._now = START

    def now(self) -> int:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += round(seconds * 1_000_000)
        await asyncio.sleep(0)


class _Topics:
    """What lies on the topics: events as a flow would receive them, files first, each with its position; all of it is indexed at once."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.received: list[Received] = []
        self.progress = Progress(BROKER, _clock)
        self._offsets: dict[tuple[str, int], int] = {}

    def take(self, events: Iterable[Given]) -> None:
        """The files, and the events of the test."""
        now = START
        for event in file_events(self.app.files, self.app.root, (), START):
            self.receive(FILES_TOPIC, event, str(event.subject))
        for number, (topic, data, *at) in enumerate(events):
            now = parse_time(at[0]) if at else now + 1_000_000
            event = Event(id=f"event-{number}", source="headwater/walk", type=topic.name, time=now, data=topic.encode(data))
            self.receive(topic, event, topic.key_of(data) or event.id)
        self.feed(self.received)

    def receive(self, topic: Topic[Any], event: Event, key: str) -> Received:
        partition = zlib.crc32(key.encode()) % topic.partitions
        offset = self._offsets.get((topic.name, partition), 0)
        self._offsets[topic.name, partition] = offset + 1
        received = Received(Position(BROKER, topic.name, partition, offset), event, topic.decode(event.data), event.time)
        self.received.append(received)
        self.progress.settle(topic.name, partition, offset + 2)  # one more, for the mark behind it
        return received

    def feed(self, received: Sequence[Received]) -> None:
        """Have the look-ups know them."""
        for table in self.app.tables:
            table.feed([each for each in received if each.position.topic == table.topic.name])


def _index(app: App, received: Sequence[Received], indexer: Indexer, result: Walk) -> None:
    ready: list[Received] = []
    refused: list[Refusal] = []
    for each in received:
        if each.position.topic in app.indexed:
            enriched, failures = enrich(app.topics[each.position.topic], [each])
            ready += enriched
            refused += failures
    indexed = indexer.index(ready)
    refused += indexed.failures
    ended = [*indexed.outcomes, *_dead(refused)]
    result.failed += [(one.event.id, error) for one, error in refused]
    result.records += [*indexed.records, *outcomes("index", sorted(ended), START)]


def _dead(refused: Iterable[Refusal]) -> list[tuple[Position, str]]:
    return [(one.position, "dead_lettered") for one, _ in refused]


def _documents(index: EdgeIndex, records: Iterable[Record]) -> dict[str, str]:
    heads = index.heads(sorted({record.ref for record in records if record.kind == "document"}))
    texts: dict[str, str] = {}
    for document, head in sorted(heads.items()):
        entry = head.entries[-1]
        if not entry.deleted:
            points = index.points(list(entry.points(document)))
            texts[document] = "\n\n".join(point.text for point, _ in sorted(points.values(), key=lambda pair: pair[0].n))
    return texts


@dataclass
class _Detected:
    """What the rules make of all that lies on the topics so far."""

    activations: list[Activation] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    failed: list[tuple[str, HeadwaterError]] = field(default_factory=list)


def _detect(app: App, received: Sequence[Received], meaning: Meaning) -> _Detected:
    """Every rule over its topic; at the end a time mark, so that what is complete is told, and windows stay open.

    As in the flows, the rules know nothing of the index: they see events whose document function failed, and enrich by themselves, with
    what they look at. An event that an enricher refuses is a dead letter of the index, if its topic is indexed, and else of the rules.
    """
    result = _Detected()
    latest = max((each.event.time for each in received), default=START)
    for topics, rules in groups_of(app.triggers):
        detector = Detector(topics, rules, idle=False)
        state = detector.start(START)
        needed = facts_needed({detector.name: detector})
        for topic in topics:
            mine = [each for each in received if each.position.topic == topic.name]
            ready, refused = enrich(needed[topic.name], mine)
            signals = detector.signals([*ready, *_marks(topic, mine, latest + 1)], topic.name)
            near = detector.near(signals, meaning) if signals.texts else ()
            step = detector.step(state, detector.weighed(signals, near)._replace(failures=[]), START)
            ended = [*step.outcomes, *_dead([*refused, *signals.failures])]
            told = [*([] if topic.name in app.indexed else refused), *signals.failures]
            result.failed += [(one.event.id, error) for one, error in told]
            result.activations += step.activations
            result.records += [*step.records, *outcomes("detect", sorted(ended), START)]
    result.activations.sort(key=lambda activation: (activation.at, activation.rule, activation.key))
    return result


def _marks(topic: Topic[Any], received: Sequence[Received], at: int) -> list[Received]:
    ends = {p: sum(each.position.partition == p for each in received) for p in range(topic.partitions)}
    marks = (Event(id=f"mark-{p}", source="headwater/walk", type=MARK, time=at) for p in ends)
    return [Received(Position(BROKER, topic.name, p, ends[p]), mark, None, at) for p, mark in zip(ends, marks, strict=True)]


async def _decide(
    app: App, topics: _Topics, indexer: Indexer, retriever: Retriever, chooser: Chooser, meaning: Meaning,
    tools: Mapping[str, Callable[..., Any]], result: Walk,
) -> None:  # fmt: skip
    """Decide in event-time order. What a decision publishes is an event like any other: after it the rules look again at all there is."""
    time = _Time()
    ports = Ports(
        search=retriever, chooser=chooser, clock=time.now, sleep=time.sleep, broker=BROKER, indexed=frozenset(app.indexed),
        random=lambda: 0.5,
    )  # fmt: skip
    decided: set[str] = set()
    while True:
        detected = _detect(app, topics.received, meaning)
        for activation in detected.activations:
            if activation.id not in decided:
                decided.add(activation.id)
                effects = await _woken(app, activation, ports, tools, result)
                if published := _publish(topics, effects):
                    _index(app, published, indexer, result)
                    break
        else:
            break
    result.activations = detected.activations
    result.records = [*result.records, *detected.records]
    result.failed += detected.failed


async def _woken(
    app: App, activation: Activation, ports: Ports, tools: Mapping[str, Callable[..., Any]], result: Walk
) -> list[Outgoing]:
    """Every agent that this activation wakes. Gives what their decisions publish."""
    effects: list[Outgoing] = []
    waits = {agent.name for agent in app.agents if ports.memories.suspended(journal_name(agent), activation, ports.clock()) is not None}
    agents = [agent for agent in app.agents if agent.wakes(activation) or agent.name in waits]
    endless = bounded(activation.rule, activation.key, activation.via, HOPS)
    if agents and endless is not None:
        result.failed.append((activation.id, endless))
        return []
    for agent in agents:
        decision = await decide(agent, activation, ports, woken=START)
        ports.memories.keep(journal_name(agent), [decision])
        result.decisions.append(decision)
        result.records += decision.records
        if decision.state == "acted":
            done = await performed(agent, decision, ports, tools)
            effects += done.effects
            result.calls += done.calls
            result.records += done.records
            if done.failure is not None:
                result.failed.append((activation.id, done.failure))
    result.effects += effects
    return effects


def _publish(topics: _Topics, effects: Sequence[Outgoing]) -> list[Received]:
    """The effects that this application reads itself, on their topics."""
    app = topics.app
    read = {*app.indexed, *app.watched, *(table.topic.name for table in app.tables)}
    published = [topics.receive(app.topics[each.topic], each.event, each.key or each.id) for each in effects if each.topic in read]
    topics.feed(published)
    return published
