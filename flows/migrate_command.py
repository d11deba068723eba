"""`headwater topics migrate TOPIC`: say what would be done; with `--yes`, or when the terminal says yes, do it."""

import sys
import time

import typer
from rich.text import Text

from headwater.flows.kafka import Kafka
from headwater.flows.migrate import examine, migrate
from headwater.flows.run_file import read_run_file
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings
from headwater.flows.target import application
from headwater.lineage.errors import Behind, Misused


def run(settings: Settings, topic: str, target: str | None, partitions: int | None, *, dry_run: bool, yes: bool, unread: bool) -> None:
    """Raises Behind: headwater still runs, something is unread, events still come; Misused, Unavailable."""
    if not settings.kafka:
        raise Misused(
            "the embedded broker forgets its topics when it stops, so nothing there needs migrating: change the application and start "
            "again; for topics of a broker set HEADWATER_KAFKA__BOOTSTRAP_SERVERS"
        )
    app = application(settings, target)
    kafka = Kafka(settings.kafka)
    plan = examine(app, kafka, topic, partitions)
    console = terminal()
    for step in plan.steps:
        console.print(Text(f"· {step}"))
    if not plan.steps:
        console.print(Text(f"{topic}: nothing to do; {plan.there} partitions, as remembered, and a model that takes what lies there"))
        return
    if dry_run or not _agreed(yes):
        console.print("nothing was changed; --yes does it", style="dim")
        return
    if plan.ordered and (running := read_run_file(settings.home)) is not None:
        raise Behind(f"headwater runs in {settings.home} (pid {running['pid']}) and takes events for {topic}: stop it, then try again")
    entry = migrate(plan, app, kafka, time.time_ns() // 1000, time.sleep, unread=unread)
    many = f"{entry.partitions} partition{'s' * (entry.partitions != 1)}"
    console.print(Text(f"done: {topic} has {many}; version {entry.version} of its model counts", style="green"))
    if plan.breaking:
        console.print(
            "Former events stay on the topic: whatever reads it from its beginning makes dead letters of those that do not decode."
        )
    if plan.topic.partitions != entry.partitions and plan.topic.key is not None:
        console.print(Text(f"Now declare it: Topic({topic!r}, …, partitions={entry.partitions}), and start again."))


def _agreed(yes: bool) -> bool:
    """Without a terminal to ask, only --yes counts."""
    return yes or (sys.stdin.isatty() and sys.stdout.isatty() and typer.confirm("do it?", default=False))
