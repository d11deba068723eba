"""All flows of an application in one process: start in the order that loses nothing, stop in the design's order."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import structlog
from bytewax._bytewax import cluster_main  # the entry point that bytewax.run itself calls; bytewax.testing only wraps it

from headwater.enrichers.embed import Embedder
from headwater.flows import walk
from headwater.flows.app import App
from headwater.flows.broker import Broker
from headwater.flows.collector import collect_seldom, keep_what_is_loaded
from headwater.flows.drain import end_of
from headwater.flows.files import Watch
from headwater.flows.former import recall_former
from headwater.flows.gateway import Gateway
from headwater.flows.gateways import Gateways
from headwater.flows.guard import guarded
from headwater.flows.head_start import head_start
from headwater.flows.index_status import warnings
from headwater.flows.kafka import Kafka
from headwater.flows.limits import Rate
from headwater.flows.listening import listening
from headwater.flows.open_files import ask_for_files
from headwater.flows.prepare import domain
from headwater.flows.recovery import EPOCH, Recovery, hold
from headwater.flows.run_file import remove_run_file, write_run_file, write_starting
from headwater.flows.runtime import Runtime, wall_clock
from headwater.flows.settings import Settings
from headwater.flows.switching import switch_often
from headwater.flows.versions import changed
from headwater.lineage.errors import Unavailable
from headwater.lineage.topic import ACTIVATIONS, LINEAGE

if TYPE_CHECKING:
    from headwater.flows.desk import Desk
    from headwater.flows.serve import Server

_log = structlog.get_logger("headwater.up")

DRAIN_S = 25.0
"""How long a stop waits for all flows to finish what was sent: less than the 30 s that supervisors wait before they kill."""
EMBEDDED_DRAIN_S = 90.0
"""The same with the embedded broker: what is not drained from its memory is lost."""
LEAVE_S = 6.0
"""How long it then waits for flows to leave what they are stuck in, such as a write to a broker that does not answer."""
END_S = 2.0
"""How long a stop asks the broker where the lineage topic ends."""


class FlowThread:
    """One dataflow in a thread. A flow that raises is told to `failed`; it is never run twice in one interpreter."""

    def __init__(self, name: str, run: Runtime, failed: Callable[[str, BaseException], None], workers: int = 1) -> None:
        self.name, self._run, self._failed = name, run, failed
        self._workers = workers if name != "audit" else 1  # the database has one writer
        self._recovery = Recovery(run.home, name, run.broker) if name != "audit" else None
        if self._recovery is not None:
            run.slots[name] = self._recovery.slots
        self._flow = guarded(walk.FLOWS[name](run), partial(failed, name))
        self._thread = threading.Thread(target=self._main, name=f"flow-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _main(self) -> None:
        try:
            recovery = self._recovery.config if self._recovery else None
            cluster_main(  # type: ignore[no-untyped-call]
                self._flow, [], 0, epoch_interval=EPOCH, recovery_config=recovery, worker_count_per_proc=self._workers
            )
        except BaseException as error:
            self._failed(self.name, error)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def ask(self) -> None:
        """Ask its sources to end, and its writes to wait no longer."""
        self._run.stops[self.name].set()

    def stop(self, patience: float) -> bool:
        """Ask it to end and wait for what is on its way, so many seconds; False: it still runs."""
        self.ask()
        self._thread.join(patience)
        if self._thread.is_alive():
            return False
        if self._recovery is not None:
            self._recovery.close()
        return True


class Up:
    """A running application: `with Up(app, settings) as up: …`.

    flows     which flows run, in stop order
    http      whether the HTTP door is opened
    idle      whether the wall clock may move the watermark (off in replays)
    workers   worker threads of each flow but `audit`; another number at the next start is fine
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        *,
        flows: Sequence[str] = ("index", "detect", "decide", "bridge", "audit"),
        http: bool = True,
        idle: bool = True,
        embedder: Embedder | None = None,
        clock: Callable[[], int] = wall_clock,
        workers: int = 1,
    ) -> None:
        self.app, self.settings = app, settings
        self._workers = workers
        self._flow_names = [name for name in flows if (name != "decide" or app.agents) and (name != "bridge" or app.bridges)]
        self._http, self._idle, self._embedder, self._clock = http, idle, embedder, clock
        self._lock: IO[str] | None = None
        self._broker: Broker | None = None
        self._place: socket.socket | None = None
        self._server: Server | None = None
        self._watch: Watch | None = None
        self._gateways: Gateways | None = None
        self._desk: Desk | None = None
        self._flows: dict[str, FlowThread] = {}
        self.undrained: list[str] = []
        self.failure: tuple[str, BaseException] | None = None
        self.failed = threading.Event()
        self.run: Runtime

    @property
    def address(self) -> str:
        return self._server.address if self._server else ""

    def start(self) -> None:
        """Lock the home, start the broker, then `detect`, open what else is shared, then start the other flows from the last to the first.

        Rules come first: what they find may be urgent, and opening the embedded index holds the interpreter for as long as it takes.
        """
        collect_seldom()
        switch_often()
        home = self.settings.home
        ask_for_files()
        self._lock = hold(home / "lock", f"headwater in {home}")
        write_starting(home)
        try:
            if self._http:
                self._place = listening(self.settings.http_host, self.settings.http_port)
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        kafka = self._kafka()
        self.run = run = Runtime(
            self.app,
            self.settings,
            kafka,
            clock=self._clock,
            embedder=self._embedder,
            idle=self._idle,
            indexes="index" in self._flow_names,
        )
        run.workers = self._workers
        for warning in changed(self.settings.home, self.app.agents):
            _log.warning(warning)
        run.failed = self._fail
        run.prepare()
        if "detect" in self._flow_names:
            self._begin("detect")
        run.store.lost_with_broker(run.broker)
        if "detect" in self._flow_names and self._broker is None:  # an embedded broker has just begun: nothing lies there
            head_start(run)
        self._open(run)
        self.gateway = Gateway({**self.app.topics}, run.writer, run.clock, largest=self.settings.http_max_bytes, telemetry=run.telemetry)
        self._gateways = Gateways(run, self.gateway)
        for name in reversed(self._flow_names):
            if name not in self._flows:
                self._begin(name)
        self._remember(kafka)
        if self._http:
            self._serve(run, self._gateways)
        self._watch = Watch(self.app.files, self.app.root, self.gateway, self.settings.home / "files.json", run.clock)
        self.file_positions = self._watch.publish() if self.app.files and "index" in self._flow_names else []
        if self.app.files and "index" in self._flow_names:
            self._watch.start()
        self._gateways.start()
        write_run_file(self.settings.home, http=self.address, broker=kafka.address, broker_id=run.broker, app=self.app.name)
        keep_what_is_loaded()

    def _open(self, run: Runtime) -> None:
        """What the flows besides `detect` need, and what they must know before they start."""
        if "decide" in self._flow_names:
            recall_former(run)
        if "audit" in self._flow_names:
            run.keep_heads()
        if "index" in self._flow_names:
            for warning in warnings(run):
                _log.warning(warning)
            run.embedder.embed(["the model is loaded before the first event comes"])
            run.keep_progress()

    def _begin(self, name: str) -> None:
        self._flows[name] = FlowThread(name, self.run, self._fail, self._workers)
        self._flows[name].start()

    def _serve(self, run: Runtime, gateways: Gateways) -> None:
        from headwater.flows.desk import Desk  # half a second to load, and a process without HTTP needs none of it
        from headwater.flows.serve import Server, http_app

        self._desk = Desk(self.gateway, Rate(self.settings.http_rate, self.settings.http_burst, run.clock))
        app = http_app(run, self._desk, gateways, self.ready)
        assert self._place is not None
        self._server = Server(app, self.settings.http_host, self._place)
        self._server.start()

    def _remember(self, kafka: Kafka) -> None:
        """Let the gateway learn which events came lately, if anybody can publish here. The flows run meanwhile: it may take seconds.

        An embedded broker has just begun, and has nothing to remember.
        """
        if self._broker is None and (self._http or self.app.files or self.app.gateways):
            for topic in domain(self.app).values():
                self.gateway.remember(kafka, self.run.broker, topic)

    def _kafka(self) -> Kafka:
        if self.settings.kafka:
            return Kafka(self.settings.kafka)
        self._broker = Broker(self.settings.home / "broker.log", ended=self._broker_ended)
        return self._broker.kafka

    def _broker_ended(self, status: int) -> None:
        """What it held in memory is gone: nothing here can go on."""
        log = self.settings.home / "broker.log"
        self._fail("broker", Unavailable(f"the embedded broker ended (status {status}, see {log}); start again, the next start recovers"))

    def _fail(self, flow: str, error: BaseException) -> None:
        self.failure = self.failure or (flow, error)
        self.failed.set()

    def ready(self) -> bool:
        """All flows run, and the broker answers."""
        return self.run.partitions.answered and not self.failed.is_set() and all(flow.alive for flow in self._flows.values())

    def stop(self) -> None:
        """Gateway, then `index` and `detect`, then `decide`, then `bridge`, then `audit`, each after its upstream; then files, broker.

        Flows that could not be drained are in `undrained`; the next start recovers what they had begun.
        """
        if hasattr(self, "run") and "index" in self._flow_names:
            self.run.rebuild.stopped.set()
        if self._gateways is not None:
            self._gateways.close()
        if self._watch is not None:
            self._watch.close()
        if self._desk is not None:
            self.gateway.close()  # streams end with what they have
        if self._server is not None:
            self._server.stop()
        if self._place is not None:
            self._place.close()
        if self._desk is not None:
            self._desk.close()
        deadline = time.monotonic() + (DRAIN_S if self._broker is None else EMBEDDED_DRAIN_S)
        if self._broker is not None and self._flows:
            self.run.hurry.set()
            self._settle(deadline)
            self.run.ending.set()
        if not self.failed.is_set():
            self._drain(deadline)
        self._leave(time.monotonic() + LEAVE_S)
        if hasattr(self, "run"):
            self.run.close()
        if self._broker is not None:
            self._broker.stop()
        if self._lock is not None:
            remove_run_file(self.settings.home)
            self._lock.close()

    def _settle(self, deadline: float) -> None:
        """What was accepted lies in the embedded broker's memory and nowhere else: every flow deals with it before any is stopped.

        A decision's effect may wake further flows, so all are looked at until none is behind.
        """
        behind = self._behind()
        while behind and not self.failed.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)
            behind = self._behind()
        self.undrained += [f"{flow} ({many:,} events)" for flow, many in behind.items()]

    def _behind(self) -> dict[str, int]:
        """Flow → how many positions of what this process wrote it has not dealt with."""
        reads = {"index": [*self.app.indexed, *self.run.rungs], "detect": [*self.app.watched]}
        reads |= {f"decide/{agent.name}": [ACTIVATIONS] for agent in self.app.agents}
        reads |= {f"bridge/{bridge.name}/send": bridge.names("send", self.app.topics) for bridge in self.app.bridges}
        counts = {flow: self.run.meter.behind(flow, topics) for flow, topics in reads.items() if flow.partition("/")[0] in self._flows}
        return {flow: many for flow, many in counts.items() if many}

    def _drain(self, deadline: float) -> None:
        """Each flow after its upstream; a failure meanwhile, or the end of patience, ends it."""
        for name in self._flow_names:
            flow = self._flows.get(name)
            if flow is None:
                continue
            if name == "decide":
                patience = 2.0 if self._broker is None else max(0.0, deadline - time.monotonic())
                for agent in self.app.agents:
                    self.run.meter.await_reached(f"decide/{agent.name}", self.run.meter.written(ACTIVATIONS), patience)
            elif name == "audit":
                self._await_audit(deadline)
            flow.ask()
            while not flow.stop(0.2):
                if self.failed.is_set() or time.monotonic() > deadline:
                    return

    def _await_audit(self, deadline: float) -> None:
        """Until all has landed that lies on the lineage topic, whoever wrote it: one that was killed landed nothing of its last."""
        self.run.gathering.end()
        ends = self.run.meter.written(LINEAGE)
        if self._broker is None:
            ends |= self._lineage_ends()
        while not self.failed.is_set() and time.monotonic() < deadline:
            if self.run.meter.await_reached("audit", ends, 0.2):
                return

    def _lineage_ends(self) -> dict[tuple[str, int], int]:
        """Where the lineage topic ends. What others write from now on is not waited for; nor is a broker that does not answer."""
        try:
            kafka, read = self.run.kafka, range(self.app.partitions[LINEAGE])
            return {(LINEAGE, each): end_of(kafka, LINEAGE, each, "read_uncommitted", patience_s=END_S) for each in read}
        except Unavailable as error:
            _log.warning("what others wrote to the lineage topic is not waited for", error=str(error))
            return {}

    def _leave(self, deadline: float) -> None:
        """Whatever still runs is told to leave at once."""
        for flow in self._flows.values():
            flow.ask()
        for name, flow in self._flows.items():
            if not flow.stop(max(0.0, deadline - time.monotonic())):
                self.undrained.append(name)
                _log.error("flow did not stop in time", flow=name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
