"""`run.json`: what a running process says of itself, so that others find it."""

import json
import os
from pathlib import Path
from typing import Any

NAME = "run.json"


def write_run_file(home: Path, **known: Any) -> None:
    """Say pid, HTTP address, broker address and id; whole or not at all."""
    new = home / f"{NAME}.new"
    new.write_text(json.dumps({"pid": os.getpid(), **known}))
    new.replace(home / NAME)


def read_run_file(home: Path) -> dict[str, Any] | None:
    """What the process that runs in `home` says; None if none runs (a file that a killed process left counts for nothing)."""
    try:
        known: dict[str, Any] = json.loads((home / NAME).read_text())
        os.kill(int(known["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return known


def remove_run_file(home: Path) -> None:
    (home / NAME).unlink(missing_ok=True)
