"""What is remembered of each topic on the compacted topic `headwater.topics`, so that every process of an application knows it.

An entry per application and topic: partitions, key, and every schema under which events may still lie on the topic. A start compares what
is declared with it and refuses what would break: events that no longer decode, keys whose order would be lost. `headwater topics migrate`
accepts such a change once it is safe. What is remembered lives as long as the broker's topics do, like the events it speaks of.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog

from headwater.flows.drain import drain
from headwater.flows.kafka import Kafka
from headwater.flows.sink import Outgoing, Writer
from headwater.lineage.changes import Change, breaking
from headwater.lineage.errors import Misused
from headwater.lineage.schema import Schema, digest, schema_of
from headwater.lineage.topic import CATALOGUE, Topic

_log = structlog.get_logger("headwater.catalogue")

KEPT = 32
"""Schemas of one topic that are remembered: an event may lie there under any of them."""


class Accepted(msgspec.Struct, frozen=True):
    """A schema that was accepted, when (µs since 1970), and its digest."""

    schema: Schema
    digest: str
    at: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one topic for one application. `version` counts the schemas ever accepted; the newest is the last."""

    topic: str
    app: str
    partitions: int
    version: int
    schemas: tuple[Accepted, ...]
    key: str | None = None

    @property
    def name(self) -> bytes:
        """The message key; no topic's name has a slash."""
        return f"{self.topic}/{self.app}".encode()


IN_ORDER = {"enable_idempotence": False, "acks": "all", "max_in_flight": 1}
"""Entries may come twice, but in order: of each topic the last counts."""


def remember(kafka: Kafka, entries: Iterable[Entry]) -> None:
    """Write entries, each acknowledged. Raises Unavailable.

    An idempotent producer begins by asking for its id, and asks again only after half a second.
    """
    impatient = threading.Event()
    impatient.set()
    writer = Writer(kafka, "", stop=impatient, producer=kafka.producer(**IN_ORDER))
    writer.write([Outgoing(CATALOGUE, entry.name, msgspec.json.encode(entry), []) for entry in entries])
    writer.close()


def remembered(kafka: Kafka, app: str) -> dict[str, Entry]:
    """Topic → entry, of one application; read to the end of the topic as it stands. Raises Unavailable."""
    if not kafka.partitions(CATALOGUE):
        return {}
    found: dict[str, Entry] = {}
    for message in drain(kafka, CATALOGUE, 0, 0):
        if message.value is None:
            continue
        try:
            entry = msgspec.json.decode(message.value, type=Entry)
        except msgspec.DecodeError as error:
            _log.warning("an entry of the catalogue cannot be read", offset=message.offset, error=str(error))
            continue
        if entry.app == app:
            found[entry.topic] = entry
    return found


def first(topic: Topic[Any], app: str, partitions: int, now: int, version: int = 1) -> Entry:
    """What is to be remembered of a topic of which nothing is known, or nothing counts any more."""
    schema = schema_of(topic.model)
    accepted = Accepted(schema, digest(schema), now)
    return Entry(topic=topic.name, app=app, partitions=partitions, version=version, schemas=(accepted,), key=topic.key)


def breaks(topic: Topic[Any], entry: Entry) -> list[Change]:
    """What events on the topic do not survive under the declared model, seen from every schema they may lie there under."""
    schema = schema_of(topic.model)
    found = [change for known in entry.schemas if known.digest != digest(schema) for change in breaking(known.schema, schema)]
    if entry.key != topic.key:
        found.append(Change("", f"its key was {_key(entry.key)}, is {_key(topic.key)} now", True))
    return list(dict.fromkeys(found))


def grown(topic: Topic[Any], entry: Entry | None, there: int) -> str:
    """Why the number of partitions at the broker cannot be read from as it is; empty if it can, or if the topic is not there yet."""
    name = topic.name
    if topic.key is None or there == 0:
        return ""
    if entry is not None and there != entry.partitions:
        return (
            f"topic {name} had {entry.partitions} partitions and has {there} at the broker: its keys would change their partitions and "
            f"lose their order; stop its producers, let the flows read it to its end, then: headwater topics migrate {name}"
        )
    if there != topic.partitions:
        return (
            f"topic {name} has {there} partitions at the broker, the application declares {topic.partitions}: declare partitions={there}"
            + (f", or grow it with: headwater topics migrate {name} --partitions {topic.partitions}" if topic.partitions > there else "")
        )
    return ""


def admit(topic: Topic[Any], app: str, entry: Entry | None, there: int, now: int) -> Entry:
    """What is to be remembered of a declared topic. `there`: its partitions at the broker, 0 if it is not there yet. Raises Misused."""
    if told := grown(topic, entry, there):
        raise Misused(told)
    partitions = max(there, topic.partitions)
    if entry is None:
        return first(topic, app, partitions, now)
    if found := breaks(topic, entry):
        raise Misused(
            f"topic {topic.name}: its model {topic.model.__name__} no longer takes the events that lie there: "
            f"{'; '.join(map(str, found))}. Keep what they say (give a new field a default, use a new topic), or accept it once all flows "
            f"have read them: headwater topics migrate {topic.name}"
        )
    schema = schema_of(topic.model)
    if any(known.digest == digest(schema) for known in entry.schemas):
        return entry if entry.partitions == partitions else msgspec.structs.replace(entry, partitions=partitions)
    if len(entry.schemas) >= KEPT:
        raise Misused(
            f"topic {topic.name}: its model changed {KEPT} times while events of all its forms may lie there, and no more are remembered; "
            f"once all flows have read them: headwater topics migrate {topic.name}"
        )
    accepted = Accepted(schema, digest(schema), now)
    return msgspec.structs.replace(entry, partitions=partitions, schemas=(*entry.schemas, accepted), version=entry.version + 1)


def _key(name: str | None) -> str:
    return repr(name) if name is not None else "the event id"


def differing(declared: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """The broker's settings of a topic that are not as declared: name → what it says, empty if it does not say."""
    return {
        name: told.get(name, "")
        for name, value in declared.items()
        if set(told.get(name, _UNTOLD.get(name, "")).split(",")) != set(value.split(","))
    }


_UNTOLD = {"cleanup.policy": "delete"}
"""What a setting is that a broker does not tell."""
