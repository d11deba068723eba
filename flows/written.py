"""written: a file that a command was asked to write."""

from pathlib import Path

import typer

from headwater.lineage.errors import Misused


def write(path: Path, what: str | bytes) -> None:
    """Write it and tell where. Raises Misused: it cannot be written there."""
    put(path, what)
    typer.echo(f"written to {path}")


def put(path: Path, what: str | bytes) -> None:
    """Write it. Raises Misused: it cannot be written there."""
    try:
        path.write_bytes(what.encode() if isinstance(what, str) else what)
    except OSError as error:
        raise Misused(f"{path} cannot be written: {error.strerror}") from None
