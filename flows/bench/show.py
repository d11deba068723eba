"""The figures as a table, and what they mean in a line below."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headwater.flows.bench.entry import Finding


def tell(console: Console, finding: Finding) -> None:
    """One line, as soon as a benchmark is through."""
    ratio = "" if finding.ratio is None else f", {finding.ratio:.2f}×"
    told = f"could not run: {finding.why}" if finding.why else f"{figure(finding.value, finding.bench.unit)}{ratio}"
    console.print(f"{finding.bench.name}: {told}", style="dim", markup=False, highlight=False)


def show(console: Console, findings: Sequence[Finding]) -> None:
    """Print what was found: a row for each benchmark, then what else was measured and why something was not."""
    table = Table(title="headwater bench", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading in ("bench", "value", "reference", "ratio", "target", "meets"):
        table.add_column(heading, justify="right" if heading in ("value", "reference", "ratio") else "left", overflow="fold")
    for finding in findings:
        ratio = "–" if finding.ratio is None else f"{finding.ratio:.2f}×"
        value, reference = figure(finding.value, finding.bench.unit), figure(finding.reference)
        table.add_row(finding.bench.name, value, reference, ratio, finding.bench.target, _meets(finding))
    console.print(table)
    for finding in findings:
        _explain(console, finding)


def _explain(console: Console, finding: Finding) -> None:
    bench = finding.bench
    against = f" · against {bench.reference}" if bench.reference else ""
    console.print(f"\n[bold]{bench.name}[/]  {escape(bench.what)}{escape(against)}")
    for name, number in finding.beside.items():
        console.print(f"  {escape(name)}: {figure(number)}", highlight=False)
    if finding.why:
        console.print(f"  could not run: {finding.why}", style="red", markup=False)


def _meets(finding: Finding) -> str:
    if finding.why:
        return "[red]not run[/]"
    return "[green]✓ yes[/]" if finding.meets else "[red]✗ no[/]"


def figure(number: float | None, unit: str = "") -> str:
    """A figure with as many digits as mean something."""
    if number is None:
        return "–"
    digits = 0 if number >= 1000 else 1 if number >= 10 else 2
    return f"{number:,.{digits}f} {unit}".rstrip()
