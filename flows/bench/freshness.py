"""freshness: from producing an event to finding its document, at a steady 500 documents a second."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from headwater.enrichers.engine import Vector
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import App
from headwater.flows.bench.bed import Bed, Spoiled, now
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.texts import NOTES, Note, note, text
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing, outgoing
from headwater.flows.up import Up
from headwater.lineage.event import Event, Position

RATE = 500
SECONDS = 8
EVERY = 10
"""Of so many documents one is looked for."""
SEARCHERS = 64
"""Readers, more than ever wait at once: each is independent of the others, so that none waits for another one's answer."""
SIZE = 384
P99 = "p99"


class Precomputed:
    """Vectors made before the clock starts; a query's is made when it comes."""

    name = "precomputed"
    size = SIZE

    def __init__(self) -> None:
        self._make = HashEmbedder(SIZE)
        self._known: dict[str, Vector] = {}

    def prepare(self, texts: Sequence[str]) -> None:
        self._known.update(zip(texts, self._make.embed(texts), strict=True))

    def embed(self, texts: Sequence[str]) -> Vector:
        known = [self._known.get(words) for words in texts]
        rows: Vector = np.array([self._make.embed([words])[0] if row is None else row for row, words in zip(known, texts, strict=True)])
        return rows


class Pace:
    """Sends event after event, each at its moment, whether or not the ones before were acknowledged, as independent senders do."""

    def __init__(self, up: Up, numbers: range, searchers: ThreadPoolExecutor) -> None:
        self._up, self._numbers, self._searchers = up, numbers, searchers
        self._producer = up.run.kafka.producer()
        self._looking: list[Future[float]] = []
        self._done = threading.Event()

    def run(self) -> list[float]:
        """Milliseconds from producing to retrieved, of each document that was looked for. Raises Spoiled."""
        messages = [_message(number) for number in self._numbers]
        self._connect(messages[0])
        polling = threading.Thread(target=self._poll, name="bench-acknowledged", daemon=True)
        polling.start()
        start = time.perf_counter()
        for n, (number, message) in enumerate(zip(self._numbers, messages, strict=True)):
            wait = start + n / RATE - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            self._send(number, message, look=n % EVERY == 0)
        took = time.perf_counter() - start
        self._producer.flush(10)
        self._done.set()
        polling.join()
        if took > 1.1 * len(messages) / RATE:
            raise Spoiled(f"the sender made only {len(messages) / took:.0f} of {RATE} documents/s: the machine is too busy")
        return [each.result(30) for each in self._looking]

    def _connect(self, message: Outgoing) -> None:
        """One that has sent before: a new sender gets its id after half a second, and what it was to send meanwhile comes at once."""
        self._producer.produce(message.topic, message.value, message.key, headers=message.headers)
        self._producer.flush(10)

    def _send(self, number: int, message: Outgoing, *, look: bool) -> None:
        sent = time.perf_counter()

        def delivered(error: Any, at: Any) -> None:
            if error is not None:
                refused: Future[float] = Future()
                refused.set_exception(Spoiled(f"the broker refused an event: {error.str()}"))
                self._looking.append(refused)
                return
            place = Position(self._up.run.broker, at.topic(), at.partition(), at.offset())
            self._looking.append(self._searchers.submit(self._look, number, place, sent))

        more: dict[str, Any] = {"on_delivery": delivered} if look else {}
        self._producer.produce(message.topic, message.value, message.key, headers=message.headers, **more)

    def _look(self, number: int, place: Position, sent: float) -> float:
        """Search for the document by its text, once the index says that its event is settled; it must be there."""
        answer = self._up.run.retriever.search(_text(number), limit=3, after=[place], wait_s=20)
        took = (time.perf_counter() - sent) * 1000
        if f"note/note-{number}" not in [hit.document for hit in answer.results]:
            raise Spoiled(f"note-{number} is settled at {place.short}, yet a search for it does not find it")
        return took

    def _poll(self) -> None:
        while not self._done.is_set():
            self._producer.poll(0.005)


def rounds(bed: Bed) -> Iterator[Round]:
    """Milliseconds: the median, and beside it the 99th of a hundred. Each round has an index of its own."""
    embedder = Precomputed()
    app = App("bench", documents=[note], root=bed.folder)
    numbers = range(max(EVERY, int(RATE * SECONDS * bed.scale)))
    embedder.prepare([_text(number) for number in numbers])
    while True:
        up = Up(app, Settings(home=bed.home(), http_port=0), flows=("index", "audit"), http=False, embedder=embedder)
        with up, ThreadPoolExecutor(SEARCHERS, "bench-search") as searchers:
            found = Pace(up, numbers, searchers).run()
            if up.failure is not None:
                raise Spoiled(f"flow {up.failure[0]} failed: {up.failure[1]!r}")
        yield Round(float(np.percentile(found, 50)), None, {P99: float(np.percentile(found, 99))})


def _text(number: int) -> str:
    return text(number, longest=4)


def _message(number: int) -> Outgoing:
    said = Note(f"note-{number}", _text(number))
    event = Event(id=f"event-{number}", source="bench", type=NOTES.name, time=now(), data=NOTES.encode(said))
    return outgoing(NOTES.name, event, NOTES.key_of(said))


BENCH = Bench(
    "freshness",
    f"produce → retrievable, median, at {RATE} documents/s, vectors made beforehand",
    "ms",
    (Target("<", 50, "value", "ms"), Target("<", 250, P99, "ms")),
    rounds,
)
