"""`headwater dead …`: its commands and their options."""

from typing import Annotated, Any

import typer

from headwater.flows.options import AsJson, DryRun, Home, Url, settings
from headwater.lineage.errors import Misused

dead = typer.Typer(help="Dead letters: what could not go on, with its cause.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Dead letters' ids, or their beginnings")]
Id = Annotated[list[str] | None, typer.Option("--id", help="Only this one, by its id or its beginning; may be repeated")]
Cause = Annotated[str | None, typer.Option(help="Only of this cause, such as undecodable, enricher_failed or expired")]
OfTopic = Annotated[str | None, typer.Option(help="Only from this topic")]
OfFlow = Annotated[str | None, typer.Option(help="Only of this flow: index, detect, decide/AGENT")]
OfAgent = Annotated[str | None, typer.Option(help="Only of this agent: short for --flow decide/AGENT")]
OfEvent = Annotated[str | None, typer.Option(help="Only of the event with this id")]
Since = Annotated[str | None, typer.Option(metavar="2h|TIME", help="Only those buried since: so long ago, or an RFC 3339 time")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first")]


def _filters(ids: list[str] | None, agent: str | None, flow: str | None, **more: str | None) -> dict[str, Any]:
    if agent is not None and flow is not None:
        raise Misused("--agent NAME is short for --flow decide/NAME; give one of them")
    return {"ids": ids or [], "flow": f"decide/{agent}" if agent is not None else flow, **more}


@dead.command("list")
def dead_list(
    cause: Cause = None, topic: OfTopic = None, flow: OfFlow = None, agent: OfAgent = None, event: OfEvent = None, since: Since = None,
    id: Id = None, state: Annotated[str | None, typer.Option(help="waiting, redriven or dropped")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, newest first")] = 50,
    as_json: AsJson = False, url: Url = None, home: Home = None,
) -> None:  # fmt: skip
    """Dead letters, newest first: where they lay, their causes, and what became of them."""
    import headwater.flows.dead_commands as dead_commands

    filters = _filters(id, agent, flow, cause=cause, topic=topic, event=event, since=since, state=state)
    dead_commands.dead_list(settings(home, url), filters, limit, as_json)


@dead.command("show")
def dead_show(
    id: Annotated[str, typer.Argument(help="A dead letter's id, or its beginning")],
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """One dead letter: what it said, what is wrong with it, and every life its event had."""
    import headwater.flows.dead_commands as dead_commands

    dead_commands.dead_show(settings(home, url), id, as_json)


@dead.command("redrive")
def dead_redrive(
    ids: Ids = None, cause: Cause = None, topic: OfTopic = None, flow: OfFlow = None, agent: OfAgent = None, event: OfEvent = None,
    since: Since = None, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False, url: Url = None, home: Home = None,
) -> None:  # fmt: skip
    """Send dead letters again, as they were, each at most once: the same events, one try further. Exit 1 if any was refused."""
    import headwater.flows.dead_commands as dead_commands

    filters = _filters(ids, agent, flow, cause=cause, topic=topic, event=event, since=since)
    whole = dead_commands.dead_close(settings(home, url), "redrive", filters, reason=None, dry_run=dry_run, yes=yes, as_json=as_json)
    if not whole:
        raise typer.Exit(1)


@dead.command("drop")
def dead_drop(
    reason: Annotated[str, typer.Option(help="Why: it is recorded")], ids: Ids = None, cause: Cause = None, topic: OfTopic = None,
    flow: OfFlow = None, agent: OfAgent = None, event: OfEvent = None, since: Since = None, dry_run: DryRun = False, yes: Yes = False,
    as_json: AsJson = False, url: Url = None, home: Home = None,
) -> None:  # fmt: skip
    """Give dead letters up, for a reason that is recorded; they stay on headwater.dead for as long as it keeps them."""
    import headwater.flows.dead_commands as dead_commands

    filters = _filters(ids, agent, flow, cause=cause, topic=topic, event=event, since=since)
    whole = dead_commands.dead_close(settings(home, url), "drop", filters, reason=reason, dry_run=dry_run, yes=yes, as_json=as_json)
    if not whole:
        raise typer.Exit(1)
