"""`headwater publish` of a large file of lines: sent as a stream, so that nothing of its size is in memory."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from headwater.flows.door import Door

LARGE = 8_000_000
"""Bytes from which on a file of lines is sent as a stream; a smaller one is one request, all of it or nothing."""
_CHUNK = 200_000


def is_stream(file: Path, large: int = LARGE) -> bool:
    """Whether a file is large and its first line is JSON by itself."""
    try:
        if file.stat().st_size < large:
            return False
        with file.open("rb") as opened:
            msgspec.json.decode(opened.readline(_CHUNK * 10))
    except (OSError, msgspec.DecodeError):
        return False
    return True


def send_stream(door: Door, topic: str, file: Path) -> None:
    """Send it and print how many events were accepted and the last token of each partition."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"to {topic}", total=file.stat().st_size)

        def pieces() -> Iterator[bytes]:
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    yield chunk
                    progress.advance(task, len(chunk))

        answer = door.stream(topic, pieces())
    typer.echo(f"{answer.get('accepted', len(answer.get('events', [answer])))} events accepted")
    for token in answer.get("tokens", []):
        typer.echo(token)
