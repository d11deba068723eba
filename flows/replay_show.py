"""Replayed decisions on the terminal: one then and now, many as a table of differences."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.agents.case import Answer
from headwater.agents.replay import Replayed
from headwater.flows.frames import print_frame


class Lost(NamedTuple):
    """A decision that cannot be decided again, and why."""

    id: str
    why: str


def print_lost(out: Console, lost: Sequence[Lost]) -> None:
    """How many could not be decided again, and why the first of them could not."""
    if lost:
        told = f"{len(lost):,} could not be decided again; the first, {lost[0].id}: {lost[0].why}"
        out.print(Text(told, style="yellow"))


def print_one(out: Console, one: Replayed) -> None:
    """One decision, then and now side by side."""
    who = f"{one.then.by or one.agent}@{one.version_then} then, {one.now.by}@{one.version_now} now"
    out.print(Text.assemble(("replay ", "dim"), (one.id, "bold cyan"), f"  {who}"))
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
    rows = []
    for one in replayed:
        then, now = (answer.summary or answer.state for answer in (one.then, one.now))
        if then == now and not one.agrees:  # the same choice, of which something else became
            then, now = (f"{answer.summary} ({answer.state})" for answer in (one.then, one.now))
        rows.append({
            "decision": one.id, "agent": f"{one.now.by}@{one.version_now}", "then": then, "now": now, "agrees": one.agrees,
            "shift": one.shift, "difference": one.difference,
        })  # fmt: skip
    return pl.DataFrame(rows)


def print_many(out: Console, replayed: Sequence[Replayed]) -> None:
    """The decisions that came out another way, and sums over all."""
    frame = differences(replayed)
    if not frame["agrees"].all():
        print_frame(out, frame.filter(~pl.col("agrees")).drop("agrees"))
    agree, same = int(frame["agrees"].sum()), int((frame["difference"] == "").sum())
    shift = sum(one.shift for one in replayed) / len(replayed)
    out.print(f"{agree:,} of {frame.height:,} decide the same ({agree / frame.height:.1%}); mean shift of confidence {shift:+.3f}")
    out.print(f"{same:,} of {frame.height:,} saw exactly the same", style="dim")
    changed = frame.filter(~pl.col("agrees")).group_by("then", "now").len("decisions").sort("decisions", descending=True)
    for then, now, many in changed.iter_rows():
        out.print(f"  {many:,} × {then} → {now}", markup=False)
    units = dict.fromkeys(unit for one in replayed for unit in (*one.then.cost, *one.now.cost))
    for unit in units:
        then, now = (sum(answer.cost.get(unit, 0.0) for answer in answers) for answers in _both(replayed))
        out.print(f"  {unit}: {then:g} then, {now:g} now", style="dim", markup=False)


def _both(replayed: Sequence[Replayed]) -> tuple[list[Answer], list[Answer]]:
    return [one.then for one in replayed], [one.now for one in replayed]
