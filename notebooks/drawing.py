"""What the notebooks draw with: plain HTML tables and SVG pictures, which every viewer of notebooks can show. And the data they share."""

import base64
import html
import math
import os
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import marimo as mo
import polars as pl

from headwater.lineage.client import Lineage, connect
from headwater.lineage.duration import to_datetime

BLUE, RED, GREEN, AMBER, GREY = "#9db8d2", "#c8553d", "#6a994e", "#e8b04b", "#8d99a6"
WIDE, TITLE = 620, 28
CELL = "text-align:left;vertical-align:top;padding:1px 10px"
SHORT = 20
"""Characters of a cell that are not broken over lines."""
DAY = date(2013, 2, 8)
"""What is replayed where nobody has run the demo yet: the first day of the blizzard."""


def lineage_of_the_demo() -> Lineage:
    """The lineage file of `headwater demo`; without one, a day of it is run first, which takes about a minute."""
    home = Path(os.environ.get("HEADWATER_HOME", ".headwater"))
    file = home / "demo" / "lineage.duckdb"
    if not file.is_file():
        import headwater.flows.demo as demo
        from headwater.flows.settings import Settings

        demo.run(Settings(home=home), DAY, DAY)
    return connect(file)


def table(frame: pl.DataFrame, caption: str = "") -> mo.Html:
    """A frame as a table."""
    head = "".join(f"<th style='{CELL}'>{html.escape(name)}</th>" for name in frame.columns)
    rows = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in frame.iter_rows())
    return mo.Html(f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def _cell(value: object) -> str:
    said = _shown(value)
    width = ";white-space:nowrap" if len(said) <= SHORT else f";min-width:{min(len(said) // 6, 30)}em"
    return f"<td style='{CELL}{width}'>{html.escape(said)}</td>"


def round_step(top: float, many: int) -> float:
    """The least of 1, 2, 5, 10, 20, … of which so many reach up to `top`."""
    tens = 10.0 ** math.floor(math.log10(max(top, many) / many))
    return next(step * tens for step in (1, 2, 5, 10) if step * tens * many >= top)


def picture(shapes: str, high: float, says: str, wide: float = 760) -> mo.Html:
    """An SVG drawing as an image under its title: `says`, which is its text too for who does not see it."""
    title = f"<text x='10' y='18' font-size='13' font-weight='bold'>{html.escape(says)}</text>"
    body = f"<rect width='100%' height='100%' fill='white'/>{title}<g transform='translate(0,{TITLE})'>{shapes}</g>"
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' width='{wide}' height='{high + TITLE}' font-family='sans-serif' font-size='11'>{body}</svg>"
    return mo.Html(f"<img alt='{html.escape(says)}' src='data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}'/>")


def columns(values: Sequence[tuple[str, float, str]], says: str, unit: str = "", across: str = "") -> mo.Html:
    """Upright bars, from left to right: (what stands below, value, colour); `across`: what runs from left to right. The highest is labelled."""
    most = max((value for _, value, _ in values), default=0.0) or 1.0
    each = WIDE / max(len(values), 1)
    every = max(1, len(values) // 9)
    shapes = "".join(
        f"<rect x='{10 + n * each:.1f}' y='{20 + 110 * (1 - value / most):.1f}' width='{max(each - 1, 0.5):.1f}' height='{110 * value / most:.1f}' fill='{colour}'/>"
        + (f"<text x='{10 + n * each:.1f}' y='146'>{html.escape(name)}</text>" if n % every == 0 else "")
        for n, (name, value, colour) in enumerate(values)
    )
    foot = f"<text x='{10 + WIDE / 2:.0f}' y='162' text-anchor='middle' fill='{GREY}'>{html.escape(across)}</text>"
    return picture(f"<text x='10' y='12' fill='{GREY}'>the highest: {_shown(float(most))} {unit}</text>{shapes}{foot}", 168, says)


def ranges(values: Sequence[tuple[str, float, str]], says: str, unit: str = "") -> mo.Html:
    """Lying bars, one under the other: (name, value, colour), each with its value."""
    most = max((value for _, value, _ in values), default=0.0) or 1.0
    shapes = "".join(
        f"<text x='10' y='{22 + 22 * n}'>{html.escape(name[:44])}</text><rect x='280' y='{11 + 22 * n}' width='{360 * value / most:.1f}' height='15' fill='{colour}'/>"
        f"<text x='{288 + 360 * value / most:.1f}' y='{22 + 22 * n}'>{_shown(float(value))} {unit}</text>"
        for n, (name, value, colour) in enumerate(values)
    )
    return picture(shapes, 20 + 22 * len(values), says)


def dots(points: Sequence[tuple[float, float, str, str]], says: str, across: str, up: str, line: bool = True) -> mo.Html:
    """Points in a square from 0 to 1: (x, y, colour, tip); `line`: the diagonal on which both are equal."""
    side = 280
    place = "".join(
        f"<circle cx='{50 + x * side:.1f}' cy='{10 + (1 - y) * side:.1f}' r='5' fill='{colour}' fill-opacity='.8'><title>{html.escape(tip)}</title></circle>"
        for x, y, colour, tip in points
    )
    marks = "".join(f"<text x='{44 + v * side:.0f}' y='{side + 26}'>{v:g}</text><text x='24' y='{14 + (1 - v) * side:.0f}'>{v:g}</text>" for v in (0, 0.5, 1))
    same = f"<line x1='50' y1='{10 + side}' x2='{50 + side}' y2='10' stroke='{GREY}' stroke-dasharray='4'/>" if line else ""
    frame = f"<rect x='50' y='10' width='{side}' height='{side}' fill='none' stroke='{GREY}'/>"
    names = f"<text x='{50 + side / 2:.0f}' y='{side + 44}' text-anchor='middle'>{html.escape(across)}</text>"
    names += f"<text transform='translate(14,{10 + side / 2:.0f}) rotate(-90)' text-anchor='middle'>{html.escape(up)}</text>"
    return picture(frame + same + place + marks + names, side + 52, says)


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.0f}" if abs(value) >= 100 else "0" if abs(value) < 5e-4 else f"{value:.3g}"
        case int() if value > 10**14:  # a version that is a time, in µs
            return f"{to_datetime(value):%Y-%m-%d %H:%M}"
        case int():
            return f"{value:,}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case list():  # of ids, mostly
            return ", ".join(str(each)[:8] for each in value)
    return str(value)
