"""A polars frame on the terminal: as many columns as fit, the first rows, and what is not shown told."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.lineage.show import cell

if TYPE_CHECKING:
    import polars as pl

WIDEST = (60, 40, 28)
"""Characters of a cell at most: the first of these with which all columns fit; where none does, the first."""
SHOWN = 200


def print_frame(console: Console, frame: "pl.DataFrame", *, shown: int = SHOWN) -> None:
    """Print the first rows as a table, and in a last line how many there are and which columns had no room."""
    tried = (_cells(frame.head(shown), widest) for widest in WIDEST)
    fits = [(_fitting(frame.columns, cells, console.width), cells) for cells in tried]
    fitting, cells = next((fit for fit in fits if fit[0] == frame.width), fits[0])
    table = Table(*frame.columns[:fitting], box=None, padding=(0, 2), header_style="bold")
    for row in cells:
        table.add_row(*(Text(text, no_wrap=True) for text in row[:fitting]))
    console.print(table)
    told = [f"{frame.height:,} row{'s' if frame.height != 1 else ''}" + (f", the first {shown} shown" if frame.height > shown else "")]
    if fitting < frame.width:
        told.append(f"not shown for want of room: {', '.join(frame.columns[fitting:])}")
    told += ["--json prints all"] if len(told) > 1 or frame.height > shown else []
    console.print("; ".join(told), style="dim")


def _cells(frame: "pl.DataFrame", widest: int) -> list[list[str]]:
    """Every value in one line of at most so many characters."""
    texts = [[" ".join(cell(value).split()) for value in row] for row in frame.iter_rows()]
    return [[text if len(text) <= widest else text[: widest - 1] + "…" for text in row] for row in texts]


def _fitting(names: list[str], cells: list[list[str]], width: int) -> int:
    """How many columns fit side by side, at least one."""
    left, count = width, 0
    for index, name in enumerate(names):
        left -= max([len(name), *(len(row[index]) for row in cells)]) + 4
        if left < 0:
            break
        count += 1
    return max(1, count)
