"""What `headwater reviews list` prints."""

from collections.abc import Mapping
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from headwater.flows.door import Door, door
from headwater.flows.options import print_json
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings
from headwater.lineage.duration import format_time

WIDEST = 70


def review_list(settings: Settings, filters: Mapping[str, str | None], limit: int, as_json: bool) -> None:
    """Print reviews, newest first."""
    rows = _listed(door(settings), filters, limit)
    if as_json:
        print_json(rows)
        return
    table = Table("id", "state", "agent", "for", "why asked", "expires", "question", box=None, padding=(0, 2), header_style="bold")
    for row in rows:
        expires = format_time(row["expires"])[:16] if row["expires"] and row["state"] == "waiting" else row["by"] or ""
        question = " ".join(row["question"].split())
        shown = question if len(question) <= WIDEST else question[: WIDEST - 1] + "…"
        table.add_row(row["id"][:8], row["state"], *map(Text, (row["agent"], row["key"], row["reason"], expires, shown)))
    terminal().print(table if rows else "no reviews")


def _listed(found: Door, filters: Mapping[str, str | None], limit: int) -> list[dict[str, Any]]:
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    if found.running:
        listed: list[dict[str, Any]] = found.ask("GET", "/v1/reviews", params={**given, "limit": limit})["reviews"]
        return listed
    from headwater.lineage.reviews import reviews

    with found.lineage_file() as source:
        rows, _ = reviews(source, **given, limit=limit)
    return [msgspec.to_builtins(row) for row in rows]
