"""The terminal: one way to make a console, so that what is piped into a file or a pager is not folded at 80 columns."""

import sys

from rich.console import Console

PIPED = 150


def causes(error: BaseException) -> str:
    """An error with what caused it: the engine wraps what a step raised."""
    told: list[str] = []
    each: BaseException | None = error
    while each is not None and len(told) < 6:
        told.append(f"{type(each).__name__}: {each}")
        each = each.__cause__
    return " ← ".join(told)


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or `PIPED` columns where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPED)
