"""The `headwater` command. Each command imports what it needs when it runs: reading commands load no torch and answer at once."""

import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from headwater.flows.bench.which import HELP
from headwater.flows.dead_cli import dead
from headwater.flows.index_cli import index
from headwater.flows.logs import to_stderr
from headwater.flows.options import AsJson, Home, Target, Url, settings
from headwater.flows.review_cli import reviews
from headwater.flows.topics_cli import topics
from headwater.flows.trigger_commands import triggers
from headwater.flows.visible import visible
from headwater.lineage.errors import HeadwaterError, Misused, Retryable

cli = typer.Typer(
    name="headwater",
    help="Event streams in; fresh context and accountable agent decisions out.\n\nStart here:  headwater demo   ·   headwater init DIR",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
audit = typer.Typer(help="Proofs over what has landed.", no_args_is_help=True)
cli.add_typer(index, name="index", rich_help_panel="Look at what happened")
cli.add_typer(dead, name="dead", rich_help_panel="Look at what happened")
cli.add_typer(reviews, name="reviews", rich_help_panel="Look at what happened")
cli.add_typer(audit, name="audit", rich_help_panel="Look at what happened")
cli.add_typer(topics, name="topics", rich_help_panel="Look at what happened")
cli.add_typer(triggers, name="triggers", rich_help_panel="Look at what happened")

RUN, LOOK, MAKE = "Run", "Look at what happened", "Make and check"


def main() -> None:
    """The console script: errors of ours are one sentence, exit 2 for misuse, 1 for the rest. Logs go to standard error."""
    to_stderr()
    try:
        cli()
    except HeadwaterError as error:
        typer.secho(f"headwater: {visible(str(error))}", fg=typer.colors.RED, err=True)
        for candidate in error.details.get("candidates", []):
            typer.echo(f"  {visible(str(candidate))}", err=True)
        sys.exit(2 if isinstance(error, Misused) else 75 if isinstance(error, Retryable) else 1)


def _version(value: bool) -> None:
    if value:
        import headwater

        typer.echo(f"headwater {headwater.__version__}")
        raise typer.Exit


@cli.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version")] = False) -> None:
    """Set up what all commands share."""


@cli.command(rich_help_panel=RUN)
def demo(
    start: Annotated[str, typer.Option("--from", metavar="DAY", help="First New York day of 2013")] = "2013-02-07",
    end: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day, inclusive [2013-02-09, or the first day]")] = None,
    no_index: Annotated[bool, typer.Option("--no-index", help="Decode and detect only: whole years in minutes")] = False,
    crash: Annotated[bool, typer.Option("--crash", help="Kill the flows with -9 five times mid-storm, and tell what was lost")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Stay up afterwards: pages, search and SQL over what happened")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole summary as data")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the last screen as a picture")] = None,
    home: Home = None,
) -> None:
    """The reference application on real data: New York's flights and weather of 2013, by default the blizzard of 8 February."""
    import headwater.flows.demo_command as demo_command

    first = _day(start, "--from")
    default_end = "2013-02-09" if start == "2013-02-07" else start
    if crash:
        if no_index or serve or svg:
            raise Misused("--crash goes with --from, --to and --json only: leave --no-index, --serve and --svg out")
        demo_command.crash(settings(home), first, _day(end or default_end, "--to"), json_file)
        return
    demo_command.run(settings(home), first, _day(end or default_end, "--to"), index=not no_index, serve=serve, json_file=json_file, svg=svg)


def _day(text: str, option: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise Misused(f"{option} {text!r} is no day; write it like 2013-02-08") from None


@cli.command(rich_help_panel=RUN)
def up(
    app: Target = None,
    home: Home = None,
    port: Annotated[str | None, typer.Option("--port", help="HTTP port [HEADWATER_HTTP__PORT, else 8470; 0: any free one]")] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="Open no HTTP door")] = False,
    workers: Annotated[int, typer.Option("-w", "--workers", min=1, help="Worker threads of each flow but audit")] = 1,
) -> None:
    """Run an application whole, in one process: broker, all flows, HTTP. Ctrl-C stops it cleanly."""
    import headwater.flows.up_command as up_command

    up_command.run(settings(home, HEADWATER_HTTP__PORT=port), app, http=not no_http, workers=workers)


@cli.command("run", rich_help_panel=RUN)
def run_flow(
    flow: Annotated[str, typer.Argument(help="index, detect, decide, bridge or audit")],
    app: Target = None,
    home: Home = None,
    workers: Annotated[int, typer.Option("-w", "--workers-per-process", help="Worker threads in this process")] = 1,
    process_id: Annotated[int | None, typer.Option("-i", "--process-id", help="This process's number in the cluster, from 0")] = None,
    addresses: Annotated[str | None, typer.Option("-a", "--addresses", help="host:port of every process, separated by ';'")] = None,
    snapshot: Annotated[float, typer.Option("-s", "--snapshot-interval", help="Seconds between snapshots")] = 0.5,
) -> None:
    """Run one flow as a process of its own, on Redpanda and a Qdrant server (HEADWATER_KAFKA__…, HEADWATER_QDRANT__URL)."""
    import headwater.flows.run_command as run_command

    run_command.run(settings(home), flow, app, workers, process_id, addresses.split(";") if addresses else [], snapshot)


@cli.command(rich_help_panel=RUN)
def publish(
    topic: Annotated[str, typer.Argument(help="A topic of the running application")],
    file: Annotated[str, typer.Argument(help="JSON, an array of it, or one JSON object per line; - reads standard input")],
    url: Url = None,
    home: Home = None,
) -> None:
    """Publish events; each answer is an id and a token. Find what you published: headwater search TEXT --after TOKEN

    A large file of lines is sent as a stream, with its progress; the answer is then how many were accepted, and the last tokens.
    """
    from headwater.flows.door import door
    from headwater.flows.publish_command import is_stream, send_stream

    if file != "-" and is_stream(Path(file)):
        send_stream(door(settings(home, url)), topic, Path(file))
        return
    body = sys.stdin.buffer.read() if file == "-" else _bytes(file)
    for accepted in door(settings(home, url)).publish(topic, body):
        typer.echo(f"{accepted['id']}  {accepted['token']}")


def _bytes(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Misused(f"cannot read {file}: {error.strerror}") from None


@cli.command(rich_help_panel=LOOK)
def search(
    text: Annotated[str, typer.Argument(help="What to look for, in plain words")],
    limit: Annotated[int, typer.Option(help="At most this many answers")] = 8,
    where: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Only documents with this field, or FIELD>=NUMBER; may be repeated")
    ] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="Only documents of this type; may be repeated")] = None,
    after: Annotated[list[str] | None, typer.Option(metavar="TOKEN", help="Wait until this event is settled; may be repeated")] = None,
    max_staleness: Annotated[str | None, typer.Option(metavar="2s", help="Refuse an answer from an index further behind")] = None,
    wait: Annotated[str, typer.Option(metavar="5s", help="How long to wait for --after and --max-staleness before it is refused")] = "30s",
    as_of: Annotated[str | None, typer.Option(metavar="TIME", help="Search what was known at this instant (RFC 3339)")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="With --as-of: search what is kept, though some was forgotten")] = False,
    mode: Annotated[str, typer.Option(help="hybrid, dense (by meaning) or sparse (by words)")] = "hybrid",
    recency: Annotated[str | None, typer.Option(metavar="6h", help="What is so much older counts half")] = None,
    group: Annotated[bool, typer.Option("--group", help="One answer per document")] = False,
    neighbours: Annotated[int, typer.Option(help="So many pieces of text before and after each answer")] = 0,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Search the index, by meaning and by words; the answer says how fresh it is."""
    import headwater.flows.look_commands as look_commands
    from headwater.enrichers.pairs import conditions

    question = {
        "text": text, "limit": limit, "where": conditions(where or []), "types": types or [], "after": after or [],
        "wait": wait, "max_staleness": max_staleness, "as_of": as_of, "partial": partial, "mode": mode, "recency": recency,
        "group_by": "document" if group else None, "neighbours": neighbours,
    }  # fmt: skip
    look_commands.search(settings(home, url), question, as_json)


@cli.command(rich_help_panel=RUN)
def mcp(url: Url = None, home: Home = None) -> None:
    """Serve MCP on standard input and output, for the headwater that runs; by HTTP it is at /mcp of its address."""
    import headwater.flows.mcp_command as mcp_command

    mcp_command.run(settings(home, url))


@cli.command(rich_help_panel=LOOK)
def why(
    id: Annotated[str, typer.Argument(help="Any id: event, document, activation, decision, effect; or topic/partition@offset")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a page to keep or send")] = None,
    prov: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the decisions on it as W3C PROV-JSON")] = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """What happened to it, and why: the path from events to effects, in both directions."""
    import headwater.flows.look_commands as look_commands

    look_commands.why(settings(home, url), id, html, prov, as_json)


@cli.command(rich_help_panel=LOOK)
def sql(
    query: Annotated[str, typer.Argument(help='DuckDB SQL, read-only: "from decisions", "from activations", "show tables"')],
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Ask lineage anything in SQL, while the flows run or after."""
    import headwater.flows.look_commands as look_commands

    look_commands.sql(settings(home, url), query, as_json)


@cli.command(rich_help_panel=LOOK)
def ask(
    question: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="trace, history, compare, cost, conservation, freshness, growth")
    ] = None,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="What it is asked of")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a page to keep or send")] = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Ask lineage a question that has a name; without one, see which there are.

    headwater ask trace ID       ·   headwater ask history DOCUMENT   ·   headwater ask compare DECISION DECISION
    """
    import headwater.flows.ask_command as ask_command

    ask_command.run(settings(home, url), question, ids or [], as_json, html)


@cli.command(rich_help_panel=LOOK)
def replay(
    decision: Annotated[str | None, typer.Argument(metavar="[DECISION]", help="A decision's id, or its beginning")] = None,
    app: Target = None,
    every: Annotated[bool, typer.Option("--all", help="Every decision, or those --since and of --agent: a back-test")] = False,
    since: Annotated[str | None, typer.Option(metavar="24h|TIME", help="With --all: from this event time on")] = None,
    agent: Annotated[str | None, typer.Option(metavar="NAME[@VERSION]", help="Who decides now, and with --all: whose decisions")] = None,
    now: Annotated[bool, typer.Option("--now", help="With what is known now, not with what was found then")] = False,
    without: Annotated[list[str] | None, typer.Option(metavar="CHUNK", help="Leave this chunk out; may be repeated")] = None,
    export: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the cases as lines of JSON; replay nothing")] = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Decide again what was decided: with exactly what the agent saw then, or with one thing changed. Nothing is done outside.

    headwater replay DECISION                        the same agent, the same context: is the answer the same?

    headwater replay DECISION --without CHUNK        what if it had not seen this?

    headwater replay --all --since 24h next.py:app   what would the next version have decided?
    """
    import headwater.flows.replay_command as replay_command

    wish = replay_command.Wish(decision, every, since, agent, now, tuple(without or ()))
    replay_command.run(settings(home, url), app, wish, as_json=as_json, export=export)


@audit.command()
def verify(
    deep: Annotated[bool, typer.Option("--deep", help="Read the topics again and compare every message with its records")] = False,
    key: Annotated[str | None, typer.Option("--key", help="The public key that alone may have signed the chain's heads (hex)")] = None,
    heads: Annotated[Path | None, typer.Option("--heads", help="Signed heads kept elsewhere, in place of the home's heads.jsonl")] = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Prove that no event was lost or doubled and no record changed; names the first offence. Exit 1 if there is one."""
    import headwater.flows.look_commands as look_commands

    found = settings(home, url)
    if key is not None or heads is not None:
        if deep:
            raise Misused("--key and --heads judge the file of a stopped headwater; --deep asks one that runs")
        proved = look_commands.audit(found, as_json, key or "", heads)
    else:
        proved = look_commands.verify(found, as_json, deep)
    if not proved:
        raise typer.Exit(1)


@audit.command()
def prune(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it; else it is only told what would go")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Remove texts and reasoning older than HEADWATER_LINEAGE__KEEP_TEXTS and …KEEP_REASONING; the chain proves as before."""
    import headwater.flows.prune_command as prune_command

    prune_command.run(settings(home, url), yes, as_json)


@cli.command(rich_help_panel=MAKE)
def erase(
    subject: Annotated[str, typer.Argument(help="A document (TYPE/ID or its id), a key of events, or an event's id")],
    why: Annotated[str, typer.Option(help="Why it is erased; it stands in the record of the erasure")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it; else it is only told what would go")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Erase what is told of a subject, from lineage, index and caches; the chain proves as before. By default a dry run."""
    import headwater.flows.erase_command as erase_command

    if yes and not why.strip():
        raise Misused("an erasure is recorded with its reason: say it with --why")
    erase_command.run(settings(home, url), subject, why, yes, as_json)


@cli.command(rich_help_panel=MAKE)
def init(directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty or not there yet")]) -> None:
    """Write a small application to start from: app.py, procedures/, test_app.py."""
    import headwater.flows.init_command as init_command

    init_command.run(directory)


@cli.command(rich_help_panel=MAKE)
def config(as_json: AsJson = False, home: Home = None) -> None:
    """Every setting with its value and where it came from; secrets masked."""
    import headwater.flows.look_commands as look_commands

    look_commands.config(settings(home), as_json)


@cli.command(rich_help_panel=MAKE)
def doctor(home: Home = None) -> None:
    """Check what headwater needs on this machine, and say what to do about what is missing. Exit 1 if something is."""
    import headwater.flows.doctor_command as doctor_command

    if not doctor_command.run(settings(home)):
        raise typer.Exit(1)


@cli.command(rich_help_panel=MAKE)
def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help=HELP)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as data")] = None,
    runs: Annotated[int, typer.Option(help="Counted pairs of each; the median is told")] = 5,
    points: Annotated[
        int | None, typer.Option(help="How many points `search` looks among; its target is about 100,000, which take the model 20 minutes")
    ] = None,
) -> None:
    """Measure, each figure beside a reference measured in the same run, so that the ratio holds on any machine."""
    import headwater.flows.bench.command as command

    command.run(names or [], json_file, runs, points=points)
