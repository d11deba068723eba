"""What the commands share: their common options, the settings these give, and how data is printed."""

import json
from typing import Annotated, Any

import typer

from headwater.flows.visible import escaped

Target = Annotated[str | None, typer.Argument(metavar="APP", help="FILE.py or MODULE:NAME; else HEADWATER_APP, else ./app.py")]
Home = Annotated[str | None, typer.Option("--home", help="Where state lies [HEADWATER_HOME, else ./.headwater]")]
Url = Annotated[str | None, typer.Option("--url", help="A running headwater's address [HEADWATER_URL, else the one that runs here]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print data instead of text")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen")]


def settings(home: str | None = None, url: str | None = None, **flags: str | None) -> Any:
    """The settings, where these flags say otherwise than environment and files; warnings are printed. Raises Misused."""
    from headwater.flows.logs import from_level
    from headwater.flows.settings import load

    found = load({"HEADWATER_HOME": home, "HEADWATER_URL": url, **flags})
    from_level(found.log)
    for warning in found.warnings:
        typer.secho(f"headwater: {warning}", fg=typer.colors.YELLOW, err=True)
    return found


def print_json(value: Any) -> None:
    """Data to standard output, indented; what would drive a terminal is escaped, as JSON may."""
    typer.echo(escaped(json.dumps(value, indent=2, default=str, ensure_ascii=False)))
