"""`headwater topics`: the application's topics, and what the broker has of them."""

from typing import Annotated

import typer

from headwater.flows.default_command import DefaultGroup
from headwater.flows.options import AsJson, Home, Target, settings

topics = typer.Typer(help="The application's topics, and what the broker has of them.", cls=DefaultGroup)


@topics.command("list")
def topics_list(
    app: Target = None,
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="Print an AsyncAPI 3.1 document, for other programs' authors")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """The application's topics: models, keys, partitions, retention, who reads them. This is meant when no command is named."""
    import headwater.flows.topics_command as topics_command

    topics_command.run(settings(home), app, asyncapi=asyncapi, as_json=as_json)


@topics.command("migrate")
def topics_migrate(
    topic: Annotated[str, typer.Argument(help="A topic of the application")],
    app: Target = None,
    partitions: Annotated[int | None, typer.Option(min=1, help="Give it so many; else what the broker has is accepted")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking; without a terminal nothing is done otherwise")] = False,
    unread: Annotated[
        bool, typer.Option("--unread", help="Go on although flows have not read it to its end: their keys lose order")
    ] = False,
    home: Home = None,
) -> None:
    """Grow a keyed topic, accept what was grown at the broker, or a model that former events do not fit; apply its declared settings."""
    import headwater.flows.migrate_command as migrate_command

    migrate_command.run(settings(home), topic, app, partitions, dry_run=dry_run, yes=yes, unread=unread)
