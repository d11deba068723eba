"""Commands that look: they ask the headwater that runs, or open the files of one that is stopped."""

import re
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from headwater.flows.door import Door, door
from headwater.flows.frames import print_frame
from headwater.flows.options import print_json
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings
from headwater.flows.written import write
from headwater.lineage.errors import Misused, NotFound, Unavailable


def search(settings: Settings, question: dict[str, Any], as_json: bool) -> None:
    """Print hits, best first, and how fresh they are."""
    from headwater.lineage.show import name_of

    found = door(settings)
    question = {name: value for name, value in question.items() if value is not None}
    answer = found.ask("POST", "/v1/search", json=question) if found.running else _search_files(found, settings, question)
    if as_json:
        print_json(answer)
        return
    console = terminal()
    for hit in answer["results"]:
        section = f"  {name_of(hit['section'])}" if hit["section"] else ""
        title = Text.assemble((f"{hit['score']:.3f}  ", "bold"), (name_of(hit["document"]), "cyan"), section)
        console.print(title)
        for piece in sorted([hit, *hit.get("neighbours", ())], key=lambda piece: int(piece["n"])):
            style = "" if piece is hit else "dim"
            console.print(Text(f"       {' '.join(piece['text'].split())[:200]}", style=style))
    if not answer["results"]:
        console.print("nothing found")
    if answer["too_new"]:
        console.print(Text(f"of {answer['too_new']:,} documents the version of that time is no longer kept", style="yellow"))
    staleness = answer["staleness_ms"]
    fresh = (
        "the index is stopped" if not found.running else f"{staleness:.0f} ms stale" if staleness is not None else "staleness not known yet"
    )
    console.print(Text(f"{fresh}   as of {_as_of(answer['as_of'])}", style="dim"))


def _as_of(as_of: dict[str, int]) -> str:
    return " ".join(f"{place}@{offset}" for place, offset in as_of.items()) or "the last stop"


def _search_files(found: Door, settings: Settings, question: dict[str, Any]) -> Any:
    from headwater.flows.stopped import search_stopped

    return search_stopped(settings, found.home, question)


def why(settings: Settings, id: str, html: Path | None, prov: Path | None, as_json: bool) -> None:
    """Print the path of an id as a tree, as data, or write it as a page."""
    from headwater.lineage.show import why_html, why_tree

    with door(settings).lineage() as lineage:
        found = lineage.why(id)
    if html is not None:
        write(html, why_html(found))
    if prov is not None:
        import msgspec

        from headwater.lineage.prov import prov_of

        write(prov, msgspec.json.format(msgspec.json.encode(prov_of(found))))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(found))
    elif html is None and prov is None:
        terminal().print(why_tree(found))


def sql(settings: Settings, query: str, as_json: bool) -> None:
    """Print the answer as a table, or as data."""
    with door(settings).lineage() as lineage:
        frame = lineage.sql(query)
    if as_json:
        print_json(frame.to_dicts())
        return
    print_frame(terminal(), frame)


def verify(settings: Settings, as_json: bool, deep: bool = False) -> bool:
    """Print what verifying found; True if nothing is wrong. `deep`: the topics are read again as well. Raises Unavailable."""
    found = door(settings)
    return _told(_deep(found) if deep else found.ask("GET", "/v1/verify") if found.running else _verify_files(found), as_json)


def audit(settings: Settings, as_json: bool, key: str, heads: Path | None) -> bool:
    """The same of files, for whoever does not trust those who wrote them: heads count that this key signed. Raises Misused, Unavailable."""
    trusted = key.strip().lower()
    if key and not re.fullmatch("[0-9a-f]{64}", trusted):
        raise Misused(f"{key[:80]!r} is no public key: give the 64 hex digits that stand as `key` in every line of heads.jsonl")
    if heads is not None and not heads.is_file():
        raise NotFound(f"there is no file {heads}; give a copy of heads.jsonl, or what stands on the topic headwater.heads, a line each")
    return _told(_verify_files(Door("", settings.home), trusted, heads), as_json)


def _told(verdict: Any, as_json: bool) -> bool:
    if as_json:
        print_json(verdict)
        return bool(verdict["ok"])
    console = terminal()
    table = Table("flow", "consumed", "ended or open", box=None, padding=(0, 2), header_style="bold")
    for flow, consumed in verdict["consumed"].items():
        totals = verdict["totals"].get(flow, {})
        table.add_row(flow, f"{consumed:,}", " + ".join(f"{name.replace('_', ' ')} {many:,}" for name, many in totals.items()))
    console.print(table)
    for offence in verdict["offences"]:
        console.print(Text(f"✗ {offence}", style="red"))
    replayed = f", {verdict['replayed']:,} positions replayed after a crash and cut off" if verdict["replayed"] else ""
    signed = f", the first {verdict['signed']:,} under a head signed by {verdict['key'][:16]}…" if verdict.get("signed") else ""
    sealed = f"{verdict['records']:,} records in {verdict['batches']:,} chained batches, head {verdict['head'][:16]}…{signed}{replayed}"
    told = ("✓ every offset of every flow accounted for; ", "green") if verdict["ok"] else ("✗ lost, doubled or changed; ", "red")
    console.print(Text.assemble(told, sealed))
    return bool(verdict["ok"])


def _deep(found: Door) -> Any:
    """The verdict of a running headwater that reads its topics again; how far it is is shown meanwhile."""
    from rich.progress import Progress, SpinnerColumn, TextColumn

    shown = Progress(SpinnerColumn(), TextColumn("{task.completed:,} messages read"), TextColumn("{task.fields[what]}"),
                     console=terminal(stderr=True), transient=True)  # fmt: skip
    with shown:
        task = shown.add_task("deep", total=None, what="")
        for told in found.lines("/v1/verify/deep"):
            if "verdict" in told:
                return told["verdict"]
            if "error" in told:
                raise Unavailable(told["error"])
            shown.update(task, completed=told["read"], what=told["what"])
    raise Unavailable("the answer broke off: did headwater stop?")


def _verify_files(found: Door, trusted: str = "", heads: Path | None = None) -> Any:
    import msgspec

    from headwater.lineage.proof import prove
    from headwater.lineage.store import open_database

    found.lineage().close()  # says what is wrong if there is no file
    connection = open_database(found.home / "lineage.duckdb", read_only=True)
    try:
        return msgspec.to_builtins(prove(connection, found.home, in_flight_ok=True, trusted=trusted, heads=heads))
    finally:
        connection.close()


def config(settings: Settings, as_json: bool) -> None:
    """Print every setting, its value and its origin."""
    if as_json:
        print_json([{"name": each.name, "value": each.shown, "origin": each.origin} for each in settings.origins])
        return
    table = Table("setting", "value", "from", box=None, padding=(0, 2), header_style="bold")
    for each in settings.origins:
        table.add_row(each.name, Text(each.shown), each.origin)
    terminal().print(table)
