"""The points of the walk at which a process is killed or stopped, and the hooks that reach them. The product knows nothing of it.

A plan is a list of `(point, n, how)`: the first is armed from the start, each other once the one before has happened. When its point
is passed for the n-th time since, the process sends itself SIGKILL (`kill`) or SIGSTOP (`stop`), with all its threads wherever they are.
"""

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import confluent_kafka

import headwater.agents.decider as decider
import headwater.flows.deciding as deciding
import headwater.flows.detecting as detecting
import headwater.flows.kafka as kafka
import headwater.flows.walk as walk
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.index import Indexer
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.journal import KafkaJournal
from headwater.flows.runtime import Runtime
from headwater.lineage.store import Store
from headwater.lineage.topic import ACTIVATIONS, DEAD, LINEAGE

POINTS = {
    "index: consumed": "a batch was read and reported to no one",
    "index: decoded": "its events have their models",
    "index: enriched": "and their facts",
    "index: read": "the heads of its documents are known",
    "index: embedded": "the new chunks have vectors",
    "index: put": "the new chunks lie in the index, no reader counts them",
    "index: flip": "the heads name the new versions",
    "index: reread": "the heads were read again",
    "index: supersede": "what was superseded is marked",
    "index: delete": "what left the history is removed",
    "index: upserted": "outcomes are known here, and to no one else",
    "index: snapshot": "the source is about to say how far it is",
    "index: progress": "progress is stored beside the points",
    "dead: sent": "a dead letter is with the client, unacknowledged",
    "dead: acknowledged": "the broker has a dead letter, we do not know it yet",
    "detect: consumed": "a batch was read and reported to no one",
    "detect: decoded": "its events have their models",
    "detect: enriched": "and their facts",
    "detect: signalled": "the rules' expressions were evaluated",
    "detect: ruled": "the rules have looked, what fired is nowhere else",
    "detect: snapshot": "the source is about to say how far it is",
    "detect: remembered": "the rules are about to give their state",
    "activations: sent": "an activation is with the client, unacknowledged",
    "activations: acknowledged": "the broker has an activation, we do not know it yet",
    "decide: consumed": "activations were read",
    "decide: woken": "and are on their way to their deciders",
    "decide: submitted": "and in flight",
    "decide: decided": "an agent has chosen, nothing is written",
    "decide: appended": "the decision is committed, no effect is sent",
    "decide: performed": "effects and `done` are committed",
    "decide: snapshot": "the source is about to say how far it is",
    "decide: remembered": "a decider is about to give what is in flight",
    "journal: fenced": "the former owner is fenced, its decisions are not read back yet",
    "journal: written": "a transaction is filled and open",
    "journal: committed": "a transaction is committed, its callers do not know it yet",
    "lineage: sent": "records are with the client, unacknowledged",
    "lineage: acknowledged": "the broker has records, we do not know it yet",
    "audit: consumed": "records were read",
    "audit: appended": "they are in an open transaction of the database",
    "audit: landed": "and committed with their offsets",
}
"""Point → what is true there."""

SELDOM = ("index: delete", "dead", "activations", "decide", "journal")
"""Points, and beginnings of points, that a few dozen events pass a few times only."""


class Step(NamedTuple):
    """One disturbance."""

    point: str
    n: int
    how: str


class Passing:
    """Counts what is passed, and does what is planned. `told` is a file that gets a line at once for each new point and disturbance.

    points   those that there are;  leaving  gives what else is to be told with a disturbance
    """

    def __init__(self, plan: Sequence[Step], told: Path, points: Collection[str] = POINTS) -> None:
        self._plan, self._points = list(plan), points
        self._left = self._plan[0].n if self._plan else 0
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self.leaving: Callable[[], Iterable[str]] = tuple
        self._told = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, point: str) -> None:
        with self._lock:
            if point not in self._seen:
                assert point in self._points, point
                self._seen.add(point)
                self.tell(point)
            if not self._plan or self._plan[0].point != point:
                return
            self._left -= 1
            if self._left:
                return
            step = self._plan.pop(0)
            self._left = self._plan[0].n if self._plan else 0
            for line in (f"{step.how} at {point}", *self.leaving()):
                self.tell(line)
            # To this thread: what is sent to the process may reach another one first, and this one would run on past its point.
            signal.pthread_kill(threading.get_ident(), signal.SIGKILL if step.how == "kill" else signal.SIGSTOP)

    def tell(self, line: str) -> None:
        os.write(self._told, f"{line}\n".encode())


def install(passing: Callable[[str], None]) -> HashEmbedder:
    """Hook every point of this process; gives the embedder to be used."""
    building = [""]
    name_flows(building)
    walk.decode_step = _factory(walk.decode_step, passing, building, "consumed", "decoded")
    walk.enrich_step = _factory(walk.enrich_step, passing, building, "", "enriched")
    walk.signal_step = _factory(walk.signal_step, passing, building, "", "signalled")
    walk.wake_step = _factory(walk.wake_step, passing, building, "consumed", "woken")
    after(walk.UpsertStep, "__call__", passing, "index: upserted")
    hook_source(passing, building)
    _hook_indexer(passing)
    after(detecting.DetectLogic, "on_batch", passing, "detect: ruled")
    before(detecting.DetectLogic, "snapshot", passing, "detect: remembered")
    after(deciding.DecideLogic, "on_batch", passing, "decide: submitted")
    before(deciding.DecideLogic, "snapshot", passing, "decide: remembered")
    after_async(decider, "decide", passing, "decide: decided")
    after_async(KafkaJournal, "append", passing, "decide: appended")
    after_async(KafkaJournal, "perform", passing, "decide: performed")
    before(Store, "_ready", passing, "audit: consumed")
    after(Store, "_commit", passing, "audit: landed")
    after(Store, "_write", passing, "audit: appended")
    after(EdgeIndex, "save_progress", passing, "index: progress")
    kafka.Producer = producer(passing)  # type: ignore[misc]
    return _Embedder(passing)


def name_flows(building: list[str]) -> None:
    """While a flow is wired, what is made belongs to it."""

    def named(name: str, build: Any) -> Any:
        def wired(run: Any) -> Any:
            building[0] = name
            return build(run)

        return wired

    for name, build in list(walk.FLOWS.items()):
        walk.FLOWS[name] = named(name, build)


def _factory(factory: Any, passing: Any, building: list[str], before: str, after: str) -> Any:
    """Steps made by a factory pass a point before and after each batch."""

    def make(*args: Any, **options: Any) -> Any:
        flow, step = building[0], factory(*args, **options)

        def stepping(batch: Any) -> Any:
            if before:
                passing(f"{flow}: {before}")
            result = step(batch)
            passing(f"{flow}: {after}")
            return result

        return stepping

    return make


def before(owner: Any, name: str, passing: Any, point: str) -> None:
    inner = getattr(owner, name)

    def hooked(*args: Any, **options: Any) -> Any:
        passing(point)
        return inner(*args, **options)

    setattr(owner, name, hooked)


def after(owner: Any, name: str, passing: Any, point: str) -> None:
    inner = getattr(owner, name)

    def hooked(*args: Any, **options: Any) -> Any:
        result = inner(*args, **options)
        passing(point)
        return result

    setattr(owner, name, hooked)


def after_async(owner: Any, name: str, passing: Any, point: str) -> None:
    inner = getattr(owner, name)

    async def hooked(*args: Any, **options: Any) -> Any:
        result = await inner(*args, **options)
        passing(point)
        return result

    setattr(owner, name, hooked)


def hook_source(passing: Any, building: list[str]) -> None:
    """Every part of a source passes `snapshot` when the engine asks it how far it is; `audit` is asked by nobody."""
    make = Runtime.source

    def source(*args: Any, **options: Any) -> Any:
        flow, made = building[0], make(*args, **options)
        build = made.build_part

        def build_part(*args: Any, **options: Any) -> Any:
            part = build(*args, **options)
            if flow != "audit":
                before(part, "snapshot", passing, f"{flow}: snapshot")
            return part

        made.build_part = build_part
        return made

    Runtime.source = source  # type: ignore[method-assign]


def _hook_indexer(passing: Any) -> None:
    inner = Indexer.steps

    def steps(self: Any, received: Any) -> Any:
        running = inner(self, received)
        while True:
            try:
                name = next(running)
            except StopIteration as end:
                return end.value
            passing(f"index: {name}")
            yield name

    Indexer.steps = steps  # type: ignore[method-assign]


class _Embedder(HashEmbedder):
    def __init__(self, passing: Any) -> None:
        super().__init__()
        self._passing = passing

    def embed(self, texts: Sequence[str]) -> Any:
        vectors = super().embed(texts)
        self.embedded.clear()
        if any("gauge" in text for text in texts):  # not the one that loads the model
            self._passing("index: embedded")
        return vectors


def producer(passing: Any) -> Any:
    """The client's producer: a message is sent when it is with the client, acknowledged when the client says so, before we hear it."""
    names = {DEAD: "dead", ACTIVATIONS: "activations", LINEAGE: "lineage"}

    class Producer(confluent_kafka.Producer):  # type: ignore[misc]
        def produce(self, topic: str, *args: Any, **options: Any) -> None:
            name, told = names.get(topic), options.get("on_delivery")
            if name and told:

                def delivered(error: Any, message: Any) -> None:
                    if error is None:
                        passing(f"{name}: acknowledged")
                    told(error, message)

                options["on_delivery"] = delivered
            super().produce(topic, *args, **options)
            if name:
                passing(f"{name}: sent")

        def init_transactions(self, *args: Any) -> None:
            super().init_transactions(*args)
            passing("journal: fenced")

        def commit_transaction(self, *args: Any) -> None:
            passing("journal: written")
            super().commit_transaction(*args)
            passing("journal: committed")

    return Producer
