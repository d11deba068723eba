"""What the demo shows: progress with rates per step while it runs, and its last screen."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from headwater.flows.demo import Summary, Watching
from headwater.flows.meter import Meter
from headwater.lineage.duration import to_datetime
from headwater.lineage.show import life_line, why_tree

STEPS = {
    "published": "published",
    "indexed": "indexed",
    "seen by rules": "seen by rules",
    "activations": "activations",
    "decisions": "decisions",
    "records": "lineage records",
}


def watching(console: Console, start: date, end: date) -> Watching:
    """A display of the replay's clock and of what each step has done; on a dumb terminal a line now and then."""

    @contextmanager
    def watch(meter: Meter) -> Iterator[Callable[[int], None]]:
        bar = Progress(TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
        first = datetime(start.year, start.month, start.day, 5, tzinfo=UTC)
        hours = ((end - start).days + 1) * 24
        task = bar.add_task(f"replaying {start:%-d %b}", total=hours)
        rates = _Rates(meter)
        if not console.is_terminal:
            yield _plainly(console, rates)
            return

        def told(at: int) -> None:
            moment = to_datetime(at)
            local = moment - timedelta(hours=5)
            bar.update(task, completed=min(hours, (moment - first).total_seconds() / 3600), description=f"replaying {local:%-d %b %H:00}")

        with Live(console=console, refresh_per_second=5, transient=True, get_renderable=lambda: Group(bar, rates.table())):
            yield told

    return watch


def _plainly(console: Console, rates: "_Rates") -> Callable[[int], None]:
    said = [time.monotonic()]

    def told(at: int) -> None:
        if time.monotonic() - said[0] >= 10:
            said[0] = time.monotonic()
            console.print(f"{to_datetime(at):%-d %b %H:%M} UTC  {rates.line()}")

    return told


class _Rates:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._began = time.monotonic()

    def _counts(self) -> Mapping[str, int]:
        counts = self._meter.counts()
        counts["decisions"] = sum(many for name, many in counts.items() if name.startswith("decisions "))
        return {STEPS[name]: counts.get(name, 0) for name in STEPS}

    def table(self) -> Table:
        elapsed = max(0.001, time.monotonic() - self._began)
        table = Table("step", "so far", "per second", box=None, padding=(0, 2))
        for name, many in self._counts().items():
            table.add_row(name, f"{many:,}", f"{many / elapsed:,.0f}")
        return table

    def line(self) -> str:
        return " · ".join(f"{name} {many:,}" for name, many in self._counts().items() if many)


def last_screen(console: Console, summary: Summary, commands: str) -> None:
    """What came of it."""
    console.print()
    console.print(_title(summary), highlight=False)
    console.print(_events(summary), highlight=False)
    if summary.indexed:
        console.print(_decided(summary), highlight=False)
    if summary.why is not None:
        console.print()
        console.print(why_tree(summary.why))
    if summary.life:
        console.print()
        console.print(Text.assemble("one event's life   ", life_line(summary.life, summary.position)))
    if not summary.indexed:
        console.print(_months(summary))
    for offence in summary.offences:
        console.print(Text(f"✗ {offence}", style="red"))
    console.print()
    if summary.why is not None:
        short = summary.why.id[:8]
        tries = (f"why {short}", 'search "flights stuck by snow at Newark"', 'sql "from decisions"', "demo --serve")
        console.print(Text.assemble(("try   ", "dim"), "  ·  ".join(f"{commands}headwater {each}" for each in tries)))


def _title(summary: Summary) -> Text:
    days = _days(summary.start, summary.end)
    flights, hours = summary.published.get("flights", 0), summary.published.get("weather", 0)
    return Text.assemble((days, "bold"), f" · {flights:,} flight events, {hours:,} weather hours · {_time(summary.seconds)}")


def _days(start: date, end: date) -> str:
    if start == end:
        return f"{start:%-d %B %Y}"
    return f"{start:%-d}–{end:%-d %B %Y}" if start.month == end.month else f"{start:%-d %B} – {end:%-d %B %Y}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes else f"{rest} s"


def _events(summary: Summary) -> Text:
    """The conservation law, told: of what was published, how each event ended."""
    ended = dict(summary.outcomes.get("index" if summary.indexed else "detect", {}))
    ended["passed"] = ended.get("passed", 0) - summary.marks
    total = sum(ended.values())
    parts = [f"{name.replace('_', ' ').replace('dead lettered', 'dead letters')} {many:,}" for name, many in ended.items() if many]
    line = Text(f"events {total:,} = {' + '.join(parts)}")
    if ended.get("dead_lettered") == summary.published.get("spoiled"):
        line.append(" (slipped in spoiled, on purpose)", "dim")
    told = (
        ("   ✓ every offset of every flow accounted for", "green")
        if summary.verified
        else ("   ✗ something was lost, doubled or changed", "bold red")
    )
    return line.append(*told)


def _decided(summary: Summary) -> Text:
    fired = {rule: sum(many for phase, many in phases.items() if phase != "closed") for rule, phases in summary.activations.items()}
    by_rule = ", ".join(f"{many} {rule}" for rule, many in fired.items() if many)
    words = {"acted": "acted", "waiting": "to review", "no_action": "nothing to do"}
    by_end = ", ".join(f"{many} {words.get(outcome, outcome)}" for outcome, many in summary.decisions.items())
    line = f"activations {sum(fired.values())} ({by_rule})   decisions {sum(summary.decisions.values())}: {by_end}"
    p50, p99 = summary.freshness.get("p50_ms"), summary.freshness.get("p99_ms")
    return Text(line + (f"   freshness p50 {p50:.0f} ms  p99 {p99:.0f} ms" if p50 is not None and p99 is not None else ""))


def _months(summary: Summary) -> Table:
    """Per rule and month: on how many airport-days it fired, of how many. Never a ratio of nothing."""
    table = Table(title="airport-days on which a rule fired", title_justify="left", box=None, padding=(0, 2))
    for heading in ("month", "rule", "disrupted", "ordinary", "neither"):
        table.add_column(heading, justify="left" if heading in ("month", "rule") else "right")
    for rule in summary.score.rules if summary.score else ():
        for month in rule.months:
            counts = [f"{getattr(month, f'{kind}_fired')} of {getattr(month, kind)}" for kind in ("disrupted", "ordinary", "neither")]
            table.add_row(f"{date(2013, month.month, 1):%B}", rule.rule, *counts)
        totals = [f"{rule.total(f'{kind}_fired')} of {rule.total(kind)}" for kind in ("disrupted", "ordinary", "neither")]
        table.add_row("all", rule.rule, *totals, style="bold", end_section=True)
    return table
