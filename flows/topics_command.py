"""`headwater topics`: what the application declares, beside what the broker has and what is remembered, where a broker can be asked."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from headwater.flows.app import App
from headwater.flows.asyncapi import describe_topics
from headwater.flows.catalogue import Entry, remembered
from headwater.flows.door import door
from headwater.flows.kafka import Kafka
from headwater.flows.options import print_json
from headwater.flows.run_file import read_run_file
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings
from headwater.flows.target import application
from headwater.lineage.errors import Unavailable


def run(settings: Settings, target: str | None, *, asyncapi: bool, as_json: bool) -> None:
    """Print the topics as a table, as data, or as an AsyncAPI document."""
    app = application(settings, target)
    kafka = _broker(settings)
    there, known = _told(app, kafka)
    if asyncapi:
        print_json(describe_topics(app, settings, kafka.address if kafka else "", there))
        return
    rows = _rows(app, there, known)
    if as_json:
        print_json(rows)
        return
    table = Table("topic", "model", "key", "partitions", "kept", "read by", "published by", box=None, padding=(0, 2), header_style="bold")
    for row in rows:
        readers = ", ".join(name for name in ("index", "detect") if row[name])
        kept = " ".join(filter(None, (row["retention"] or "", "compacted" if row["compact"] else "")))
        model = row["model"] + (f" (version {row['version']})" if row["version"] else "")
        table.add_row(row["topic"], model, row["key"], _count(row), kept, readers, ", ".join(row["published by"]))
    terminal().print(table)


def _broker(settings: Settings) -> Kafka | None:
    """The broker that the settings name, else the embedded one of the headwater that runs here."""
    if settings.kafka:
        return Kafka(settings.kafka)
    running = read_run_file(door(settings).home)
    return Kafka({"bootstrap.servers": running["broker"]}) if running and running.get("broker") else None


def _told(app: App, kafka: Kafka | None) -> tuple[dict[str, int], dict[str, Entry]]:
    """Partitions at the broker, and what is remembered; what is declared can be shown without either."""
    if kafka is None:
        return {}, {}
    try:
        return kafka.counts(app.partitions), remembered(kafka, app.name)
    except Unavailable as error:
        terminal(stderr=True).print(Text(f"only what is declared: {error}"), style="yellow")
        return {}, {}


def _rows(app: App, there: Mapping[str, int], known: Mapping[str, Entry]) -> list[dict[str, Any]]:
    return [
        {
            "topic": topic.name, "model": topic.model.__name__, "key": topic.key or "", "partitions": topic.partitions,
            "at broker": there.get(topic.name), "retention": topic.retention, "compact": topic.compact,
            "version": known[topic.name].version if topic.name in known else None,
            "index": topic.name in app.indexed, "detect": topic.name in app.watched,
            "published by": [agent.name for agent in app.agents if any(each is topic for each in agent.publishes)],
        }
        for topic in app.topics.values()
    ]  # fmt: skip


def _count(row: dict[str, Any]) -> str:
    there = row["at broker"]
    return str(row["partitions"]) if there in (None, row["partitions"]) else f"{row['partitions']}, {there} at the broker"
