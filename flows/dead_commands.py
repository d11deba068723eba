"""`headwater dead …`: dead letters looked at, sent again, given up; in the headwater that runs, or read from the files of a stopped one."""

import getpass
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import typer
from rich.progress import track
from rich.table import Table
from rich.text import Text

from headwater.flows.door import Door, door
from headwater.flows.options import print_json
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings
from headwater.lineage.duration import format_time
from headwater.lineage.errors import Misused

PAGE = 1000
WIDEST = 60
TOGETHER = 100
"""Dead letters per request, so that a bar can show how far it is and an interruption leaves whole pieces."""


def dead_list(settings: Settings, filters: Mapping[str, Any], limit: int, as_json: bool) -> None:
    """Print dead letters, newest first."""
    rows = list(_listed(door(settings), filters, limit))
    if as_json:
        print_json(rows)
        return
    console = terminal()
    table = Table("id", "where", "cause", "state", "try", "what is wrong", box=None, padding=(0, 2), header_style="bold")
    for row in rows:
        table.add_row(row["id"][:8], row["short"], row["cause"], row["state"], str(row["attempt"]), _clip(row["error"]))
    console.print(table if rows else "no dead letters")
    if len(rows) == limit:
        console.print(f"the newest {limit}; --limit shows more, filters fewer", style="dim")


def dead_show(settings: Settings, id: str, as_json: bool) -> None:
    """Print one dead letter: what it said, what is wrong with it, and all lives of its event."""
    found = _shown(door(settings), id)
    if as_json:
        print_json(found)
        return
    console = terminal()
    for name, value in found["dead_letter"].items():
        if value is not None:
            said = format_time(value) if name in ("first_failure", "logged", "closed") else str(value)
            console.print(Text.assemble((f"{name:>13}  ", "dim"), said))
    message = found["message"]
    if message is None:
        console.print(Text.assemble((f"{'message':>13}  ", "dim"), "not here: its broker does not run, or retention took it"))
    else:
        for header in message["headers"]:
            console.print(Text.assemble((f"{'header':>13}  ", "dim"), f"{header['name']}: {_bytes(header)}"))
        console.print(Text.assemble((f"{'key':>13}  ", "dim"), _bytes(message["key"])))
        size = f"{message['bytes']:,} bytes" if message["bytes"] is not None else "none"
        console.print(Text.assemble((f"{'value':>13}  ", "dim"), f"{_bytes(message['value'])}   ({size})"))
    for number, life in enumerate(found["lives"], 1):
        console.print(Text.assemble((f"{f'life {number}':>13}  ", "dim"), (life["short"], "cyan")))
        for step in life["steps"]:
            console.print(Text(f"{'':>13}    {step}"))


def dead_close(
    settings: Settings, verb: str, filters: Mapping[str, Any], *, reason: str | None, dry_run: bool, yes: bool, as_json: bool
) -> bool:
    """Redrive or drop what waits and matches; True if nothing was refused. Without `yes` it is asked first."""
    if not filters["ids"] and all(value is None for name, value in filters.items() if name not in ("ids", "state")):
        raise Misused(f"say which dead letters to {verb}: ids, or filters such as --cause or --topic; see: headwater dead list")
    found = door(settings)
    named = dict(filters) if filters["ids"] else {**filters, "state": "waiting"}
    found.ask("GET", "/healthz")  # says that nothing runs, before anything is asked
    ids = [row["id"] for row in _listed(found, named, None)]
    asked = {"dry_run": True, "by": getpass.getuser(), **({"reason": reason} if reason is not None else {})}
    plan = _pieces(found, verb, ids, asked, bar=False)
    if not as_json:
        _print(plan, verb, "would be")
    if plan["done"] and not dry_run:
        if not yes and not typer.confirm(f"{verb} {len(plan['done'])} dead letters?", err=True):
            raise typer.Exit(1)
        refused = plan["refused"]
        plan = _pieces(found, verb, [each["id"] for each in plan["done"]], {**asked, "dry_run": False}, bar=not as_json)
        if not as_json:
            _print(plan, verb, "")
        plan["refused"] += refused
    if as_json:
        print_json({**plan, "dry_run": dry_run})
    return not plan["refused"]


def _pieces(found: Door, verb: str, ids: list[str], asked: Mapping[str, Any], *, bar: bool) -> dict[str, list[dict[str, str]]]:
    """Ask for all of them, so many at a time."""
    told: dict[str, list[dict[str, str]]] = {"done": [], "refused": []}
    pieces = [ids[start : start + TOGETHER] for start in range(0, len(ids), TOGETHER)]
    shown = track(pieces, f"{verb} {len(ids)}", console=terminal(stderr=True), transient=True) if bar else pieces
    for piece in shown:
        answer = found.ask("POST", f"/v1/dead/{verb}", json={**asked, "ids": piece})
        for name in told:
            told[name] += answer[name]
    return told


def _print(told: Mapping[str, list[dict[str, str]]], verb: str, mood: str) -> None:
    console = terminal()
    past = f"{mood} {'redriven' if verb == 'redrive' else 'dropped'}".strip()
    for each in told["done"]:
        where = f" → {each['position']}" if each.get("position") else ""
        console.print(Text.assemble((each["id"][:8], "bold"), f"  {each['where']}  {each['cause']}  {past}{where}"))
    for each in told["refused"]:
        console.print(Text.assemble((each["id"][:8], "bold"), ("  left as it is: ", "yellow"), each["why"]))
    if not told["done"] and not told["refused"]:
        console.print("no dead letter that waits matches")


def _listed(found: Door, filters: Mapping[str, Any], limit: int | None) -> Iterator[dict[str, Any]]:
    """The letters, a page at a time."""
    left, cursor = limit, None
    while left is None or left > 0:
        many = PAGE if left is None else min(PAGE, left)
        rows, cursor = _page(found, filters, many, cursor)
        yield from rows
        left = None if left is None else left - len(rows)
        if cursor is None or not rows:
            return


def _page(found: Door, filters: Mapping[str, Any], limit: int, cursor: str | None) -> tuple[list[dict[str, Any]], str | None]:
    given = {name: value for name, value in filters.items() if value is not None and name != "ids"}
    if found.running:
        asked = {**given, "id": list(filters["ids"]), "limit": limit, **({"cursor": cursor} if cursor else {})}
        answer = found.ask("GET", "/v1/dead", params=asked)
        return answer["dead_letters"], answer["cursor"]
    from headwater.flows.dead_routes import moment
    from headwater.lineage.dead import Which, letters

    since = moment(given.pop("since", None), time.time_ns() // 1000)
    with found.lineage_file() as source:
        rows, following = letters(source, Which(ids=tuple(filters["ids"]), since=since, **given), limit=limit, before=cursor)
    return msgspec.to_builtins(rows), following


def _shown(found: Door, id: str) -> Any:
    if found.running:
        return found.ask("GET", f"/v1/dead/{id}")
    from headwater.lineage.dead import letter
    from headwater.lineage.why import why

    with found.lineage_file() as source:
        one = letter(source, id)
        return msgspec.to_builtins({"dead_letter": one, "message": None, "lives": why(source, one.id).lives})


def _clip(text: str) -> Text:
    line = " ".join(text.split())
    return Text(line if len(line) <= WIDEST else line[: WIDEST - 1] + "…")


def _bytes(told: Mapping[str, str | None] | None) -> str:
    if told is None:
        return "none"
    return f"base64 {told['base64']}" if "base64" in told else str(told["text"])
