"""`headwater run FLOW`: one flow as a process of its own, for production; the broker and the index are servers."""

import os
import signal
import threading
from datetime import timedelta
from types import FrameType

from bytewax._bytewax import cluster_main
from rich.console import Console

from headwater.flows import walk
from headwater.flows.collector import collect_seldom, keep_what_is_loaded
from headwater.flows.following import follow
from headwater.flows.index_status import warnings
from headwater.flows.kafka import Kafka
from headwater.flows.recovery import SLOTS, Recovery
from headwater.flows.runtime import Runtime
from headwater.flows.screen import causes
from headwater.flows.settings import Settings
from headwater.flows.switching import LANDING_S, switch_often
from headwater.flows.target import application, target_of
from headwater.lineage.errors import Misused

NEEDS_INDEX = ("index", "decide")
ONE_WORKER = {"audit": "has one writer", "bridge": "carries each topic in a thread of its own"}


def run(
    settings: Settings, flow: str, target: str | None, workers: int, process: int | None, addresses: list[str], snapshot: float
) -> None:
    """Run until SIGTERM or Ctrl-C.

    Raises Misused: unknown flow, no broker, no Qdrant server, `audit`, `bridge` or `decide` in more than one process, no bridge declared.
    """
    if flow not in walk.FLOWS:
        raise Misused(f"flow {flow!r} is none of {', '.join(walk.FLOWS)}")
    if not settings.kafka:
        raise Misused(
            "one flow by itself needs a broker: set HEADWATER_KAFKA__BOOTSTRAP_SERVERS; `headwater up` runs all with an embedded one"
        )
    if flow in NEEDS_INDEX and not settings.qdrant_url:
        raise Misused(f"flow {flow} by itself needs a Qdrant server: set HEADWATER_QDRANT__URL; the embedded engine belongs to one process")
    if flow in ONE_WORKER and (addresses or workers > 1):
        raise Misused(f"{flow} {ONE_WORKER[flow]}: run it once, with one worker")
    if flow == "decide" and len(addresses) > 1:  # an agent's bound on what is in flight is kept by asking the deciders of this process
        raise Misused("decide runs in one process for now: leave out -a and -i; more workers (-w) are fine")
    collect_seldom()
    app = application(settings, target)
    if flow == "bridge" and not app.bridges:
        raise Misused(f"application {app.name} declares no bridge; add bridges=[Bridge(…)] to its App")
    runtime = Runtime(app, settings, Kafka(settings.kafka), indexes_here=flow == "index")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: _stop(runtime))
    broken: list[BaseException] = []

    def fail(part: str, error: BaseException) -> None:
        broken.append(error)
        _stop(runtime)

    runtime.failed = fail
    runtime.prepare()
    if flow == "index":
        for warning in warnings(runtime):
            Console(stderr=True).print(warning, style="yellow", markup=False)
        runtime.keep_progress()
    if flow == "audit":
        switch_often(LANDING_S)
        runtime.store.lost_with_broker(runtime.broker)
        runtime.keep_heads()
    runtime.workers, runtime.epoch = max(1, workers) * max(1, len(addresses)), snapshot
    recovery = None
    if flow != "audit":
        slots = max(SLOTS, runtime.workers)
        recovery = Recovery(settings.home, flow, runtime.broker, process=process or 0, addresses=addresses, slots=slots)
        runtime.slots[flow] = recovery.slots
    runtime.process, runtime.processes = process or 0, max(1, len(addresses))
    if flow == "detect":
        follow(runtime, target_of(settings, target))
    keep_what_is_loaded()
    Console(stderr=True).print(f"flow {flow} of {app.name}   broker {runtime.kafka.address}   Ctrl-C stops it", style="dim")
    failure = broken + _in_thread(runtime, flow, recovery, workers, process or 0, addresses, snapshot)
    if failure and runtime.openlineage is not None:
        runtime.openlineage.failed(flow, failure[0])
    runtime.close()
    if failure:
        Console(stderr=True).print(f"flow {flow} failed: {causes(failure[0])}", style="red", markup=False)
        os._exit(1)


def _in_thread(
    runtime: Runtime, flow: str, recovery: Recovery | None, workers: int, process: int, addresses: list[str], snapshot: float
) -> list[BaseException]:
    """The engine runs beside the main thread, so that signals are heard while it works."""
    failure: list[BaseException] = []
    dataflow = walk.FLOWS[flow](runtime)

    def main() -> None:
        config = recovery.config if recovery else None
        try:
            cluster_main(  # type: ignore[no-untyped-call]
                dataflow, addresses, process,
                epoch_interval=timedelta(seconds=snapshot), recovery_config=config, worker_count_per_proc=workers,
            )  # fmt: skip
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=main, name=f"flow-{flow}", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    return failure


def _stop(runtime: Runtime, frame: FrameType | None = None) -> None:
    for stop in runtime.stops.values():
        stop.set()
