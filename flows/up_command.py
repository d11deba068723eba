"""`headwater up`: run until told to stop."""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

from rich.console import Console

from headwater.flows.following import follow
from headwater.flows.screen import causes
from headwater.flows.settings import Settings
from headwater.flows.target import application, target_of
from headwater.flows.up import Up
from headwater.lineage.topic import INTERNAL


def run(settings: Settings, target: str | None, *, http: bool, workers: int = 1) -> None:
    """Start, say where everything is, wait for Ctrl-C or SIGTERM, stop cleanly (exit 0).

    A flow or a broker that fails ends the process, and so does a stop that could not drain all (exit 1).
    """
    console = Console(stderr=True)
    app = application(settings, target)
    asked = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            console.print("stopping at once; the next start recovers", style="yellow")
            os._exit(130)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    up = Up(app, settings, http=http, workers=workers)
    console.print(f"starting {app.name} …", style="dim")
    up.start()
    follow(up.run, target_of(settings, target))
    _tell(console, up)
    while not asked.wait(0.2) and not up.failed.is_set():
        pass
    if not up.failed.is_set():
        console.print("stopping: gateway, index and detect, decide, bridge, audit …", style="dim")
    up.stop()
    if up.failure is not None:
        name, error = up.failure
        console.print(f"{name} failed: {causes(error)}", style="red", markup=False)
        _leave(console)
    if up.undrained:
        console.print(f"stopped, but not drained: {', '.join(up.undrained)}; the next start recovers", style="yellow")
        _leave(console)
    console.print("stopped, all drained", style="green")


def _leave(console: Console) -> NoReturn:
    """Flows' threads may still be inside the engine: an interpreter that ends in order would abort under them."""
    console.file.flush()
    os._exit(1)


def _tell(console: Console, up: Up) -> None:
    domain = [name for name in up.app.topics if not name.startswith(INTERNAL)]
    console.print(f"[bold]{up.app.name}[/] runs   state {up.settings.home}   broker {up.run.kafka.address}")
    if up.address:
        console.print(f"  HTTP     {up.address}   (OpenAPI at {up.address}/docs)")
    console.print(f"  topics   {', '.join(domain)}")
    console.print(f"  try      headwater publish {domain[0] if domain else 'TOPIC'} FILE", soft_wrap=True)
    console.print("           headwater search TEXT   ·   headwater why ID")
    console.print("  Ctrl-C stops it", style="dim")
