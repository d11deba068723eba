"""A trial of a rule as a picture, and as a page to keep: level over time per key, opening and closing levels, episodes shaded."""

from collections.abc import Sequence
from html import escape

from headwater.flows.trial import Trial
from headwater.flows.trial_show import MOST_KEYS, Live, busiest, short

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 110, 130, 54, 26
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b2733}.soft{fill:#5c6b7a;font-size:11px}.key{font-weight:600}"
    ".frame{fill:none;stroke:#c9d3dc}.line{fill:none;stroke:#0b6e99;stroke-width:1.5}.run{fill:#c0392b;fill-opacity:.14}"
    ".opens{stroke:#c0392b;stroke-dasharray:5 3}.closes{stroke:#1d7a46;stroke-dasharray:2 3}"
)


def svg(trial: Trial, start: int, end: int) -> str:
    """The picture. Whatever came from events is escaped."""
    keys = busiest(trial)
    values = [level for key in keys for _, level in trial.levels[key]] + _levels(trial)
    low, high = min([0.0, *values]), max([0.0, *values]) or 1.0
    if low == high:
        high = low + 1.0
    height = TOP + len(keys) * (HEIGHT + GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" role="img" '
        f'aria-label="{escape(trial.rule.name)}: level over time"><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fbfcfd"/>'
        f'<text x="16" y="26" class="key">{escape(trial.rule.name)}</text>'
        f'<text x="16" y="43" class="soft">{short(start)} to {short(end)} UTC · {escape(_told(trial))}</text>'
    ]
    for n, key in enumerate(keys):
        parts.append(_panel(trial, key, start, end, low, high, TOP + n * (HEIGHT + GAP)))
    if len(trial.levels) > MOST_KEYS:
        parts.append(f'<text x="16" y="{height - 6}" class="soft">and {len(trial.levels) - MOST_KEYS} more keys</text>')
    return "".join(parts) + "</svg>\n"


def page(trial: Trial, live: Live | None, start: int, end: int) -> str:
    """The picture with the table of episodes, without outside resources."""
    head = "".join(f"<th>{name}</th>" for name in ("key", "opened", "closed", "furthest", *(("live",) if live else ())))
    rows = []
    for episode in trial.episodes:
        closed = short(episode.closed) if episode.closed is not None else "open"
        cells = [episode.key, short(episode.opened), closed, f"{episode.furthest(trial.rule):g}"]
        if live:
            told = [live.told(each) for each in episode.activations]
            cells.append(told[0] if len(set(told)) == 1 else f"{told.count('fired')} of {len(told)} fired")
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    style = "body{font:16px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem}td,th{text-align:left;padding:0 1rem}"
    alone = live.others(trial) if live else []
    others = "".join(f"<li>{escape(phase)} for {escape(key)} at {escape(at)}</li>" for key, phase, at in alone)
    more = f"<h2>Fired live only</h2><ul>{others}</ul>" if others else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(trial.rule.name)}</title><style>{style}</style></head>'
        f"<body><h1>What {escape(trial.rule.name)} would have done</h1>{svg(trial, start, end)}"
        f"<table><tr>{head}</tr>{''.join(rows)}</table>{more}</body></html>\n"
    )


def _panel(trial: Trial, key: str, start: int, end: int, low: float, high: float, top: float) -> str:
    def x(at: int) -> float:
        return LEFT + WIDTH * min(1.0, max(0.0, (at - start) / max(1, end - start)))

    def y(level: float) -> float:
        return top + HEIGHT * (1 - (level / 2 - low / 2) / (high / 2 - low / 2))  # halves: the distance itself may be no number

    parts = [f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" class="frame"/>']
    for episode in trial.episodes:
        if episode.key == key:
            from_, to = x(episode.opened), x(end if episode.closed is None else episode.closed)
            parts.append(f'<rect x="{from_:.1f}" y="{top}" width="{max(1.0, to - from_):.1f}" height="{HEIGHT}" class="run"/>')
    for name in ("opens_at", "closes_at"):
        if hasattr(trial.rule, name):
            at = y(getattr(trial.rule, name))
            parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{at:.1f}" y2="{at:.1f}" class="{name[:-3]}"/>')
    parts.append(f'<path d="{_path([(x(at), y(level)) for at, level in sorted(trial.levels[key])])}" class="line"/>')
    parts.append(f'<text x="16" y="{top + HEIGHT / 2:.0f}" class="key">{escape(key[:16])}</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{top + 11}" class="soft" text-anchor="end">{high:g}</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{top + HEIGHT}" class="soft" text-anchor="end">{low:g}</text>')
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Steps: a level holds until the next. One alone is a dot."""
    if not points:
        return ""
    steps = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"] + [f"H{x:.1f}V{y:.1f}" for x, y in points[1:]]
    return "".join(steps) if len(points) > 1 else f"{steps[0]}h2"


def _levels(trial: Trial) -> list[float]:
    return [float(getattr(trial.rule, name)) for name in ("opens_at", "closes_at") if hasattr(trial.rule, name)]


def _told(trial: Trial) -> str:
    levels = [f"{name} {getattr(trial.rule, name):g}" for name in ("opens_at", "closes_at") if hasattr(trial.rule, name)]
    return " · ".join([*levels, f"{len(trial.episodes):,} episodes", f"{trial.events:,} events"])
