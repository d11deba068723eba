"""`headwater erase SUBJECT`: what there is about a subject, and with --yes its end."""

import getpass
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from headwater.flows.door import LINEAGE_FILE, Door, door
from headwater.flows.options import print_json
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings

PATIENCE_S = 3600.0
"""A large file takes minutes to rewrite."""
TOPICS = (
    "Not touched: the broker's topics. The events themselves, and copies in headwater.lineage, headwater.decisions, headwater.reviews and "
    "headwater.dead, stand there until the topics' retention ends; of a compacted topic a key goes when a tombstone is published for it. "
    "Until then `headwater index rebuild` would read the events again."
)


def run(settings: Settings, subject: str, why: str, yes: bool, as_json: bool) -> None:
    """Print what would go; with `yes` it goes. Raises NotFound, Unavailable."""
    found = door(settings)
    asked = {"subject": subject, "by": getpass.getuser(), "why": why, "dry_run": not yes}
    with terminal(stderr=True).status(f"{'erasing' if yes else 'looking for'} {subject} …"):
        told = found.ask("POST", "/v1/erase", json=asked, patience_s=PATIENCE_S) if found.running else _stopped(found, asked)
    if as_json:
        print_json(told)
        return
    _print(told, yes, found.running)


def _print(told: dict[str, Any], done: bool, running: bool) -> None:
    plan, console = told["plan"], terminal()
    goes = "went" if done else "would go"
    console.print(Text(f"{plan['texts']:,} texts in {plan['records']:,} records {goes}"))
    for name in ("documents", "decisions"):
        if plan[name]:
            console.print(Text(f"  {name}: {_listed(plan[name])}"))
    if plan["followed"]:
        console.print(Text(f"Stays, for it has names of its own: {_listed(plan['followed'])}, made of what these decisions published"))
    console.print(Text(TOPICS, style="dim"))
    if done:
        record = f"the erasure is record {told['record']}" if told["record"] else "nothing was left to erase"
        console.print(Text(f"✓ {told['points']:,} points of the index went; {record}"))
        if running and told["points"]:
            console.print(Text("The files of an embedded index hold the bytes until it is opened anew: stop headwater and start it again"))
    else:
        console.print(Text("Nothing was done. Do it with --yes"))


def _listed(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _stopped(found: Door, asked: dict[str, Any]) -> Any:
    """The same on the files of a headwater that is stopped. Raises Misused if one runs there after all."""
    from headwater.enrichers.embed import MiniLM
    from headwater.enrichers.generations import EdgeGenerations
    from headwater.flows.erasing import erase
    from headwater.flows.recovery import hold
    from headwater.flows.runtime import wall_clock
    from headwater.lineage.store import Store

    found.lineage().close()  # says what is wrong if there is no file
    home: Path = found.home
    with hold(home / "lock", f"headwater in {home}"), Store(home / LINEAGE_FILE, clock=wall_clock) as store:
        generations = EdgeGenerations(home / "index")
        index = generations.current(MiniLM.size) if generations.folder.is_dir() else None
        try:
            done = erase(
                store, index, None, asked["subject"], by=asked["by"], why=asked["why"], clock=wall_clock, dry_run=asked["dry_run"]
            )  # fmt: skip
        finally:
            if index is not None:
                index.close()
        if index is not None and not asked["dry_run"]:
            generations.current(MiniLM.size).close()  # what was erased leaves its files when it is opened
    return msgspec.to_builtins(done)
