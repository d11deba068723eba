"""`headwater triggers test`: what a rule would have done over the history of its topic, without touching anything."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from headwater.agents.meaning import Meaning
    from headwater.flows.app import App
    from headwater.flows.kafka import Kafka
    from headwater.flows.settings import Settings
    from headwater.flows.trial import Trial
    from headwater.flows.trial_show import Live

triggers = typer.Typer(help="Trigger rules: what they would have done.", no_args_is_help=True)


@triggers.callback()
def _group() -> None:
    """Trigger rules: what they would have done."""


@triggers.command("test")
def trial(
    rule: Annotated[str, typer.Argument(help="A rule of the application, as it stands in the file now")],
    target: Annotated[str | None, typer.Argument(metavar="APP", help="FILE.py or MODULE:NAME; else HEADWATER_APP, else ./app.py")] = None,
    replay: Annotated[str | None, typer.Option("--replay", metavar="TOPIC", help="The topic whose history is read [the rule's]")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Tell of event times from here on (RFC 3339)")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Tell of event times before this one")] = None,
    file: Annotated[Path | None, typer.Option(help="Read a file instead of the broker: .jsonl, .ndjson, .json, .csv or .parquet")] = None,
    time: Annotated[str, typer.Option(metavar="FIELD", help="With --file: the field that tells the event time of rows")] = "time",
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plot as a picture")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write plot and table as a page to keep")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text")] = False,
    home: Annotated[str | None, typer.Option("--home", help="Where state lies [HEADWATER_HOME, else ./.headwater]")] = None,
) -> None:
    """What RULE would have done over the history of its topic: each episode, the level over time, and what really fired beside it.

    Nothing is written, woken or decided. All of the history is read, so that windows are full where --from begins.
    """
    from headwater.flows.options import print_json
    from headwater.flows.screen import console
    from headwater.flows.settings import load
    from headwater.flows.target import application
    from headwater.flows.trial_show import data_of, show
    from headwater.lineage.duration import parse_time

    settings = load({"HEADWATER_HOME": home})
    app = application(settings, target)
    found = named_rule(app, rule, replay)
    span = tuple(None if text is None else _instant(parse_time, text) for text in (start, end))
    whole = _tried(settings, app, found, file, time)
    told, live = whole.within(*span), (None if file is not None else _live(settings, found.name, *span))
    first, last = span[0] or whole.first or 0, span[1] or (whole.last or 0) + 1
    if as_json:
        print_json(data_of(told, live))
    else:
        show(console(), told, live, first, last)
    _keep(told, live, first, last, svg, html)


def _instant(parse: Any, text: str) -> int:
    from headwater.lineage.errors import Misused

    try:
        return int(parse(text))
    except ValueError:
        raise Misused(f"{text!r} is no time; write RFC 3339, such as 2013-02-08T00:00:00Z") from None


def named_rule(app: "App", name: str, replay: str | None) -> Any:
    """The rule of this name, over this topic. Raises Misused, with the nearest name and what there is."""
    from headwater.flows.trial import topics_of

    rules = {rule.name: rule for rule in app.triggers}
    if name not in rules:
        raise _unknown("rule", name, rules, app.name)
    over = [topic.name for topic in topics_of(rules[name])]
    if replay is not None and replay not in app.topics:
        raise _unknown("topic", replay, app.topics, app.name)
    if replay is not None and replay not in over:
        from headwater.lineage.errors import Misused

        raise Misused(f"rule {name} looks at {', '.join(over)}, not at {replay}; leave --replay out, or name a rule over {replay}")
    return rules[name]


def _unknown(what: str, name: str, known: Any, app: str) -> Exception:
    import difflib

    from headwater.lineage.errors import Misused

    near = difflib.get_close_matches(name, known, 1, 0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    return Misused(f"the application {app} has no {what} {name!r}; {meant}it has {', '.join(known)}")


def _tried(settings: "Settings", app: "App", rule: Any, file: Path | None, time: str) -> "Trial":
    """The trial, with its progress on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from headwater.flows.history import Read, Replayed, size
    from headwater.flows.screen import console
    from headwater.flows.trial import topics_of, tried

    topics, meaning = topics_of(rule), _meaning(app)
    columns = (TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TimeRemainingColumn())
    if file is not None:
        with Progress(*columns, console=console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"reading {file.name}", total=None)
            rows = Read(file, topics[0], time, lambda many: progress.advance(task, many))
            trial = tried(rule, (), {topic.name: 1 for topic in topics}, rows, meaning)
            trial.unread += rows.unread
            return trial
    kafka = _broker(settings)
    followed = [table for table in app.tables if any(table in topic.enrich.values() for topic in topics)]
    read = [*topics, *{table.topic.name: table.topic for table in followed if table.topic not in topics}.values()]
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"reading {', '.join(topic.name for topic in topics)}", total=size(kafka, read))
        history = Replayed(kafka, kafka.broker_id(), read, lambda many: progress.advance(task, many))
        trial = tried(rule, followed, kafka.counts(topic.name for topic in topics), history, meaning)
    trial.unread += history.unread
    return trial


def _meaning(app: "App") -> "Callable[[], Meaning]":
    """What weighs texts, made if a rule asks for it: by the application's embedder, as in the flow."""

    def make() -> "Meaning":
        from headwater.agents.meaning import Meaning
        from headwater.enrichers.embed import minilm

        return Meaning(app.embedder or minilm())

    return make


def _broker(settings: "Settings") -> "Kafka":
    """The broker that the settings name, else the embedded one of the headwater that runs here. Raises Unavailable."""
    from headwater.flows.door import door
    from headwater.flows.kafka import Kafka
    from headwater.flows.run_file import read_run_file
    from headwater.lineage.errors import Unavailable

    if settings.kafka:
        return Kafka(settings.kafka)
    home = door(settings).home
    running = read_run_file(home)
    if not running or not running.get("broker"):
        raise Unavailable(
            f"nothing runs in {home}, and the embedded broker keeps nothing when it stops: start headwater up, name a broker with "
            "HEADWATER_KAFKA__BOOTSTRAP_SERVERS, or give the events with --file events.jsonl (or .csv)"
        )
    return Kafka({"bootstrap.servers": running["broker"]})


def _live(settings: "Settings", rule: str, start: int | None, end: int | None) -> "Live | None":
    """What lineage says really fired; None where there is no lineage to ask."""
    from headwater.flows.door import door
    from headwater.flows.trial_show import Live
    from headwater.lineage.duration import format_time, from_datetime
    from headwater.lineage.errors import NotFound, Unavailable

    quoted = rule.replace("'", "''")
    try:
        with door(settings).lineage() as lineage:
            rows = lineage.sql(f"SELECT id, \"key\", phase, \"time\" FROM activations WHERE rule = '{quoted}' ORDER BY \"time\"").rows()  # noqa: S608
    except (NotFound, Unavailable):
        return None
    timed = [(id, key, phase, from_datetime(time)) for id, key, phase, time in rows]
    inside = [one for one in timed if (start is None or one[3] >= start) and (end is None or one[3] < end)]
    return Live({id: (key, phase, format_time(at)) for id, key, phase, at in inside})


def _keep(trial: "Trial", live: "Live | None", first: int, last: int, svg: Path | None, html: Path | None) -> None:
    from headwater.flows.trial_page import page
    from headwater.flows.trial_page import svg as picture
    from headwater.flows.written import put

    if svg is not None:
        put(svg, picture(trial, first, last))
    if html is not None:
        put(html, page(trial, live, first, last))
