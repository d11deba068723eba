"""OpenLineage: tells a catalogue which flows run, what they read and write, and how much, to a file, by HTTP, or on a topic.

One thread tells it, every `EVERY_S` and at both ends of a run. Flows only add to counts. A catalogue that does not answer is told of once
in the log; the next event holds all counts since the start, so nothing that matters is lost with one.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog

from headwater import __version__
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing, Writer
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.ranges import Ranges
from headwater.lineage.record import Record
from headwater.lineage.run_event import Dataset, EventType, Flow, run_event
from headwater.lineage.topic import ACTIVATIONS, DECISIONS, LINEAGE, REVIEWS

_log = structlog.get_logger("headwater.openlineage")

EVERY_S = 10.0
TIMEOUT_S = 5.0
Side = Literal["reads", "writes"]


class Receiver(Protocol):
    """Where events go. May block; raises OSError, httpx.HTTPError or HeadwaterError when one did not arrive."""

    def __call__(self, event: dict[str, Any]) -> None: ...


class Catalogue:
    """Tells of the flows of one process.

    broker, index, store   the namespaces of topics, of the index and of the database
    """

    def __init__(
        self, receiver: Receiver, app: str, run: str, broker: str, index: Dataset, store: Dataset, clock: Callable[[], int],
        *, every_s: float = EVERY_S,
    ) -> None:  # fmt: skip
        self._receiver, self._app, self._run, self._clock = receiver, app, run, clock
        self._broker, self._index, self._store = broker, index, store
        self._counts: dict[str, dict[Side, Counter[Dataset]]] = {}
        self._read: dict[tuple[str, str, str, int], Ranges] = {}
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._ended: dict[str, str] = {}
        self._quiet = False
        self._closing = threading.Event()
        self._every = every_s
        self._thread = threading.Thread(target=self._go_on, name="openlineage", daemon=True)
        self._thread.start()

    def begun(self, flow: str, reads: Iterable[str]) -> Callable[[Iterable[Record]], None]:
        """A flow starts, reading these topics: tells so (without waiting), and gives who is to hear of its records."""
        with self._lock:
            self._counts[flow] = {"reads": Counter({self._topic(name): 0 for name in reads}), "writes": Counter()}
        threading.Thread(target=self._tell, args=("START", flow), name=f"openlineage-{flow}", daemon=True).start()
        return lambda records: self._heard(flow, records)

    def failed(self, flow: str, error: BaseException) -> None:
        """A flow ended with an error; the first one is told."""
        self._ended.setdefault(flow.partition("/")[0], f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Tell how each run ended. Waits a few seconds at most: a catalogue that does not take the first of them is not told the rest."""
        self._closing.set()
        self._thread.join(TIMEOUT_S)
        for flow in list(self._counts):
            if not self._tell("FAIL" if flow in self._ended else "COMPLETE", flow):
                return

    def _heard(self, flow: str, records: Iterable[Record]) -> None:
        for record in records:
            match record.kind:
                case "consumed":
                    self._add(flow, "reads", self._topic(record.topic), self._rows(flow, record))
                    if flow == "audit":
                        self._add(flow, "writes", self._store, record.count)
                case "document" if record.outcome != "stale":
                    self._add(flow, "writes", self._index, 1)
                case "activation":
                    self._add(flow, "writes", self._topic(ACTIVATIONS), 1)
                case "decision":
                    self._add(flow, "writes", self._topic(DECISIONS), 1)
                case "review":
                    self._add(flow, "writes", self._topic(REVIEWS), 1)
                case "effect" if record.data.get("effect") == "publish":
                    self._add(flow, "writes", self._topic(str(record.data["target"])), 1)

    def _rows(self, flow: str, record: Record) -> int:
        """How many rows of a topic this run had not read before: each agent of `decide` reads an activation, and it is one row."""
        with self._lock:
            seen = self._read.setdefault((flow, record.broker, record.topic, record.partition), Ranges())
            new = sum(following - first for first, following in seen.add(record.first, record.next))
        # Offsets may be absent; how many of a part are, the record of the whole does not say.
        return record.count if new == record.next - record.first else min(new, record.count)

    def _add(self, flow: str, side: Side, dataset: Dataset, many: int) -> None:
        with self._lock:
            if flow in self._counts:
                self._counts[flow][side][dataset] += many

    def _topic(self, name: str) -> Dataset:
        return Dataset(self._broker, name)

    def _go_on(self) -> None:
        while not self._closing.wait(self._every):
            for flow in list(self._counts):
                self._tell("RUNNING", flow)

    def _tell(self, kind: EventType, flow: str) -> bool:
        """One event, no two at once. False: it did not arrive."""
        with self._telling:
            with self._lock:
                reads, writes = (dict(self._counts[flow][side]) for side in ("reads", "writes"))
            about = Flow(self._app, flow, self._run, __version__)
            event = run_event(kind, about, self._clock(), reads, writes, self._ended.get(flow, ""))
            try:
                self._receiver(event)
            except (OSError, httpx.HTTPError, HeadwaterError) as error:
                if not self._quiet:
                    _log.warning("an OpenLineage event did not arrive; the next one holds all counts", flow=flow, error=str(error))
                self._quiet = True
                return False
            self._quiet = False
            return True


class ToFile:
    """One JSON document per line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def __call__(self, event: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")


class ToHttp:
    """`POST` to a catalogue such as Marquez: the address as given, or its `/api/v1/lineage` if that names no path."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/api/v1/lineage"
        self._client = httpx.Client(timeout=TIMEOUT_S, headers={"authorization": f"Bearer {api_key}"} if api_key else {})

    def __call__(self, event: dict[str, Any]) -> None:
        body = msgspec.json.encode(event)
        self._client.post(self._url, content=body, headers={"content-type": "application/json"}).raise_for_status()


class ToTopic:
    """A topic of our own broker, keyed by run."""

    def __init__(self, topic: str, writer: Writer) -> None:
        self._topic, self._writer = topic, writer

    def __call__(self, event: dict[str, Any]) -> None:
        key = str(event["run"]["runId"]).encode()
        self._writer.write([Outgoing(self._topic, key, msgspec.json.encode(event), [("content-type", b"application/json")])])


def topic_of(settings: Settings) -> str:
    """The topic that the settings name for OpenLineage; empty: none."""
    return settings.openlineage_url.partition(":")[2] if settings.openlineage_url.startswith("kafka:") else ""


def receiver_of(settings: Settings, writer: Callable[[], Writer]) -> Receiver:
    """Of `HEADWATER_OPENLINEAGE__URL`: `http(s)://…`, `kafka:TOPIC`, or `file:PATH`."""
    url = settings.openlineage_url
    if url.startswith(("http://", "https://")):
        return ToHttp(url, settings.openlineage_api_key)
    if topic_of(settings):
        return ToTopic(topic_of(settings), writer())
    return ToFile(Path(url.removeprefix("file:")))


def catalogue_of(
    settings: Settings, app: str, run: str, broker: str, home: Path, clock: Callable[[], int], writer: Callable[[], Writer]
) -> Catalogue:
    """Of the settings, which name one."""
    where = urlsplit(settings.qdrant_url)
    index = Dataset(f"qdrant://{where.netloc}" if settings.qdrant_url else f"qdrant://{(home / 'index').resolve()}", app)
    store = Dataset("duckdb", str((home / "lineage.duckdb").resolve()))
    return Catalogue(receiver_of(settings, writer), app, run, f"kafka://{broker}", index, store, clock)


def reads_of(flow: str, indexed: Mapping[str, Any], watched: Mapping[str, Any]) -> list[str]:
    """The topics that a flow is known to read before it has read anything."""
    return {"index": [*indexed], "detect": [*watched], "decide": [ACTIVATIONS, REVIEWS], "audit": [LINEAGE]}.get(flow, [])
