"""`headwater bench`: measure, show, keep."""

import importlib
import itertools
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import headwater
from headwater.flows.bench.bed import Bed
from headwater.flows.bench.entry import Bench, Finding, Round
from headwater.flows.bench.show import figure, show, tell
from headwater.flows.bench.which import NAMES as NAMES
from headwater.flows.collector import collect_seldom
from headwater.lineage.errors import Misused


def run(
    names: Sequence[str], json_file: Path | None, runs: int, *,
    points: int | None = None, scale: float = 1.0, console: Console | None = None,
) -> None:  # fmt: skip
    """Run benchmarks (none named: all), print a table, write JSON. `scale` shrinks every amount, for tests; `points` those that are
    searched. Raises Misused."""
    chosen = choose(names)
    if runs < 1:
        raise Misused(f"--runs {runs}: at least 1 pair must be counted (5 for figures to keep)")
    if points is not None and not 100 <= points <= 300_000:
        raise Misused(f"--points {points}: from 100 to 300,000 can be searched")
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise Misused(f"--json {json_file}: the folder {json_file.resolve().parent} is not there; make it first")
    collect_seldom()  # as every process that runs flows does; the references profit as well
    console = console or Console()
    findings: list[Finding] = []
    with Bed(scale, points) as bed:
        for name in chosen:
            findings.append(measure(name, bed, runs, console))
            tell(console, findings[-1])
            if json_file is not None:  # after each, so that what was measured is kept when the rest is broken off
                json_file.write_text(json.dumps(as_data(findings), indent=2, ensure_ascii=False) + "\n")
    show(console, findings)


def choose(names: Sequence[str]) -> list[str]:
    """Those named, each once, in our order; all if none is. Raises Misused, listing what there is."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise Misused(f"there is no benchmark {', '.join(map(repr, unknown))}; there are {', '.join(NAMES)}")
    return [name for name in NAMES if name in names or not names]


def measure(name: str, bed: Bed, runs: int, console: Console) -> Finding:
    """One benchmark: a warm-up round, then `runs` that count. What stops it is told in the finding, and the others go on."""
    bench = Bench(name, "could not be loaded", "", (), _nothing)
    rounds: list[Round] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{name}: preparing", total=None)
        try:
            bench = cast(Bench, importlib.import_module(f"headwater.flows.bench.{name}").BENCH)
            with closing(cast(Any, bench.rounds(bed))) as measured:
                for number, each in enumerate(itertools.islice(measured, runs + 1)):
                    rounds.append(each)
                    done = f"{number} of {runs}" if number else "warmed up"
                    progress.update(task, description=f"{name}: {done}, {figure(each.value, bench.unit)}")
        except Exception as error:
            return Finding(bench, why=f"{type(error).__name__}: {error}")
    return Finding(bench, tuple(rounds[1:]))


def _nothing(bed: Bed) -> Iterator[Round]:
    return iter(())


def as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """{"machine", "version", "benches": […]}."""
    return {"machine": machine(), "version": headwater.__version__, "benches": [finding.as_data() for finding in findings]}


def machine() -> dict[str, Any]:
    """What figures depend on."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _first(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
