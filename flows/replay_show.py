"""Replayed decisions on the terminal: one then and now, many as a table of differences."""

from collections.abc import Iterator, Sequence

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.agents.case import Answer
from headwater.agents.replay import Replayed
from headwater.flows.frames import print_frame


def print_one(out: Console, one: Replayed) -> None:
    """One decision, then and now side by side."""
    out.print(Text.assemble(("replay ", "dim"), (one.id, "bold cyan"), f"  {one.agent}@{one.version_then} then, @{one.version_now} now"))
    same = Text.assemble(("the same context  ", "green"), one.context_now)
    hashes = f"{one.context_then} then, {one.context_now} now; differs first in {one.difference}"
    other = Text.assemble(("another context  ", "yellow"), hashes)
    out.print(same if not one.difference else other)
    table = Table("", "then", "now", box=None, padding=(0, 2), header_style="bold")
    for name, then, now in _rows(one.then, one.now):
        table.add_row(name, Text(then), Text(now, style="" if then == now else "yellow"))
    out.print(table)
    told = {True: "it would do the same outside", False: "it would do something else outside", None: "nothing was done outside then"}
    out.print(Text(f"{'the same answer' if one.agrees else 'another answer'}; {told[one.same_effects]}; nothing was done now", style="dim"))


def _rows(then: Answer, now: Answer) -> Iterator[tuple[str, str, str]]:
    for name in ("state", "summary", "rationale", "error"):
        if getattr(then, name) or getattr(now, name):
            yield name, str(getattr(then, name)), str(getattr(now, name))
    yield "confidence", f"{then.confidence:.2f}", f"{now.confidence:.2f}"
    options = dict(then.options), dict(now.options)
    for name in dict.fromkeys([*options[0], *options[1]]):
        before, after = ("" if name not in each else f"{each[name]:.2f}" for each in options)
        yield f"  {name}", before, after


def differences(replayed: Sequence[Replayed]) -> pl.DataFrame:
    """decision, agent, then, now, agrees, shift, difference: one row per decision that was decided again."""
    rows = [
        {
            "decision": one.id, "agent": f"{one.agent}@{one.version_now}", "then": one.then.summary or one.then.state,
            "now": one.now.summary or one.now.state, "agrees": one.agrees, "shift": one.shift, "difference": one.difference,
        }
        for one in replayed
    ]  # fmt: skip
    return pl.DataFrame(rows)


def print_many(out: Console, replayed: Sequence[Replayed]) -> None:
    """The decisions that came out another way, and sums over all."""
    frame = differences(replayed)
    print_frame(out, frame.filter(~pl.col("agrees")).drop("agrees"))
    agree = int(frame["agrees"].sum())
    shift = sum(one.shift for one in replayed) / len(replayed)
    out.print(f"{agree:,} of {frame.height:,} decide the same ({agree / frame.height:.1%}); mean shift of confidence {shift:+.3f}")
    changed = frame.filter(~pl.col("agrees")).group_by("then", "now").len("decisions").sort("decisions", descending=True)
    for then, now, many in changed.iter_rows():
        out.print(f"  {many:,} × {then} → {now}", markup=False)
    units = dict.fromkeys(unit for one in replayed for unit in (*one.then.cost, *one.now.cost))
    for unit in units:
        then, now = (sum(answer.cost.get(unit, 0.0) for answer in answers) for answers in _both(replayed))
        out.print(f"  {unit}: {then:g} then, {now:g} now", style="dim", markup=False)


def _both(replayed: Sequence[Replayed]) -> tuple[list[Answer], list[Answer]]:
    return [one.then for one in replayed], [one.now for one in replayed]
