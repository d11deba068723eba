"""Stale answers: facts change without a pause, and readers ask for the one that they know was changed last."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from headwater.enrichers.document import Document, document
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import App
from headwater.flows.bench.bed import Bed, Spoiled, now
from headwater.flows.settings import Settings
from headwater.flows.sink import Writer, outgoing
from headwater.flows.up import Up
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

FACTS = 50


class Fact(msgspec.Struct, frozen=True):
    """What is true of one thing, the `value`-th time."""

    name: str
    value: int


TOPIC: Topic[Fact] = Topic("bench-facts", Fact, key="name", partitions=2)


@document(TOPIC, version="value")
def known(fact: Fact, facts: Mapping[str, Any]) -> Document:
    """The fact as it stands."""
    return Document(fact.name, f"{fact.name} now reads {fact.value}", {"name": fact.name, "value": fact.value})


class Changing:
    """A thread that changes one fact after another, each as soon as the last one is acknowledged."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-facts", daemon=True)
        self.newest = self._change(0)
        """The fact whose change was acknowledged last, its value, and the token."""
        self.failure: Exception | None = None
        """Why facts change no more: every answer would be right then."""

    def __enter__(self) -> "Changing":
        self._thread.start()
        return self

    def __exit__(self, *told: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                number += 1
                self.newest = self._change(number)
        except Exception as error:
            self.failure = error

    def _change(self, number: int) -> tuple[str, int, Position]:
        name = f"fact-{number % FACTS}"
        said = Fact(name, number)
        event = Event(id=f"{name}/{number}", source="bench", type=TOPIC.name, time=now(), data=TOPIC.encode(said))
        [place] = self._writer.write([outgoing(TOPIC.name, event, name)])
        return name, number, place


@contextmanager
def facts(bed: Bed) -> Iterator[Up]:
    """A running headwater over the facts; a model is left out, for what it takes would only add to the age of answers."""
    app = App("bench-facts", documents=[known], root=bed.folder)
    with Up(app, Settings(home=bed.home(), http_port=0), flows=("index", "audit"), http=False, embedder=HashEmbedder()) as up:
        yield up


def stale(up: Up, asked: int) -> tuple[float, float]:
    """Of `asked` answers each, how many did not know the newest acknowledged value: with its token (a count), without (in per cent).

    Raises Spoiled if the facts stopped changing, or a flow failed."""
    counts = {True: 0, False: 0}
    with Changing(up.run.writer) as changing:
        for number in range(2 * asked):
            token = number % 2 == 0
            name, value, place = changing.newest
            answer = up.run.retriever.search(name, limit=1, where={"name": name}, after=[place] if token else [], wait_s=60)
            found = max((int(hit.fields["value"] or 0) for hit in answer.results), default=-1)
            counts[token] += found < value
    if changing.failure is not None:
        raise Spoiled(f"the facts stopped changing: {changing.failure!r}")
    if up.failure is not None:
        raise Spoiled(f"flow {up.failure[0]} failed: {up.failure[1]!r}")
    return counts[True], 100 * counts[False] / asked
