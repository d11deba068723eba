"""A replay: events of the past through a running application, in event-time order, at the pace of the slowest flow.

Never more than `ahead` events beyond what the index has settled, and the replay's clock passes an event hour only when `index`, `detect`
and `decide` have. So the freshness measured is the system's, not a backlog's; and two replays of the same events come out the same.
Time marks in every partition tell the rules that an hour is over: the wall clock has no say.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from headwater.agents.agent import Agent
from headwater.flows.app import App
from headwater.flows.sink import Outgoing, outgoing
from headwater.flows.tables import FLOW as TABLES
from headwater.flows.up import Up
from headwater.lineage.decode import MARK
from headwater.lineage.errors import Unavailable
from headwater.lineage.event import Event, Position, to_binary
from headwater.lineage.topic import ACTIVATIONS

HOUR = 3_600_000_000
PATIENCE_S = 120.0
MARK_KEY = b"headwater.mark"

Place = tuple[str, int]


def published_by(app: App) -> set[str]:
    """The topics that agents publish to."""
    return {topic.name for agent in app.agents for each in fallbacks(agent) for topic in each.publishes}


def layers(app: App) -> list[list[str]]:
    """The topics that flows read, in the order in which time may end on them.

    First those that only the world outside fills, then those that agents fill who wake on topics before; last, together, what agents
    fill that go round in a loop.
    """
    needs = {name: set[str]() for name in {**app.indexed, **app.watched}}
    for agent in app.agents:
        for topic in {topic.name for each in fallbacks(agent) for topic in each.publishes} & needs.keys():
            needs[topic].update(given.topic.name for rule in agent.wakes_on for given in rule.inputs)
    found: list[list[str]] = []
    while needs:
        free = [name for name, behind in needs.items() if not behind & needs.keys()] or list(needs)
        found.append(free)
        needs = {name: behind for name, behind in needs.items() if name not in free}
    return found


def mark(topic: str, partition: int, at: int) -> Outgoing:
    """A time mark: in this partition nothing earlier than `at` (µs) follows."""
    headers, value = to_binary(Event(id=f"mark/{topic}/{partition}/{at}", source="headwater/replay", type=MARK, time=at))
    return Outgoing(topic, MARK_KEY, value, headers, partition)


def fallbacks(agent: Agent) -> list[Agent]:
    """An agent and those who decide in its place."""
    found = [agent]
    while (following := found[-1].fallback) is not None and following not in found:
        found.append(following)
    return found


class Replay:
    """Publishes into a running application, hour by hour of event time.

    ahead    events published beyond what the index has settled, at most
    first    topics whose events other events look up: of each hour they are published, and awaited, before the rest
    told     called with the event hour (µs) that is over
    pace     the flow whose progress counts. `detect`: no index runs; hours are marked, and awaited once a day
    """

    def __init__(
        self, up: Up, *, ahead: int = 500, first: Sequence[str] = (), told: Callable[[int], None] | None = None, pace: str = "index"
    ) -> None:
        self._up, self._ahead, self._first, self._told, self._pace = up, ahead, frozenset(first), told, pace
        self._run = up.run
        self._sent: dict[Place, int] = {}
        self._buffer: list[Outgoing] = []
        self._layers = layers(up.app)
        self.published = 0
        self.marks: Counter[str] = Counter()

    def run(self, events: Iterable[tuple[str, Event]], raw: Sequence[Outgoing] = ()) -> None:
        """Replay events, given with their topics in event-time order; `raw` messages go first, as they are.

        Raises Unavailable if a flow fails or stands still.
        """
        self._write(raw)
        hour: int | None = None
        pending: list[tuple[str, Event]] = []
        for topic, event in events:
            at = event.time // HOUR
            if hour is not None and at != hour:
                self._hour(pending, hour)
                pending = []
            hour = at
            pending.append((topic, event))
        if hour is not None:
            self._hour(pending, hour)
            self._flush()
            self._await_all((hour + 1) * HOUR, [name for layer in self._layers for name in layer])

    def _hour(self, events: Sequence[tuple[str, Event]], hour: int) -> None:
        if self._pace == "index":
            self._paced_hour(events)
            self._end((hour + 1) * HOUR)
        else:
            self._buffer += [self._message(topic, event) for topic, event in events]
            self._buffer += [mark for layer in self._layers for mark in self._marks(layer, (hour + 1) * HOUR)]
            if len(self._buffer) >= self._ahead:
                self._flush()
        if self._told is not None:
            self._told((hour + 1) * HOUR)

    def _paced_hour(self, events: Sequence[tuple[str, Event]]) -> None:
        """What others look up first; then the rest, a few at a time, each when the index has settled those before."""
        looked_up = [self._message(topic, event) for topic, event in events if topic in self._first]
        rest = [self._message(topic, event) for topic, event in events if topic not in self._first]
        self._write(looked_up)
        if looked_up and rest:
            self._await_tables()
        for start in range(0, len(rest), self._ahead):
            self._await_pace()
            self._write(rest[start : start + self._ahead])

    def _flush(self) -> None:
        self._await_pace()
        self._write(self._buffer)
        self._buffer = []

    def _message(self, topic: str, event: Event) -> Outgoing:
        declared = self._up.app.topics[topic]
        return outgoing(topic, event, event.subject if declared.key is not None else None)

    def _write(self, messages: Sequence[Outgoing]) -> None:
        self._note(self._run.writer.write(messages))
        marks = Counter(message.topic for message in messages if message.key == MARK_KEY)
        self.marks += marks
        self.published += len(messages) - marks.total()
        self._run.meter.count("published", len(messages) - marks.total())

    def _note(self, positions: Iterable[Position]) -> None:
        for position in positions:
            place = (position.topic, position.partition)
            self._sent[place] = max(self._sent.get(place, 0), position.offset + 1)

    def _end(self, at: int) -> None:
        """The hour is over: mark it in every partition, in those that agents publish to only once nobody can publish there any more."""
        for layer in self._layers:
            self._write(self._marks(layer, at))
            self._await_all(at, layer)

    def _marks(self, layer: Sequence[str], at: int) -> list[Outgoing]:
        return [mark(name, partition, at) for name in layer for partition in range(self._run.counts[name])]

    def _await_all(self, at: int, marked: Sequence[str]) -> None:
        """Wait until every flow has passed this event time (µs) on these topics, and all that decisions published is decided on too."""
        meter = self._run.meter
        watched = [name for name in marked if name in self._up.app.watched]
        self._await("detect", lambda s: meter.await_reached("detect", self._of(self._up.app.watched), s))
        self._await("detect", lambda s: meter.await_watermark(watched, at, s))
        while self._pace == "index":
            published = self._published()
            self._await("index", lambda s: meter.await_reached("index", self._of(self._up.app.indexed), s))
            self._await("detect", lambda s: meter.await_reached("detect", self._of(self._up.app.watched), s))
            for agent in self._up.app.agents:
                flow = f"decide/{agent.name}"
                self._await(flow, lambda s, flow=flow: meter.await_reached(flow, meter.written(ACTIVATIONS), s))  # type: ignore[misc]
            if self._published() == published:
                return

    def _published(self) -> dict[Place, int]:
        """How far the topics go that agents publish to; from now on they count as sent."""
        found = {place: offset for topic in published_by(self._up.app) for place, offset in self._run.meter.written(topic).items()}
        self._sent.update({place: max(self._sent.get(place, 0), offset) for place, offset in found.items()})
        return found

    def _await_tables(self) -> None:
        meter = self._run.meter
        looked_up = {table.topic.name: table.topic for table in self._up.app.tables}
        self._await("tables", lambda s: meter.await_reached(TABLES, self._of(looked_up), s))

    def _await_pace(self) -> None:
        topics = self._up.app.indexed if self._pace == "index" else self._up.app.watched
        self._await(self._pace, lambda s: self._run.meter.await_reached(self._pace, self._of(topics), s))

    def _of(self, topics: Iterable[str]) -> dict[Place, int]:
        names = set(topics)
        return {place: offset for place, offset in self._sent.items() if place[0] in names}

    def _await(self, flow: str, wait: Callable[[float], bool]) -> None:
        for _ in range(round(PATIENCE_S / 0.2)):
            if wait(0.2):
                return
            if self._up.failure is not None:
                name, error = self._up.failure
                raise Unavailable(f"flow {name} failed: {error!r}") from error
        raise Unavailable(f"flow {flow} has stood still for {PATIENCE_S:.0f} s")
