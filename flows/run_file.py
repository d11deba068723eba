"""`run.json`: what a running process says of itself, so that others find it."""

import json
import os
from pathlib import Path
from typing import Any

NAME = "run.json"


def write_run_file(home: Path, **known: Any) -> None:
    """Say pid, HTTP address, broker address and id."""
    write_whole(home / NAME, json.dumps({"pid": os.getpid(), **known}))


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: a kill at any moment leaves the old or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def read_run_file(home: Path) -> dict[str, Any] | None:
    """What the process that runs in `home` says; None if none runs (a file that a killed process left counts for nothing)."""
    try:
        known: dict[str, Any] = json.loads((home / NAME).read_text())
        os.kill(int(known["pid"]), 0)
    except PermissionError:  # another user's process: it runs
        return known
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return known


def remove_run_file(home: Path) -> None:
    (home / NAME).unlink(missing_ok=True)
