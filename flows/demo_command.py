"""`headwater demo`: run it, show it, keep it; or kill it while it runs."""

import json
import os
import sys
from datetime import date
from pathlib import Path

import typer
from rich.console import Console

import headwater.flows.demo as demo
import headwater.flows.demo_show as show
from headwater.flows.door import LINEAGE_FILE
from headwater.flows.screen import PIPED
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings


def run(settings: Settings, start: date, end: date, *, index: bool, serve: bool, json_file: Path | None, svg: Path | None) -> None:
    """Replay, then the last screen; `serve` then hands the process over to `headwater up` on what was replayed."""
    console = terminal()
    console.print(f"starting: broker, {'embedding model, index, ' if index else ''}lineage …", style="dim")
    summary = demo.run(settings, start, end, index=index, watching=show.watching(console, start, end))
    elsewhere = (settings.home / LINEAGE_FILE).exists()
    commands = f"HEADWATER_HOME={summary.home} " if elsewhere else ""
    show.last_screen(console, summary, commands)
    if json_file is not None:
        json_file.write_text(json.dumps(summary.as_data(), indent=2, default=str, ensure_ascii=False))
    if svg is not None:
        _picture(summary, commands, svg)
    if serve:
        home = {"HEADWATER_HOME": summary.home}
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, "-m", "headwater", "up", "headwater.flows.nyc.app:app"], {**os.environ, **home})


def _picture(summary: demo.Summary, commands: str, path: Path) -> None:
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=PIPED, file=nowhere)
        show.last_screen(console, summary, commands)
        console.save_svg(str(path), title="headwater demo")


def crash(settings: Settings, start: date, end: date, json_file: Path | None) -> None:
    """Replay while the flows are killed; exit 1 if anything was lost or doubled."""
    import headwater.flows.storm as storm
    import headwater.flows.storm_show as storm_show

    console = terminal()
    with storm_show.watching(console) as told:
        found = storm.run(settings, start, end, told)
    storm_show.last_screen(console, found)
    if json_file is not None:
        json_file.write_text(json.dumps(found.as_data(), indent=2, default=str, ensure_ascii=False))
    if not found.whole:
        raise typer.Exit(1)
