"""Is the bundled decision model right as often as it says? Its calibration on held-out cases, as a table and a plot.

    python -m headwater.flows.nyc.reliability [--svg FILE]
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from headwater.agents.activation import Activation
from headwater.agents.calibration import Answered, Calibration, calibration
from headwater.agents.context import Context, Ports
from headwater.agents.model import model_from
from headwater.agents.trail import Trail
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.embed import Embedder, minilm
from headwater.enrichers.freshness import Progress
from headwater.enrichers.index import Indexer
from headwater.enrichers.retrieve import Retriever
from headwater.flows.app import FILES_TOPIC
from headwater.flows.files import file_events
from headwater.flows.nyc import app as nyc
from headwater.flows.nyc.hours import hours
from headwater.flows.nyc.situations import SITUATIONS, Situation
from headwater.lineage.decode import Received
from headwater.lineage.event import Position

SUMMER = 1_372_680_000_000_000
"""1 July 2013: the procedures are known since January."""
SIDE, EDGE = 320, 46
"""Pixels of a plot, and around it."""


def sets() -> Mapping[str, list[Situation]]:
    """Name of a set of cases → the cases."""
    return {"airport-hours of March to December": hours(), "held-out situations": [case for case in SITUATIONS if case.held_out]}


def answered(cases: Sequence[Situation], embedder: Embedder | None = None) -> list[Answered]:
    """What the reference agent's `plan` says to each case, with the procedures in an index of its own."""
    model = embedder or minilm()
    with tempfile.TemporaryDirectory(prefix="headwater-reliability-") as folder:
        index = EdgeIndex(Path(folder), model.size)
        try:
            events = file_events(nyc.app.files, nyc.app.root, [], 0)
            files = [
                Received(Position("b", FILES_TOPIC.name, 0, n), event, FILES_TOPIC.decode(event.data), 0) for n, event in enumerate(events)
            ]
            Indexer(index, model, nyc.app.document_types, clock=lambda: 0).index(files)
            retriever = Retriever(index, model, Progress("b", lambda: 0))
            ports = Ports(retriever, model_from("local", model), lambda: 0, "b", indexed=frozenset())
            return asyncio.run(_answers(cases, ports))
        finally:
            index.close()


async def _answers(cases: Sequence[Situation], ports: Ports) -> list[Answered]:
    found = []
    for case in cases:
        about = Activation(id="a", rule="situation", key=case.airport, phase="opened", at=SUMMER, value=0.0, episode="a")
        context = Context(nyc.recover, about, ports, Trail("recover", "d", "a", lambda: 0))
        decision = await nyc.plan(context, case.airport, case.text)
        found.append(Answered(decision.confidence, decision.choice is not None and decision.choice.response in case.allowed))
    return found


def told(name: str, found: Calibration) -> str:
    """One set's figures as lines."""
    interval = f"95 % {found.low:.3f} to {found.high:.3f}; perfectly calibrated {found.floor:.3f}"
    lines = [
        f"{name}: {found.many} cases",
        f"  right {found.right:.3f}, mean confidence {found.confidence:.3f}",
        f"  expected calibration error {found.error:.3f} ({interval})",
    ]
    bins = [f"  said {b.confidence:.2f}  right {b.right:.2f} ({b.least:.2f} to {b.most:.2f})  n={b.many}" for b in found.bins]
    return "\n".join(lines + bins)


def svg(found: Mapping[str, Calibration]) -> str:
    """Reliability plots side by side: above the line the model is surer than it says, below it is less sure."""
    width, height = (SIDE + 2 * EDGE) * len(found), SIDE + 2 * EDGE + 20
    plots = "".join(_plot(n * (SIDE + 2 * EDGE) + EDGE, EDGE + 20, name, each) for n, (name, each) in enumerate(found.items()))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12"><rect width="{width}" height="{height}" fill="white"/>{plots}</svg>\n'
    )


def _plot(left: float, top: float, name: str, found: Calibration) -> str:
    def x(share: float) -> str:
        return f"{left + SIDE * share:.1f}"

    def y(share: float) -> str:
        return f"{top + SIDE * (1 - share):.1f}"

    title = f"{name}, n = {found.many}"
    under = f"expected calibration error {found.error:.3f} ({found.low:.3f} to {found.high:.3f})"
    parts = [
        f'<text x="{x(0)}" y="{top - 28:.0f}" font-weight="bold">{title}</text><text x="{x(0)}" y="{top - 12:.0f}">{under}</text>',
        f'<rect x="{x(0)}" y="{y(1)}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>',
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" stroke="#999" stroke-dasharray="4"/>',
        f'<text x="{x(0.5)}" y="{top + SIDE + 34:.0f}" text-anchor="middle">what it says</text>',
        f'<text transform="translate({left - 32:.0f} {y(0.5)}) rotate(-90)" text-anchor="middle">how often it is right</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<text x="{x(share)}" y="{top + SIDE + 16:.0f}" text-anchor="middle">{share:g}</text>')
        parts.append(f'<text x="{left - 6:.0f}" y="{y(share)}" text-anchor="end" dy="4">{share:g}</text>')
    for one in found.bins:
        at, radius = x(one.confidence), 3 + 7 * (one.many / found.many) ** 0.5
        parts.append(f'<line x1="{at}" y1="{y(one.least)}" x2="{at}" y2="{y(one.most)}" stroke="#069" stroke-width="1.5"/>')
        parts.append(f'<circle cx="{at}" cy="{y(one.right)}" r="{radius:.1f}" fill="#069"><title>n = {one.many}</title></circle>')
    return "".join(parts)


def main() -> None:
    """Measure, print, draw."""
    asked = argparse.ArgumentParser(description="Calibration of the bundled decision model on held-out cases.")
    asked.add_argument("--svg", type=Path, help="where to draw the reliability plots")
    given = asked.parse_args()
    found = {name: calibration(answered(cases)) for name, cases in sets().items()}
    for name, each in found.items():
        print(told(name, each))
    if given.svg is not None:
        given.svg.write_text(svg(found), encoding="utf-8")


if __name__ == "__main__":
    main()
