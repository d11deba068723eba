"""A link: one direction of a bridge. It keeps watch over the broker it reads from and owns the lanes to the one it writes to.

Neither broker need answer: what asks them anything does so in a thread of its own, so that a dead region holds its own links only.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import structlog
from confluent_kafka import KafkaException

from headwater.flows.bridge import Bridge, Direction
from headwater.flows.crossing import Ended
from headwater.flows.drain import oldest
from headwater.flows.kafka import Kafka
from headwater.flows.lane import Lane
from headwater.flows.readback import Notes
from headwater.flows.route import carried
from headwater.flows.steps import bury_all
from headwater.lineage.decode import Failure
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.record import Record

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

_log = structlog.get_logger("headwater.bridge")

WATCH_S = 2.0
"""How often the broker that is read is asked for its id and its topics."""
ASK_S = 5.0
Place = tuple[str, int]


@dataclass(frozen=True)
class Sight:
    """What is to be read: the broker's id, topic → partitions, and the oldest offset of each partition when it was first seen."""

    broker: str
    topics: Mapping[str, int]
    oldest: Mapping[Place, int] = field(compare=False)


class Link:
    """One direction of one bridge, in this process.

    flow     its name in records and groups: `bridge/NAME/DIRECTION`
    sight    what was last seen at the broker that is read; None: it has not answered yet
    settled  (broker, topic, partition) → the offset before which every message crossed, stayed or is buried, and its outcome is told
    """

    def __init__(self, run: "Runtime", bridge: Bridge, direction: Direction, remote: Kafka) -> None:
        self.run, self.bridge, self.direction = run, bridge, direction
        self.flow = f"bridge/{bridge.name}/{direction}"
        self.step = f"{bridge.name}_{direction}"
        self.source, self.target = (run.kafka, remote) if direction == "send" else (remote, run.kafka)
        self.sight: Sight | None = None
        self.settled: dict[tuple[str, str, int], int] = {}
        self.stop = run.stops["bridge"]
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._notes: dict[str, Notes] = {}
        self._broken: BaseException | None = None
        self._said = ""
        self._thread = threading.Thread(target=self._watch, name=f"watch-{self.step}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # ---- the broker that is read

    def _watch(self) -> None:
        while not self.stop.is_set():
            try:
                self.sight = self._look()
                self._said = ""
            except (KafkaException, Unavailable) as error:
                self._say(f"the broker at {self.source.address} does not answer: {error}")
            except BaseException as error:
                self._broken = error
                return
            self.stop.wait(WATCH_S if self.sight is not None else 0.2)

    def _look(self) -> Sight:
        """Raises KafkaException, Unavailable, Misused."""
        seen = self.source.admin.list_topics(timeout=ASK_S)
        if not seen.cluster_id:
            raise Unavailable("it tells no cluster id")
        counts = {name: len(topic.partitions) for name, topic in seen.topics.items() if topic.error is None and topic.partitions}
        topics = {name: counts[name] for name in self.bridge.names(self.direction, counts)}
        missing = [name for name in self.bridge.named(self.direction) if name not in counts]
        if missing:
            self._say(f"there is no topic {', '.join(missing)} at {self.source.address} yet")
        known = self.sight
        if known is not None and (known.broker, known.topics) == (str(seen.cluster_id), topics):
            return known
        return Sight(str(seen.cluster_id), topics, self._oldest(topics))

    def _oldest(self, topics: Mapping[str, int]) -> dict[Place, int]:
        consumer = self.source.consumer("headwater-bridge-watch")
        try:
            places = [(name, p) for name, count in topics.items() for p in range(count)]
            return oldest(self.source, consumer, places, ASK_S)
        finally:
            consumer.close()

    def _say(self, what: str) -> None:
        """Once, until something else is to be said."""
        if what != self._said:
            self._said = what
            _log.warning("a link waits", link=self.flow, why=what)

    # ---- the lanes to the other

    def open(self, sight: Sight) -> None:
        """Open the lanes of what is to be read. Raises Misused for a topic that has other partitions than when its lane was opened."""
        compact = {topic.name for topic in self.bridge.declared if topic.compact}
        for topic, count in sight.topics.items():
            lane = self._lanes.get((sight.broker, topic))
            if lane is None:
                self._lanes[sight.broker, topic] = self._lane(sight.broker, topic, count, topic in compact)
            elif lane.parts != count:
                raise Misused(
                    f"{self.flow}: topic {topic} had {lane.parts} partitions and has {count} now; "
                    "give it as many in the other region, and start the bridge again"
                )

    def _lane(self, broker: str, topic: str, count: int, compact: bool) -> Lane:
        carry = partial(carried, relay=self.bridge.relay, most=self.bridge.hops)
        if broker not in self._notes:
            self._notes[broker] = Notes(self.target, broker)
        notes = self._notes[broker]
        return Lane(self.flow, self.target, broker, topic, count, carry=carry, bury=self._bury, notes=notes, compact=compact)

    def lane(self, broker: str, topic: str) -> Lane:
        return self._lanes[broker, topic]

    def room(self, broker: str, topic: str, partition: int) -> bool:
        """Whether more may be read of a partition: a lane that waits pauses its own topic only."""
        return self._lanes[broker, topic].room()

    def busy(self) -> bool:
        return any(lane.busy() for lane in self._lanes.values())

    def poll(self) -> list[Ended]:
        """What is done since the last call. Raises what broke a lane or the watch."""
        self.check()
        return [ended for lane in self._lanes.values() for ended in lane.poll()]

    def check(self) -> None:
        """Raises what broke a lane or the watch."""
        for error in (self._broken, *(lane.broken for lane in self._lanes.values())):
            if error is not None:
                self.fail(error)

    def fail(self, error: BaseException) -> NoReturn:
        """End the flow; whoever runs the flows hears why first, for the engine may lose it."""
        self.run.fail(self.flow, error)
        raise error

    def finish(self, patience: float) -> None:
        """Give what is on its way so many seconds, then end the lanes."""
        closing = [threading.Thread(target=lane.finish, args=(patience,), daemon=True) for lane in self._lanes.values()]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        for notes in self._notes.values():
            notes.close()

    def _bury(self, failures: Sequence[Failure]) -> list[Record]:
        return bury_all(self.flow, failures, self.run.writer, self.run.clock(), own=True)


def links(run: "Runtime") -> list[Link]:
    """Every direction of every bridge of the application. Raises Misused: no broker named for one, or a property no client knows."""
    for region in undeclared(run):
        _log.warning("settings speak of a region that no bridge leads to", region=region)
    return [
        Link(run, bridge, direction, remote(run, bridge))
        for bridge in run.app.bridges
        for direction in _DIRECTIONS
        if bridge.carried(direction)
    ]


_DIRECTIONS: tuple[Direction, ...] = ("send", "receive")


def remote(run: "Runtime", bridge: Bridge) -> Kafka:
    """The broker of the other region. Raises Misused."""
    prefix = f"HEADWATER_BRIDGE__{bridge.name.upper().replace('-', '_')}__"
    properties = run.settings.bridges.get(bridge.name.replace("-", "_"), {})
    if "bootstrap.servers" not in properties:
        raise Misused(f"bridge {bridge.name}: nothing says where the other region's broker is; set {prefix}BOOTSTRAP_SERVERS")
    kafka = Kafka(properties)
    try:
        _ = kafka.admin
    except KafkaException as error:
        raise Misused(f"bridge {bridge.name}: a property is wrong: {kafka.told(error)}; they are set as {prefix}…") from None
    return kafka


def undeclared(run: "Runtime") -> Iterable[str]:
    """Regions that settings speak of and no bridge does."""
    return sorted(set(run.settings.bridges) - {bridge.name.replace("-", "_") for bridge in run.app.bridges})
