"""`headwater index …`: its state, a rebuild, a check; in the headwater that runs, or with the index and the broker of a stopped one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headwater.flows.door import Door, door
from headwater.flows.options import print_json
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings
from headwater.lineage import errors
from headwater.lineage.errors import HeadwaterError, Misused, Unavailable

SHOWN = 50
"""Findings in a table; --json has them all."""


def status(settings: Settings, target: str | None, as_json: bool) -> None:
    """Print how much the index holds and what changed since it was made."""
    found = door(settings)
    if found.running:
        told = found.ask("GET", "/v1/index")
    else:
        from headwater.flows.index_status import status_of

        with stopped(settings, target) as run:
            told = msgspec.to_builtins(status_of(run))
    if as_json:
        print_json(told)
        return
    console = terminal()
    holds = f"{told['documents']:,} documents, {told['chunks']:,} chunks that count, {told['points']:,} points"
    console.print(f"{told['engine']} index of {holds}")
    console.print(f"made with {told['model']} ({told['size']} dimensions)")
    table = Table("document", "topic", "documents", "chunker", box=None, padding=(0, 2), header_style="bold")
    for name, kind in told["types"].items():
        table.add_row(name, kind["topic"], f"{kind['documents']:,}", kind["chunker"])
    console.print(table)
    _print_changes({each["type"]: each["what"] for each in told["changes"]}, {each["type"]: each["documents"] for each in told["changes"]})
    if told["by_words"]:
        console.print("until it is rebuilt it is searched by words alone", style="yellow")
    if told["rebuild"] != "none":
        goes = "is running" if told["rebuild"] == "running" else "was begun and not finished; it goes on with: headwater index rebuild"
        console.print(f"a rebuild {goes}", style="yellow")
    elif told["changes"]:
        console.print("make it anew with: headwater index rebuild")


def rebuild(settings: Settings, target: str | None, *, dry_run: bool, accept_refused: bool, as_json: bool) -> None:
    """Rebuild, with a bar; or say what would be done."""
    found = door(settings)
    if dry_run:
        _print_plan(_plan(found, settings, target), as_json)
        return
    if found.running:
        end = _followed(found, "/v1/index/rebuild", {"accept_refused": accept_refused}, "rebuild")
    else:
        with stopped(settings, target) as run:
            end = _shown(run.rebuild.steps(accept_refused), "rebuild")
    if as_json:
        print_json(end)
        return
    told = f"rebuilt from {end['events']:,} events: {end['documents']:,} documents"
    told += f"; {end['carried']:,} versions taken over, for their events are gone" if end["carried"] else ""
    told += f"; {end['refused']:,} events left out" if end["refused"] else ""
    terminal().print(f"{told}. It answers now.", style="green")


def check(settings: Settings, target: str | None, *, repair: bool, as_json: bool) -> bool:
    """Check, and repair if asked to; True if nothing is wrong in the end."""
    found = door(settings)
    if found.running:
        end = _followed(found, "/v1/index/check", {"repair": repair}, "check")
    else:
        from headwater.flows.check import check as steps

        with stopped(settings, target) as run:
            end = _shown(steps(run, repair=repair), "check")
    whole = not (end["left"] if end["repaired"] else end["findings"]) and not end["more"]
    if as_json:
        print_json({**end, "ok": whole})
        return whole
    console = terminal()
    table = Table("document", "finding", "what is wrong", box=None, padding=(0, 2), header_style="bold")
    for each in end["findings"][:SHOWN]:
        table.add_row(each["document"], each["kind"], each["what"])
    if end["findings"]:
        console.print(table)
    many = f"{len(end['findings']):,}{'+' if end['more'] else ''}"
    if len(end["findings"]) > SHOWN:
        console.print(f"the first {SHOWN} of {many}; --json names them all", style="dim")
    console.print(
        f"{end['documents']:,} documents compared with their events, {end['points']:,} points looked at"
        + (f"; {end['unsure']:,} not compared, for events about them are dead letters or wait" if end["unsure"] else "")
        + (f"; {end['refused']:,} events are refused" if end["refused"] else "")
    )
    if end["repaired"]:
        console.print(f"mended; {len(end['left']):,} of {many} could not be", style="green" if whole else "red")
    elif whole:
        console.print("the index is what the events say", style="green")
    else:
        console.print(f"{many} found; mend them with: headwater index check --repair", style="red")
    return whole


@contextmanager
def stopped(settings: Settings, target: str | None) -> Iterator[Any]:
    """The parts of a headwater that is stopped, its home held meanwhile. Raises Misused, Unavailable."""
    if not settings.kafka:
        raise Unavailable(
            f"no headwater runs in {settings.home}, and its embedded broker forgot the events when it stopped; start it: headwater up"
        )
    from headwater.flows.kafka import Kafka
    from headwater.flows.lone import alone
    from headwater.flows.recovery import hold
    from headwater.flows.runtime import Runtime
    from headwater.flows.target import application

    lock = hold(settings.home / "lock", f"headwater in {settings.home}")
    run = Runtime(application(settings, target), settings, Kafka(settings.kafka))
    try:
        run.prepare()
        alone(run)
        yield run
    finally:
        run.close()
        lock.close()


def _plan(found: Door, settings: Settings, target: str | None) -> Any:
    if found.running:
        return found.ask("POST", "/v1/index/rebuild", json={"dry_run": True})["plan"]
    with stopped(settings, target) as run:
        return msgspec.to_builtins(run.rebuild.plan())


def _print_plan(plan: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    _print_changes(plan["changes"], plan["documents"])
    console = terminal()
    console.print(f"{'would go on and read' if plan['resumes'] else 'would read'} {plan['events']:,} events again")
    if not plan["changes"]:
        console.print("nothing changed since the index was made", style="dim")


def _print_changes(changes: Mapping[str, str], documents: Mapping[str, int]) -> None:
    console = terminal()
    for name, what in changes.items():
        concerned = documents.get(name, sum(documents.values()) if not name else 0)
        console.print(f"changed: {f'document {name}: ' if name else ''}{what} ({concerned:,} documents)", style="yellow", markup=False)


def _followed(found: Door, path: str, asked: Mapping[str, Any], what: str) -> Any:
    """The end of a long answer, with a bar meanwhile. Raises the error it ends with."""
    with _bar() as bar:
        task = bar.add_task(what, total=None)
        for line in found.lines(path, json=asked):
            if "error" in line:
                raise _error(line)
            if "end" in line:
                return line["end"]
            bar.update(task, completed=line["done"], total=line["of"] or None, description=f"{what} {line['what']}")
    raise Unavailable(f"{found.address} ended before the {what} did; ask again, a rebuild goes on where it was")


def _shown(steps: Any, what: str) -> Any:
    """The end of steps taken here, with a bar meanwhile."""
    from headwater.flows.rebuild import outcome

    with _bar() as bar:
        task = bar.add_task(what, total=None)
        end = outcome(steps, lambda step: bar.update(task, completed=step.done, total=step.of or None, description=f"{what} {step.what}"))
    return msgspec.to_builtins(end)


def _bar() -> Progress:
    parts = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"), TimeElapsedColumn())
    return Progress(*parts, console=terminal(stderr=True), transient=True)


def _error(line: Mapping[str, Any]) -> HeadwaterError:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HeadwaterError)]
    return next((kind(line["error"]) for kind in kinds if kind.cause == line["cause"]), Unavailable(line["error"]))


def optimise(settings: Settings) -> None:
    """Optimise the embedded index of a stopped headwater. Raises Misused, Unavailable."""
    if settings.qdrant_url:
        raise Misused("a Qdrant server optimises by itself; this command is for the embedded engine")
    from headwater.enrichers.edge import EdgeIndex
    from headwater.enrichers.embed import minilm
    from headwater.enrichers.generations import EdgeGenerations
    from headwater.flows.recovery import hold

    generations = EdgeGenerations(settings.home / "index")
    if not Path(generations.folder).is_dir():
        raise errors.NotFound(f"no index lies in {settings.home}; start with: headwater up")
    with hold(settings.home / "lock", f"headwater in {settings.home}"):
        index = generations.current(minilm().size)
        assert isinstance(index, EdgeIndex)
        try:
            terminal(stderr=True).print(f"optimising {index.count().points:,} points; about a second for each thousand …", style="dim")
            index.optimise()
        finally:
            index.close()
    terminal().print("optimised", style="green")
