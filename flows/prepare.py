"""Before any flow starts: topics are made, what is declared is compared with what is remembered and with what the broker has."""

from collections.abc import Mapping
from typing import Any

import structlog

from headwater.flows.app import App
from headwater.flows.catalogue import Entry, admit, differing, remember, remembered
from headwater.flows.kafka import Kafka
from headwater.flows.registry import Registry
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.topic import CATALOGUE, HEADS, INTERNAL, Topic

_log = structlog.get_logger("headwater.topics")


def domain(app: App) -> dict[str, Topic[Any]]:
    """The topics an application declares, without our own."""
    return {name: topic for name, topic in app.topics.items() if not name.startswith(INTERNAL)}


def prepare_topics(
    app: App, kafka: Kafka, now: int, registry: Registry | None = None, more: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Make the topics that are missing; gives every topic's partitions as they are at the broker.

    more  further topics of our own that must exist, with their partitions

    Raises Misused: a model that old events would not survive, a keyed topic that grew, a schema that the registry refuses; Unavailable.
    Nothing is made, registered or remembered unless all of it is admitted. Settings that differ at the broker are warned of.
    """
    declared = domain(app)
    known = remembered(kafka, app.name)
    there = kafka.counts(app.partitions)
    entries = _admitted(app, known, there, now)
    if registry is not None:
        registry.check(declared.values())
    wanted = {**app.partitions, **(more or {}), CATALOGUE: 1, HEADS: 1}
    loose = [name for name, topic in declared.items() if topic.key is None]
    settings = {name: topic.settings for name, topic in app.topics.items()}
    counts = kafka.create(wanted, loose=loose, settings=settings)
    if registry is not None:
        registry.register(declared.values())
    if changed := [entry for entry in entries if entry != known.get(entry.topic)]:
        remember(kafka, changed)
    _tell_differing(kafka, {name: topic for name, topic in app.topics.items() if name in there})
    return counts


def _admitted(app: App, known: dict[str, Entry], there: dict[str, int], now: int) -> list[Entry]:
    """What is to be remembered. Raises Misused, telling all that is refused at once."""
    entries, refused = [], []
    for name, topic in domain(app).items():
        try:
            entries.append(admit(topic, app.name, known.get(name), there.get(name, 0), now))
        except Misused as error:
            refused.append(str(error))
    if refused:
        raise Misused("\n".join(refused))
    return entries


def _tell_differing(kafka: Kafka, topics: dict[str, Topic[Any]]) -> None:
    declared = {name: topic.settings for name, topic in topics.items() if topic.settings}
    try:
        told = kafka.settings(declared)
    except Unavailable as error:  # a broker may keep its settings to itself
        _log.warning("settings of topics not compared", error=str(error))
        return
    for name, wanted in declared.items():
        for setting, is_there in differing(wanted, told.get(name, {})).items():
            _log.warning(
                f"topic {name}: {setting} is {is_there or 'not told'} at the broker, the application declares {wanted[setting]}; "
                f"it stays as it is until: headwater topics migrate {name}"
            )
