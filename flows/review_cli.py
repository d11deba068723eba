"""`headwater reviews …`: questions to people, listed and answered."""

import getpass
import json
from typing import Annotated, Any

import typer

from headwater.flows.options import AsJson, Home, Url, print_json, settings
from headwater.lineage.errors import Misused

reviews = typer.Typer(help="Reviews: what agents leave to a person.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="A review's id, or its beginning")]
By = Annotated[str | None, typer.Option(help="Who decides [your login name]")]
Reason = Annotated[str, typer.Option(help="Why: it is recorded")]


@reviews.command("list")
def review_list(
    state: Annotated[str | None, typer.Option(help="waiting, approved, declined, expired or lost_with_broker")] = None,
    agent: Annotated[str | None, typer.Option(help="Only of this agent")] = None,
    key: Annotated[str | None, typer.Option(help="Only about this key")] = None,
    reason: Annotated[str | None, typer.Option(help="Only for this reason, such as unsure, failed, forbidden or unknown")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, newest first")] = 50,
    as_json: AsJson = False, url: Url = None, home: Home = None,
) -> None:  # fmt: skip
    """Reviews, newest first: what is asked, and how it ended."""
    import headwater.flows.review_commands as review_commands

    filters = {"state": state, "agent": agent, "key": key, "reason": reason}
    review_commands.review_list(settings(home, url), filters, limit, as_json)


@reviews.command("approve")
def review_approve(
    id: Id, by: By = None, reason: Reason = "",
    choice: Annotated[str | None, typer.Option(metavar="JSON", help="Another choice in the place of the agent's")] = None,
    as_json: AsJson = False, url: Url = None, home: Home = None,
) -> None:  # fmt: skip
    """Approve: what was held back happens, once."""
    _judge(id, "approved", by, reason, None if choice is None else _parsed(choice), as_json, settings(home, url))


@reviews.command("decline")
def review_decline(id: Id, by: By = None, reason: Reason = "", as_json: AsJson = False, url: Url = None, home: Home = None) -> None:
    """Decline: nothing of it happens."""
    _judge(id, "declined", by, reason, None, as_json, settings(home, url))


def _judge(id: str, verdict: str, by: str | None, reason: str, choice: Any, as_json: bool, given: Any) -> None:
    from headwater.flows.door import door

    body = {"verdict": verdict, "by": by or getpass.getuser(), "reason": reason, **({} if choice is None else {"choice": choice})}
    told = door(given).ask("POST", f"/v1/reviews/{_plain(id)}/verdict", json=body)
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{told['review']} {told['verdict']} by {body['by']}")


def _plain(id: str) -> str:
    if not id.replace("-", "").isalnum():
        raise Misused(f"{id!r} is no id of a review; see: headwater reviews list")
    return id


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Misused(f"--choice {text!r} is no JSON: {error}") from None
