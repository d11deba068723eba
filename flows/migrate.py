"""Migrating a topic: more partitions for a keyed one, a model that old events do not survive, settings of the broker.

Order per key must survive. A key that moves to another partition is safe only if everything before the move has been read: so every flow
has read the topic to its end, and the ends stand still, before and after. Watermarks are not asked, for some brokers tell wrong ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import TopicPartition

from headwater.flows.app import App
from headwater.flows.catalogue import Entry, breaks, differing, first, remember, remembered
from headwater.flows.drain import drain, end_of
from headwater.flows.kafka import Kafka, group_of
from headwater.flows.prepare import domain
from headwater.lineage.errors import Behind, Misused
from headwater.lineage.topic import CATALOGUE, Topic

SETTLE_S = 2.0
"""How long the ends must stand still."""
FEW = 1_000
"""Offsets that are looked at one by one: a transaction leaves marks behind that no reader sees."""
READERS = ("index", "detect", "bridge")
"""Flows that read domain topics; what `decide` reads are our own."""


@dataclass(frozen=True)
class Plan:
    """What a migration is to do, made from what the broker and the catalogue say.

    there      partitions at the broker;  wanted: after it;  entry: what is remembered, None if nothing is
    breaking   what old events do not survive under the declared model, as sentences
    settings   name → (what the broker says, what is declared)
    """

    topic: Topic[Any]
    app: str
    there: int
    wanted: int
    entry: Entry | None
    breaking: list[str] = field(default_factory=list)
    settings: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """The partitions that flows read today."""
        return self.entry.partitions if self.entry is not None else self.there

    @property
    def ordered(self) -> bool:
        """Whether what lies there has to be read first."""
        return bool(self.breaking) or (self.topic.key is not None and self.wanted != self.known)

    @property
    def steps(self) -> list[str]:
        """What is done, in words; empty: nothing is to be done."""
        name, told = self.topic.name, []
        if self.wanted > self.there:
            told.append(f"{name} gets {self.wanted} partitions; it has {self.there}")
        elif self.there != self.known:
            told.append(f"{name} has {self.there} partitions at the broker; {self.known} were known: that is accepted")
        told += [f"{name}: the declared model does not take all events that lie there: {each}; that is accepted" for each in self.breaking]
        told += [f"{name}: {each} becomes {new}; it is {old or 'not told'}" for each, (old, new) in self.settings.items()]
        return told


def examine(app: App, kafka: Kafka, name: str, partitions: int | None) -> Plan:
    """The plan for one topic, with so many partitions (None: as many as are there). Raises Misused, Unavailable."""
    declared = domain(app)
    if name not in declared:
        raise Misused(f"no topic {name!r} that could be migrated; {app.name} declares {', '.join(sorted(declared)) or 'none'}")
    topic, there = declared[name], kafka.partitions(name)
    if there == 0:
        raise Misused(f"topic {name} is not at the broker {kafka.address} yet: the first start makes it as it is declared")
    wanted = there if partitions is None else partitions
    if wanted < there:
        raise Misused(f"topic {name} has {there} partitions and cannot get fewer: use a new topic")
    entry = remembered(kafka, app.name).get(name)
    breaking = [str(change) for change in breaks(topic, entry)] if entry is not None else []
    differs = differing(topic.settings, kafka.settings([name]).get(name, {}))
    settings = {each: (told, topic.settings[each]) for each, told in differs.items()}
    return Plan(topic, app.name, there, wanted, entry, breaking, settings)


def migrate(plan: Plan, app: App, kafka: Kafka, now: int, pause: Callable[[float], None], *, unread: bool = False) -> Entry:
    """Do what the plan says; gives what is remembered from now on.

    unread  accept that order is lost among, or dead letters made of, what flows have not read

    Raises Behind, naming flow, partition and how far: something is unread, or events still come; Misused, Unavailable.
    """
    name = plan.topic.name
    if plan.ordered:
        before = ends(kafka, name, plan.there)
        if not unread:
            check_read(app, kafka, name, before)
        pause(SETTLE_S)
        _check_still(name, before, ends(kafka, name, plan.there))
    if plan.wanted > plan.there:
        kafka.grow(name, plan.wanted)
    if plan.ordered:
        _check_still(name, before, ends(kafka, name, plan.there))
    if plan.settings:
        kafka.alter(name, {each: new for each, (_, new) in plan.settings.items()})
    kafka.create({CATALOGUE: 1})
    entry = _entry(plan, now)
    remember(kafka, [entry])
    return entry


def _entry(plan: Plan, now: int) -> Entry:
    """Of a model that old events do not survive all former schemas are forgotten; else they stay, for events may lie there under them."""
    if plan.entry is None:
        return first(plan.topic, plan.app, plan.wanted, now)
    if plan.breaking or plan.entry.key != plan.topic.key:
        return first(plan.topic, plan.app, plan.wanted, now, plan.entry.version + 1)
    return msgspec.structs.replace(plan.entry, partitions=plan.wanted)


def ends(kafka: Kafka, topic: str, partitions: int) -> dict[int, int]:
    """Partition → the offset after its last event. Raises Unavailable."""
    return {partition: end_of(kafka, topic, partition) for partition in range(partitions)}


def check_read(app: App, kafka: Kafka, topic: str, ends: Mapping[int, int]) -> None:
    """Raises Behind unless every flow has read a topic to these ends."""
    told = []
    for flow in READERS:
        expected = topic in {"index": app.indexed, "detect": app.watched}.get(flow, ())
        offsets = committed(kafka, group_of(app.name, flow), topic, ends)
        if not expected and all(offset < 0 for offset in offsets.values()):
            continue
        told += [line for partition, end in ends.items() if (line := _unread(kafka, flow, topic, partition, offsets[partition], end))]
    if told:
        raise Behind(
            f"{'; '.join(told)}. Let the flows read the topic to its end, with its producers stopped, then stop them and try again; "
            "or go on with --unread, and lose the order of keys among these"
        )


def committed(kafka: Kafka, group: str, topic: str, partitions: Mapping[int, int]) -> dict[int, int]:
    """Partition → the offset that a group would read next; negative if it has read nothing."""
    consumer = kafka.consumer(group)
    try:
        asked = [TopicPartition(topic, partition) for partition in partitions]
        return {found.partition: found.offset for found in consumer.committed(asked, timeout=15)}
    finally:
        consumer.close()


def _unread(kafka: Kafka, flow: str, topic: str, partition: int, offset: int, end: int) -> str:
    """What a flow has not read of a partition, in words; empty if nothing."""
    if offset > end:
        raise Misused(
            f"flow {flow} has read {topic}/{partition} up to {offset}, and it ends at {end}: the topic was made anew; "
            "use a topic with a new name, or a new HEADWATER_HOME and application name"
        )
    many = end - max(0, offset)
    if 0 < many <= FEW:  # what is left may be marks of transactions, or removed by the broker
        many = sum(message.offset < end for message in drain(kafka, topic, partition, max(0, offset)))
    if many == 0:
        return ""
    told = f"has read {topic}/{partition} up to {offset}" if offset >= 0 else f"has read nothing of {topic}/{partition}"
    return f"flow {flow} {told}, which ends at {end}: {many:,} to go"


def _check_still(topic: str, before: Mapping[int, int], after: Mapping[int, int]) -> None:
    moved = [f"{topic}/{partition} went from {old} to {after[partition]}" for partition, old in before.items() if after[partition] != old]
    if moved:
        raise Behind(f"events still come: {'; '.join(moved)}. Stop the producers of {topic}, let the flows read to its end, and try again")
