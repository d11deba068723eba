"""`headwater audit prune`: what is older than the settings keep, and with --yes its end."""

import getpass

from headwater.flows.ageing import prune
from headwater.flows.door import LINEAGE_FILE, door
from headwater.flows.options import print_json
from headwater.flows.recovery import hold
from headwater.flows.runtime import wall_clock
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings
from headwater.lineage.store import Store


def run(settings: Settings, yes: bool, as_json: bool) -> None:
    """Print what would go; with `yes` it goes. A running headwater goes by its own settings. Raises NotFound, Unavailable."""
    found, by = door(settings), getpass.getuser()
    if found.running:
        told = found.ask("POST", "/v1/prune", json={"by": by, "dry_run": not yes}, patience_s=3600)
    else:
        found.lineage().close()  # says what is wrong if there is no file
        with hold(found.home / "lock", f"headwater in {found.home}"), Store(found.home / LINEAGE_FILE, clock=wall_clock) as store:
            told = prune(store, settings, wall_clock(), by=by, why="asked for", dry_run=not yes)
    if as_json:
        print_json(told)
        return
    console = terminal()
    goes = "went" if told["record"] else "would go"
    for what, name in (("texts", "HEADWATER_LINEAGE__KEEP_TEXTS"), ("records", "HEADWATER_LINEAGE__KEEP_REASONING")):
        since = told[f"{what}_since"]
        kept = f"older than {since} {goes}" if since else f"too old: all are kept, for {name} is not set"
        console.print(f"{told[what]:,} {what} {kept}", markup=False, highlight=False)
    if told["record"]:
        console.print(f"✓ the removal is record {told['record']}", markup=False, highlight=False)
    elif not yes:
        console.print("Nothing was done. Do it with --yes", markup=False, highlight=False)
