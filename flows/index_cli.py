"""`headwater index`: its state, made anew, compared with the topics."""

from typing import Annotated

import typer

from headwater.flows.options import AsJson, DryRun, Home, Target, Url, settings

index = typer.Typer(help="The index: its state, made anew, compared with the topics.", no_args_is_help=True)


@index.command("status")
def index_status(app: Target = None, as_json: AsJson = False, url: Url = None, home: Home = None) -> None:
    """How much the index holds, by which model and functions it was made, and what changed since."""
    import headwater.flows.index_commands as index_commands

    index_commands.status(settings(home, url), app, as_json)


@index.command("rebuild")
def index_rebuild(
    app: Target = None,
    dry_run: DryRun = False,
    accept_refused: Annotated[bool, typer.Option("--accept-refused", help="Leave out events that the application refuses now")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Make the index anew from the topics, beside the one that answers, and turn to it. Interrupted, it goes on when asked again."""
    import headwater.flows.index_commands as index_commands

    index_commands.rebuild(settings(home, url), app, dry_run=dry_run, accept_refused=accept_refused, as_json=as_json)


@index.command("check")
def index_check(
    app: Target = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found; without it nothing is changed")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Compare the index with what the topics say. Exit 1 if something is wrong in the end."""
    import headwater.flows.index_commands as index_commands

    if not index_commands.check(settings(home, url), app, repair=repair, as_json=as_json):
        raise typer.Exit(1)


@index.command("optimise")
def index_optimise(home: Home = None) -> None:
    """Build search graphs in the embedded index of a stopped headwater: a second or so per thousand points, for faster searches."""
    import headwater.flows.index_commands as index_commands

    index_commands.optimise(settings(home))
