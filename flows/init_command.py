"""`headwater init DIR`: a small application to start from."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import typer

from headwater.lineage.errors import Misused


def run(directory: Path) -> None:
    """Write the files. Raises Misused if the folder holds anything: nothing of yours is overwritten."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Misused(f"{directory} is not empty; name a folder that is empty or not there yet")
    written = _copy(Path(str(files("headwater.flows") / "init")), directory)
    for path in written:
        typer.echo(f"  {path}")
    typer.echo(f"\nnext:  cd {directory}  ·  pytest  ·  headwater up")


def _copy(source: Traversable, target: Path) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for entry in sorted(source.iterdir(), key=lambda each: each.name):
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            written += _copy(entry, target / entry.name)
        else:
            path = target / entry.name
            path.write_text(entry.read_text(encoding="utf-8"), encoding="utf-8")
            written.append(path)
    return written
