"""The terminal: one way to make a console, so that what is piped into a file or a pager is not folded at 80 columns."""

import sys

from rich.console import Console

PIPED = 132


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or `PIPED` columns where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPED)
