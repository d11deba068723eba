"""`run.json`: what a running process says of itself, so that others find it."""

import json
import os
from pathlib import Path
from typing import Any

NAME = "run.json"
STARTING = "starting.json"
"""The same while it starts: others wait for it, and leave its files alone."""


def write_run_file(home: Path, **known: Any) -> None:
    """Say pid, HTTP address, broker address and id."""
    _write(home / NAME, known)
    (home / STARTING).unlink(missing_ok=True)


def write_starting(home: Path) -> None:
    """Say that a process has begun to start."""
    _write(home / STARTING, {})


def _write(path: Path, known: dict[str, Any]) -> None:
    write_whole(path, json.dumps({"pid": os.getpid(), "started": _started(os.getpid()), **known}))


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot: tells it from a later one with the same pid. Empty if there is none, and if it has
    ended and its parent has not heard of it yet."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if state in "ZX" else rest[18]
    except (OSError, IndexError):
        return ""


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: a kill at any moment leaves the old or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def read_run_file(home: Path, name: str = NAME) -> dict[str, Any] | None:
    """What the process that runs in `home` says; None if none runs (a file that a killed process left counts for nothing)."""
    try:
        known: dict[str, Any] = json.loads((home / name).read_text())
        started = _started(int(known["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if started and started == known.get("started") else None


def remove_run_file(home: Path) -> None:
    for name in (NAME, STARTING):
        (home / name).unlink(missing_ok=True)
