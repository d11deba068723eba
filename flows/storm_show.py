"""What `headwater demo --crash` shows: the storm's clock, each kill and how soon work went on, and a table of what was lost or doubled."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from headwater.flows.storm import Kill, Storm, Told, when


@contextmanager
def watching(console: Console) -> Iterator[Told]:
    """A bar over the hours; kills stay on the screen above it."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(40), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting: broker, audit, flows …", total=None)

        def told(what: str, known: dict[str, Any]) -> None:
            if what == "hour":
                progress.update(task, completed=known["done"], total=known["of"], description=f"replaying {when(known['at'])}")
            elif what == "waiting":
                progress.update(task, description=f"{known['behind']:,} on their way")
            elif what == "killed":
                progress.console.print(_killed(known["kill"], known["n"]))
                progress.update(task, description="killed; starting again …")
            elif what == "back":
                line = Text(f"     back at work {known['kill'].recovered_s:.1f} s after the kill", "green")
                progress.console.print(line)

        yield told


def _killed(kill: Kill, n: int) -> Text:
    told = f"  index, detect, decide (pid {kill.pid}) at {when(kill.at)}, {kill.behind:,} on their way"
    return Text.assemble((f"{n}  ", "bold"), ("kill -9", "bold red"), told)


def last_screen(console: Console, storm: Storm) -> None:
    """The table that it ends on."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in ("", "expected", "found", "lost", "doubled"):
        table.add_column(name, justify="right" if name else "left")
    for row in storm.rows:
        table.add_row(row.what, f"{row.expected:,}", f"{row.found:,}", _bad(row.lost), _bad(row.doubled))
    lost, doubled = sum(row.lost for row in storm.rows), sum(row.doubled for row in storm.rows)
    table.add_section()
    table.add_row(Text("all", "bold"), "", "", _bad(lost), _bad(doubled))
    console.print()
    console.print(table)
    recovered = [kill.recovered_s for kill in storm.kills]
    if recovered:
        console.print(f"killed {len(recovered)} times; back at work after {min(recovered):.1f} to {max(recovered):.1f} s, model and all")
    console.print(f"{storm.replayed:,} outcomes were told twice by flows that repeated themselves, and counted once")
    if storm.verified:
        console.print(Text("✓ every offset of every flow accounted for (audit verify)", "green"))
    for offence in storm.offences:
        console.print(Text(f"✗ {offence}", "red"))


def _bad(many: int) -> Text:
    return Text(f"{many:,}", "green" if not many else "bold red")
