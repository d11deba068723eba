"""A trial of a rule for people: its episodes as a table, its levels as a plot of characters; and the same as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.agents.activation import Activation
from headwater.flows.trial import Episode, Trial
from headwater.lineage.duration import format_time, to_datetime

BARS = " ▁▂▃▄▅▆▇█"
COLUMNS = 72
MOST_KEYS = 12
MOST_EPISODES = 40


@dataclass(frozen=True)
class Live:
    """What really fired, as lineage tells: activation id → (key, phase, event time as text)."""

    fired: Mapping[str, tuple[str, str, str]]

    def told(self, activation: Activation) -> str:
        return "fired" if activation.id in self.fired else "only in the test"

    def others(self, trial: Trial) -> list[tuple[str, str, str]]:
        """What fired and would not fire in the test."""
        here = {each.id for each in trial.activations}
        return [told for id, told in self.fired.items() if id not in here]


def data_of(trial: Trial, live: Live | None) -> dict[str, Any]:
    """The trial as plain data, every activation and level with its RFC 3339 time."""
    return {
        "rule": trial.rule.name, "version": trial.rule.version, "events": trial.events, "unread": trial.unread, "late": trial.late,
        "first": _time(trial.first), "last": _time(trial.last),
        "activations": [
            {
                "id": each.id, "key": each.key, "phase": each.phase, "at": _time(each.at), "value": each.value, "count": each.count,
                "total": each.total, "episode": each.episode, **({"live": live.told(each)} if live else {}),
            }
            for each in trial.activations
        ],
        "only_live": [dict(zip(("key", "phase", "at"), one, strict=True)) for one in live.others(trial)] if live else None,
        "levels": {key: [[_time(at), level] for at, level in line] for key, line in sorted(trial.levels.items())},
    }  # fmt: skip


def show(console: Console, trial: Trial, live: Live | None, start: int, end: int) -> None:
    """The plot, the table, and what came of it in a line."""
    if trial.levels:
        console.print(_plot(trial, start, end))
        console.print()
    if trial.activations:
        console.print(_table(trial, live))
    more = len(trial.episodes) - MOST_EPISODES
    if more > 0:
        console.print(Text(f"… {more:,} more episodes; --json tells all", style="dim"))
    for key, phase, at in live.others(trial)[:MOST_EPISODES] if live else ():
        console.print(Text(f"only live: {phase} for {key} at {at}", style="yellow"))
    console.print(_line(trial, live))


def _line(trial: Trial, live: Live | None) -> Text:
    phases = [sum(each.phase == phase for each in trial.activations) for phase in ("opened", "updated", "closed")]
    what = f"{trial.rule.name} would have opened {phases[0]:,}, updated {phases[1]:,} and closed {phases[2]:,} times"
    line = Text(f"{what} over {trial.events:,} events")
    if trial.late:
        line.append(f", {trial.late:,} of them too late for it")
    if trial.unread:
        line.append(f"; {trial.unread:,} more could not be read", "yellow")
    if live is not None:
        same = sum(each.id in live.fired for each in trial.activations)
        line.append(f"; {same:,} of {len(trial.activations):,} really fired, {len(live.others(trial)):,} fired only live", "bold")
    return line


def _table(trial: Trial, live: Live | None) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in ("key", "opened", "closed", "lasted", "furthest", "updates", *(("live",) if live else ())):
        table.add_column(name, justify="right" if name in ("lasted", "furthest", "updates") else "left")
    for episode in trial.episodes[:MOST_EPISODES]:
        closed = episode.closed
        lasted = "" if closed is None else _lasted(closed - episode.opened)
        furthest = f"{episode.furthest(trial.rule):g}"
        updates = str(sum(each.phase == "updated" for each in episode.activations))
        ended = short(closed) if closed else "open"
        row: list[Text | str] = [Text(episode.key), short(episode.opened), ended, lasted, furthest[:8], updates]
        table.add_row(*row, *([_live(episode, live)] if live else []))
    return table


def _live(episode: Episode, live: Live) -> Text:
    told = [live.told(each) for each in episode.activations]
    fired = told.count("fired")
    if fired == len(told):
        return Text("fired", style="green")
    return Text("only in the test" if not fired else f"{fired} of {len(told)} fired", style="yellow")


def _plot(trial: Trial, start: int, end: int) -> Table:
    """A line of bars for each key; red where an episode ran."""
    keys = busiest(trial)
    most = max((abs(level) for key in keys for _, level in trial.levels[key]), default=0.0) or 1.0
    grid = Table.grid(padding=(0, 1))
    for key in keys:
        grid.add_row(Text(key, style="bold"), _bars(trial, key, start, end, most))
    width = COLUMNS - len(short(start)) - len(short(end))
    grid.add_row("", Text(f"{short(start)}{' ' * max(1, width)}{short(end)}", style="dim"))
    levels = [f"{name.replace('_', ' ')} {getattr(trial.rule, name):g}" for name in ("opens_at", "closes_at") if hasattr(trial.rule, name)]
    grid.add_row("", Text(" · ".join([f"full bar {most:g}", *levels, "red: an episode runs"]), style="dim"))
    hidden = len(trial.levels) - len(keys)
    if hidden > 0:
        grid.add_row("", Text(f"and {hidden:,} more keys", style="dim"))
    return grid


def busiest(trial: Trial) -> list[str]:
    """The keys with most firings, then those with most to tell; by name."""
    fired = dict.fromkeys(trial.levels, 0)
    for activation in trial.activations:
        fired[activation.key] = fired.get(activation.key, 0) + 1
    return sorted(sorted(trial.levels, key=lambda key: (-fired[key], -len(trial.levels[key]), key))[:MOST_KEYS])


def _bars(trial: Trial, key: str, start: int, end: int, most: float) -> Text:
    width = max(1, end - start) / COLUMNS
    heights = columns(trial.levels[key], start, end, COLUMNS)
    line = Text()
    for n, level in enumerate(heights):
        from_, to = start + n * width, start + (n + 1) * width
        inside = any(each.key == key and each.opened < to and (each.closed is None or each.closed >= from_) for each in trial.episodes)
        bar = " " if level is None else BARS[max(1, min(8, round(abs(level) / most * 8)))] if level else "▁"
        line.append(bar, "red" if inside else "cyan")
    return line


def columns(line: Sequence[tuple[int, float]], start: int, end: int, many: int) -> list[float | None]:
    """The level in each of `many` equal parts of a span: the furthest from nothing in it, else the last before; None before the first."""
    width = max(1, end - start) / many
    found: list[float | None] = [None] * many
    for at, level in sorted(line):
        n = min(many - 1, max(0, int((at - start) / width)))
        known = found[n]
        found[n] = level if known is None or abs(level) >= abs(known) else known
    last: dict[int, float] = {}
    for at, level in sorted(line):
        last[min(many - 1, max(0, int((at - start) / width)))] = level
    held: float | None = None
    for n in range(many):
        if found[n] is None:
            found[n] = held
        held = last.get(n, held)
    return found


def _time(at: int | None) -> str | None:
    return None if at is None else format_time(at)


def short(at: int) -> str:
    moment = to_datetime(at)
    return f"{moment:%Y-%m-%d %H:%M}" if at % 60_000_000 < 1_000_000 else f"{moment:%Y-%m-%d %H:%M:%S}"


def _lasted(us: int) -> str:
    minutes, seconds = divmod(us // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {seconds:02d} s"
