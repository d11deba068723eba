"""What the flows of one process share, opened once: broker, index, model, store, progress."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from headwater.agents.context import Ports
from headwater.agents.decider import Decider
from headwater.agents.meaning import Meaning
from headwater.agents.room import Room
from headwater.enrichers.batching import shared
from headwater.enrichers.embed import Embedder, VectorCache, minilm
from headwater.enrichers.engine import Index
from headwater.enrichers.fingerprint import Fingerprint, fingerprint
from headwater.enrichers.freshness import Progress, StoredProgress
from headwater.enrichers.generations import Generations
from headwater.enrichers.index import Indexer
from headwater.enrichers.indexing import Indexing
from headwater.enrichers.latest import Latest
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.switch import Switch, switch
from headwater.flows.ageing import keep_policy
from headwater.flows.app import App
from headwater.flows.earlier import Stretches
from headwater.flows.ends import Ends
from headwater.flows.gathering import Gathering
from headwater.flows.kafka import Kafka, group_of
from headwater.flows.keeping import keep_progress
from headwater.flows.keeping_heads import keep_heads, to_topic
from headwater.flows.ladder import Ladder, delays_of
from headwater.flows.loop import Loop
from headwater.flows.meter import Meter
from headwater.flows.once import once
from headwater.flows.opening import generations_of, open_index, recognise, storage_of
from headwater.flows.openlineage import Catalogue, catalogue_of, reads_of, topic_of
from headwater.flows.pace import Company
from headwater.flows.partitions import PATTERN, Partitions, declared_of
from headwater.flows.prepare import prepare_topics
from headwater.flows.records import Told, together
from headwater.flows.recovery import EPOCH, SLOTS
from headwater.flows.registry import registry_of
from headwater.flows.rulebook import Rulebook
from headwater.flows.settings import Settings
from headwater.flows.sink import Writer
from headwater.flows.source import TopicSource
from headwater.flows.tables import Tables
from headwater.flows.telemetry import Telemetry, telemetry_of
from headwater.flows.weighing import Weigher
from headwater.lineage.duration import duration
from headwater.lineage.errors import Unavailable
from headwater.lineage.heads import Heads
from headwater.lineage.store import Store
from headwater.lineage.topic import RETRY, rung_of

if TYPE_CHECKING:
    from headwater.flows.rebuild import Rebuild

_log = structlog.get_logger("headwater.runtime")


def wall_clock() -> int:
    """µs since 1970."""
    return time.time_ns() // 1000


class Runtime:
    """One process's parts. Everything that opens a file, a socket or a model does so on first use; `close` lets go of all.

    id       names this run of a process, in what it writes: within one run nothing is done twice
    ending   the broker's life ends with this process: nothing follows what it holds
    hurry    it soon will: what waits on the retry ladder is tried at once
    stops    flow → the event that asks its sources to stop
    ends     where the sources of `detect` stand, for its rules;  far_ahead  topic → partitions that its rules want paused
    rulebook  the rules of `detect`, once it is wired; they may change while it runs
    process, processes  which process of how many shares the flow
    slots    flow → slots of its sources, where its recovery store says so;  workers  that share the flow, in all its processes
    epoch    seconds between two snapshots
    gathering  when records land
    failed   called with a name and the error when a part dies that flows lean on; whoever runs the flows sets it, to end them
    indexes       whether a flow `index` runs at all: it then writes the dead letters of the topics it reads
    indexes_here  whether it runs in this process
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        kafka: Kafka,
        *,
        clock: Callable[[], int] = wall_clock,
        embedder: Embedder | None = None,
        index_path: Path | None = None,
        idle: bool = True,
        indexes: bool = True,
        indexes_here: bool = True,
    ) -> None:
        self.app, self.settings, self.kafka, self.clock = app, settings, kafka, clock
        self.broker = kafka.broker_id()
        self.meter = Meter()
        self.gathering = Gathering()
        self.idle, self.indexes, self.indexes_here = idle, indexes, indexes_here
        self.stops: dict[str, threading.Event] = {name: threading.Event() for name in ("index", "detect", "decide", "bridge", "audit")}
        self.ending = threading.Event()
        self.hurry = threading.Event()
        self.id = uuid.uuid4().hex[:16]
        self.deciders: dict[tuple[str, int], Decider] = {}
        self.opening: set[tuple[str, int]] = set()
        self.ends = Ends(clock)
        self.slots: dict[str, int] = {}
        self.process, self.processes = 0, 1
        self.workers, self.epoch = 1, EPOCH.total_seconds()
        self._companies: dict[str, Company] = {}
        self.far_ahead: dict[str, frozenset[int]] = {}
        self.rulebook: Rulebook | None = None
        self.failed: Callable[[str, BaseException], None] | None = None
        self.switch: Switch
        self._embedder = embedder
        self._index_path = index_path or settings.home / "index"
        self._open: list[Callable[[], None]] = []

    @property
    def home(self) -> Path:
        return self.settings.home

    @once
    def writer(self) -> Writer:
        writer = Writer(self.kafka, self.broker, self.stops["audit"], told=self.meter.wrote)
        self._open.append(writer.close)
        return writer

    @once
    def embedder(self) -> Embedder:
        return shared(self._embedder or self.app.embedder or minilm())

    @once
    def index(self) -> Index:
        """What answers; a rebuild may exchange it while everybody holds it."""
        index = open_index(self.settings, self._index_path, self.app.name, self.embedder.size)
        found, self.switch = switch(recognise(index, self.fingerprint, self.embedder, adopt=self.indexes and self.indexes_here))
        self._open.append(found.close)
        return found

    @once
    def generations(self) -> Generations:
        return generations_of(self.settings, self._index_path, self.app.name)

    @once
    def fingerprint(self) -> Fingerprint:
        """What the application would make an index of."""
        return fingerprint(self.embedder, self.app.document_types, storage_of(self.settings))

    @once
    def rebuild(self) -> "Rebuild":
        from headwater.flows.rebuild import Rebuild

        return Rebuild(self)

    @once
    def progress(self) -> Progress:
        """Of this broker's life: what an earlier life reached says nothing about the offsets of this one.

        Where `index` runs in this process, it is one shared object, which goes on from what was stored before a restart; its sources
        tell where they begin. Elsewhere it is read from the store.
        """
        places = self.partitions.places(self.app.indexed)
        if not self.indexes_here:
            return StoredProgress(self.index, self.broker, self.clock, self.app.indexed, places)
        progress = Progress(self.broker, self.clock, self.app.indexed, places, self._looked_up)
        if self.indexes:
            progress.learn(self.index.load_progress())
        return progress

    @once
    def partitions(self) -> Partitions:
        """The partitions of the application's topics at the broker, followed while this runtime is open."""
        partitions = Partitions(self.kafka, *declared_of(self.app.topics, self.app.partitions)).start()
        self._open.append(partitions.close)
        return partitions

    @property
    def counts(self) -> dict[str, int]:
        """Topic → partitions that are read now; a topic without key may have more than declared."""
        return self.partitions.counts()

    @once
    def retriever(self) -> Retriever:
        types = [kind.name for kind in self.app.document_types]
        return Retriever(self.index, self.embedder, self.progress, reranker=self.app.reranker, types=types)

    @once
    def store(self) -> Store:
        store = Store(self.home / "lineage.duckdb", clock=self.clock)
        self._open.append(store.close)
        return store

    @property
    def asked_store(self) -> Store:
        """The store, for somebody who asks it now: what waits to land does so soon."""
        self.gathering.ask()
        return self.store

    @once
    def tables(self) -> Tables:
        tables = Tables(self.kafka, self.broker, self.app.tables, self.meter, failed=self._tables_failed, partitions=self.counts)
        self._open.append(tables.close)
        return tables

    @once
    def stretches(self) -> Stretches:
        stretches = Stretches(self.kafka, self.broker, self.app.topics)
        self._open.append(stretches.close)
        return stretches

    def _looked_up(self) -> dict[tuple[str, int], int]:
        """How far the look-ups of indexed topics have read the topics they follow."""
        follow = (enricher for topic in self.app.indexed.values() for enricher in topic.enrich.values())
        names = {enricher.topic.name for enricher in follow if isinstance(enricher, Latest)}
        return {place: next for place, next in self.tables.positions().items() if place[0] in names}

    def _tables_failed(self, error: BaseException) -> None:
        """Look-ups that no longer learn anything make every answer old: the flows must not go on with them."""
        self.fail("tables", error)

    def fail(self, name: str, error: BaseException) -> None:
        """Tell whoever runs the flows that one of them, or a part they lean on, is over."""
        if self.openlineage is not None:
            self.openlineage.failed(name, error)
        if self.failed is not None:
            self.failed(name, error)

    @once
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that agents run on, in a thread of its own."""
        running = Loop()
        self._open.append(running.stop)
        return running.loop

    @once
    def ports(self) -> Ports:
        from headwater.agents.model import model_from  # as long to load as all the rest, and for `decide` alone

        return Ports(
            search=self.retriever,
            chooser=model_from(self.settings.model, self.embedder),
            clock=self.clock,
            broker=self.broker,
            indexed=frozenset(self.app.indexed),
            largest=self.kafka.largest * 9 // 10,  # the rest is for what the protocol puts around an entry
            room=Room(self.settings.agents_at_once, [agent.name for agent in self.app.agents]),
        )

    @once
    def indexing(self) -> Indexing:
        return Indexing(self.new_indexer(self.index))

    def new_indexer(self, index: Index, former: Index | None = None) -> Indexer:
        """Of one generation; `former`: the one whose vectors it may use."""
        history = duration(self.settings.index_history)
        types = self.app.document_types
        return Indexer(index, self.embedder, types, clock=self.clock, history_us=history, former=former, cache=self.vectors)

    @once
    def vectors(self) -> VectorCache:
        """Of texts by their hash, for the index and for the rules that ask for meaning."""
        return VectorCache()

    @once
    def weigher(self) -> Weigher:
        weigher = Weigher(lambda: Meaning(self.embedder, self.vectors), self.stops["detect"])
        self._open.append(weigher.close)
        return weigher

    @once
    def telemetry(self) -> Telemetry | None:
        """Who is told of spans, if the settings name a collector. Raises Misused."""
        telemetry = telemetry_of(self.settings, self.app.name, self.id, self.clock, self.meter)
        if telemetry is not None:
            self._open.append(telemetry.close)
        return telemetry

    @once
    def openlineage(self) -> Catalogue | None:
        """Who is told of flows and what they read and write, if the settings name a catalogue."""
        if not self.settings.openlineage_url:
            return None
        catalogue = catalogue_of(self.settings, self.app.name, self.id, self.kafka.address, self.home, self.clock, lambda: self.writer)
        self._open.append(catalogue.close)
        return catalogue

    def heard(self, flow: str) -> Told | None:
        """Who hears of the records of a flow that is about to start; None: nobody."""
        catalogue, telemetry = self.openlineage, self.telemetry if flow in ("detect", "decide") else None
        told: list[Told] = [] if telemetry is None else [telemetry.told]
        if catalogue is not None:
            told.append(catalogue.begun(flow, reads_of(flow, self.app.indexed, self.app.watched)))
        return together(told)

    @once
    def ladder(self) -> Ladder:
        return Ladder(delays_of(self.settings.retry_delays), duration(self.settings.retry_expires), self.id)

    @once
    def rungs(self) -> dict[str, int]:
        """The topics of the retry ladder: those of the settings, and those that an earlier run with more of them left."""
        many = len(self.ladder.delays)
        while self.kafka.partitions(f"{RETRY}{many + 1}"):
            many += 1
        return {f"{RETRY}{rung}": 1 for rung in range(1, many + 1)}

    def save_progress(self) -> None:
        """Store progress now. A store that refuses is told of; it will hear of it with the next save."""
        try:
            self.index.save_progress(self.progress.rows())
        except Unavailable as error:
            _log.warning("progress not stored; trying again", error=str(error))

    def source(self, flow: str, topics: Mapping[str, Any], *, beside: int = 0, **options: Any) -> TopicSource:
        """A source over whole topics, or (`^…`) patterns of topics, stopped with its flow; `beside`: how many others the flow has."""
        declared = {**self.app.partitions, **self.rungs} if any(map(rung_of, topics)) else self.app.partitions
        if options.setdefault("slots", self.slots.get(flow, SLOTS)) is not None and "watch" not in options:
            options["watch"] = self._watch(topics)
        whole = flow.partition("/")[0]
        return TopicSource(
            self.kafka,
            self.broker,
            {name: 0 if name.startswith(PATTERN) else declared[name] for name in topics},
            group=group_of(self.app.name, flow),
            stop=self.stops[whole],
            company=self._company(whole, beside),
            failed=partial(self.fail, flow),
            **options,
        )

    def _company(self, flow: str, beside: int) -> Company | None:
        """Whom a source ends its epochs with; None: it is alone."""
        if flow == "audit" or not (beside or self.workers > 1):
            return None
        return self._companies.setdefault(flow, Company(self.epoch, far=self.processes > 1))

    def _watch(self, topics: Iterable[str]) -> Partitions:
        """Who follows the partitions of these topics: the application's own are followed once; patterns reach beyond them."""
        if not any(name.startswith(PATTERN) for name in topics):
            return self.partitions
        partitions = Partitions(self.kafka, dict.fromkeys(topics, 0)).start()
        self._open.append(partitions.close)
        return partitions

    def progress_at_end(self, topic: str, partition: int, offset: int, age: float) -> None:
        """What was appended since the broker was asked is on its way: the end is that of `age` seconds ago."""
        self.progress.at_end(topic, partition, self.clock() - round(age * 1e6), offset)

    def prepare(self) -> None:
        """Make the topics that are missing, learn how many partitions there are, and fill the tables. Raises Misused, Unavailable."""
        told = topic_of(self.settings)
        more = {**self.rungs, **({told: 1} if told else {})}
        prepare_topics(self.app, self.kafka, self.clock(), registry_of(self.settings), more)
        _ = self.partitions
        _ = self.tables
        _ = self.stretches

    def keep_progress(self) -> None:
        """Write progress into the index's store, when it changed and as a heartbeat, until this runtime closes; and then once more.

        A store that refuses is tried again: readers see their answers grow stale meanwhile, as they are.
        """
        index = self.index  # opened before its keeper is, so that it is closed after it
        self._open.append(keep_progress(index, self.progress, often=bool(self.settings.qdrant_url)))

    def keep_heads(self) -> None:
        """Sign the chain's head every few seconds, until this runtime closes; and then once more. Raises Misused for a key that is none."""
        store, tell = self.store, to_topic(self.writer)  # opened before their keeper is, so that they are closed after it
        self._open.append(keep_heads(store, Heads(self.home, clock=self.clock, given=self.settings.heads_private_key, told=tell)))
        self._open.append(keep_policy(store, self.settings, self.clock))

    def closing(self, close: Callable[[], None]) -> None:
        """Have something closed with this runtime."""
        self._open.append(close)

    def close(self) -> None:
        """Let go of everything, last opened first."""
        while self._open:
            try:
                self._open.pop()()
            except Exception as error:
                _log.warning("not closed cleanly", error=str(error))
