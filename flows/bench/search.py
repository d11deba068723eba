"""search: top ten of real texts through REST while documents are written, against the same query asked of the idle engine itself."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater.enrichers import sparse
from headwater.enrichers.condition import scope_of
from headwater.enrichers.document import Document, DocumentType, Field, document, point_id
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.embed import Embedder, minilm
from headwater.enrichers.engine import Found, Half, Index, Scope, Vector
from headwater.enrichers.index import Indexer
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.sparse import Sparse
from headwater.flows.app import App
from headwater.flows.bench import asker, flown
from headwater.flows.bench.bed import Bed, Spoiled, demand, now
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing, outgoing
from headwater.flows.up import Up
from headwater.flows.walk import INDEX_BATCH
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

POINTS = 100_000
SPARE = 4_000
"""Texts beyond the points, which the writer says instead of what stood there."""
RATE = 500
QUERIES = 400
FILTERED = 5
"""Of so many queries one has a filter."""
TOP = 10
RECALL, IDLE, MEDIAN, MEDIAN_IDLE, COUNT, WRITTEN = (
    "recall@10", "p99 idle, ms", "median, ms", "reference median, ms", "points", "upserts/s settled"
)  # fmt: skip


class Said(msgspec.Struct, frozen=True):
    """What an event says a document is."""

    id: str
    text: str
    fields: dict[str, Field]


SAYINGS: Topic[Said] = Topic("bench-sayings", Said, key="id", partitions=2)


@document(SAYINGS)
def saying(said: Said, facts: Mapping[str, Any]) -> Document:
    """The document as it was said to be."""
    return Document(said.id, said.text, said.fields)


class Known:
    """Vectors made beforehand; what nobody foresaw is asked of the model."""

    def __init__(self, model: Embedder, texts: Sequence[str], vectors: Vector) -> None:
        self.name, self.size = model.name, model.size
        self._model = model
        self._row = dict(zip(texts, vectors, strict=True))

    def embed(self, texts: Sequence[str]) -> Vector:
        rows = [self._row.get(text) for text in texts]
        found: Vector = np.array([self._model.embed([text])[0] if row is None else row for text, row in zip(texts, rows, strict=True)])
        return found


class Exact:
    """An index whose nearest points are found by comparing with every vector: what the engine's answer is held against."""

    def __init__(self, index: Index, said: Sequence[Document], vectors: Vector) -> None:
        self._index, self._said, self._vectors = index, said, vectors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def find(self, halves: Sequence[Half], scope: Scope) -> list[list[Found]]:
        words = iter(self._index.find([half for half in halves if isinstance(half.by, Sparse)], scope))
        return [next(words) if isinstance(half.by, Sparse) else self._nearest(half.by, scope, half.limit) for half in halves]

    def _nearest(self, vector: Vector, scope: Scope, limit: int) -> list[Found]:
        scores: NDArray[np.float32] = self._vectors @ vector
        if scope.tags:
            wanted = {tag for group in scope.tags for tag in group}
            scores[[f'origin="{each.fields["origin"]}"' not in wanted for each in self._said]] = -2
        best = np.argsort(-scores, kind="stable")[:limit]
        return [Found(float(scores[n]), OnlyChunk(self._said[n].id)) for n in best if scores[n] > -2]


class OnlyChunk(NamedTuple):
    """The only chunk of a document's first version."""

    document: str

    @property
    def id(self) -> str:
        return point_id(f"{saying.name}/{self.document}", 1, self.document, 0)


class Ground:
    """Documents with their vectors, queries, and a running application over them."""

    def __init__(self, bed: Bed) -> None:
        self.count = bed.points or bed.many(POINTS, least=200)
        found = flown.documents(self.count + max(20, bed.many(SPARE)))
        self.said, self.spare = found[: self.count], found[self.count :]
        self.queries = _queries(self.said, max(20, bed.many(QUERIES)))
        texts = [each.text for each in found]
        asked = [query["text"] for query in self.queries]
        model = minilm()
        folder = flown.cache() if bed.scale == 1 else bed.folder / "vectors"
        self.vectors = flown.vectors(texts, model, folder)
        self.embedder = Known(model, [*texts, *asked], np.concatenate([self.vectors, flown.vectors(asked, model, folder)]))
        self.settings = Settings(home=bed.home(), http_port=0)
        self._fill()

    def _fill(self) -> None:
        index = EdgeIndex(self.settings.home / "index", self.embedder.size)
        kind = DocumentType(saying.name, SAYINGS, saying.function)
        indexer = Indexer(index, self.embedder, [kind], clock=now)
        for start in range(0, self.count, 4 * INDEX_BATCH):
            batch = self.said[start : start + 4 * INDEX_BATCH]
            indexer.index([_received(each, start + n) for n, each in enumerate(batch)])
        demand(index.count().chunks, self.count, "points in the index")
        index.close()

    def recall(self, up: Up) -> float:
        """Of the ten best by exact comparison, the share that the application's own answers hold."""
        run = up.run
        exact = Retriever(Exact(run.index, self.said, self.vectors[: self.count]), self.embedder, run.progress)
        shares = []
        for query in self.queries[:: max(1, len(self.queries) // 100)]:
            best, found = ({hit.id for hit in each.search(**query).results} for each in (exact, run.retriever))
            shares.append(len(best & found) / max(1, len(best)))
        return float(np.mean(shares))

    def direct(self, index: Index) -> list[float]:
        """Milliseconds of both halves of each query, asked of the engine itself, which has nothing else to do."""
        took = []
        for query in self.queries:
            vector, scope = self.embedder.embed([query["text"]])[0], scope_of(query["where"], None, None)
            start = time.perf_counter()
            index.find([Half(vector, TOP), Half(sparse.of_query(query["text"]), TOP)], scope)
            took.append((time.perf_counter() - start) * 1000)
        return took

    def asked(self, address: str) -> list[float]:
        """Milliseconds of each query through REST, asked one after the other by a process of its own. Raises Spoiled."""
        given = msgspec.json.encode({"address": address, "queries": self.queries})
        done = subprocess.run([sys.executable, asker.__file__], input=given, capture_output=True, check=False, timeout=600)
        if done.returncode:
            raise Spoiled(f"a query through REST failed: {done.stderr.decode()[-300:]}")
        return msgspec.json.decode(done.stdout, type=list[float])


class Writer:
    """Says documents anew, so many a second, until it is told to stop."""

    def __init__(self, up: Up, ground: Ground) -> None:
        self._up, self._ground = up, ground
        self._producer = up.run.kafka.producer()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-writer", daemon=True)
        self._pick = random.Random(1)  # noqa: S311  (a seed, not a secret)
        self._last: dict[int, Position] = {}
        self.sent = 0

    def __enter__(self) -> "Writer":
        self._start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(30)

    def settled(self) -> float:
        """Documents a second, from the first sent to the last settled. Raises Spoiled if they were fewer than they had to be."""
        took = time.perf_counter() - self._start
        if self.sent < 0.9 * RATE * took:
            raise Spoiled(f"the writer made only {self.sent / took:.0f} of {RATE} documents/s: the machine is too busy")
        self._up.run.progress.wait(list(self._last.values()), 120)
        return self.sent / (time.perf_counter() - self._start)

    def _run(self) -> None:
        while not self._stop.is_set():
            due = int((time.perf_counter() - self._start) * RATE) + 1
            for _ in range(due - self.sent):
                self._send()
            self._producer.poll(0)
            time.sleep(0.004)

    def _send(self) -> None:
        said, instead = self._pick.choice(self._ground.said), self._pick.choice(self._ground.spare)
        message = _message(Said(said.id, instead.text, dict(said.fields)), f"again-{now()}-{self.sent}")
        self._producer.produce(message.topic, message.value, message.key, headers=message.headers, on_delivery=self._delivered)
        self.sent += 1

    def _delivered(self, error: Any, at: Any) -> None:
        if error is None:
            self._last[at.partition()] = Position(self._up.run.broker, at.topic(), at.partition(), at.offset())


def rounds(bed: Bed) -> Iterator[Round]:
    """The 99th of a hundred, in milliseconds, of both ways; recall where nothing is written, for a moving answer has no exact one."""
    ground = Ground(bed)
    app = App("bench", documents=[saying], root=bed.folder)
    with Up(app, ground.settings, flows=("index", "audit"), embedder=ground.embedder) as up:
        recall = ground.recall(up)
        while True:
            idle, reference = ground.asked(up.address), ground.direct(up.run.index)
            with Writer(up, ground) as writer:
                found = ground.asked(up.address)
            settled = writer.settled()
            if up.failure is not None:
                raise Spoiled(f"flow {up.failure[0]} failed: {up.failure[1]!r}")
            yield Round(_p(99, found), _p(99, reference), {
                RECALL: recall, IDLE: _p(99, idle), MEDIAN: _p(50, found), MEDIAN_IDLE: _p(50, reference),
                COUNT: float(ground.count), WRITTEN: settled,
            })  # fmt: skip


def _p(share: float, figures: Sequence[float]) -> float:
    return float(np.percentile(figures, share))


def _queries(said: Sequence[Document], many: int) -> list[dict[str, Any]]:
    """Some words out of one text each, every fifth with the airport to look at."""
    pick = random.Random(7)  # noqa: S311  (a seed, not a secret)
    queries = []
    for number in range(many):
        one = pick.choice(said)
        words = one.text.replace(",", " ").split()
        first = pick.randrange(max(1, len(words) - 9))
        where = {"origin": one.fields["origin"]} if number % FILTERED == 0 else {}
        queries.append({"text": " ".join(words[first : first + 9]), "limit": TOP, "where": where})
    return queries


def _received(said: Document, offset: int) -> Received:
    event = Event(id=said.id, source="bench", type=SAYINGS.name, time=1)
    return Received(Position("bench", SAYINGS.name, 0, offset), event, Said(said.id, said.text, dict(said.fields)), 0)


def _message(said: Said, id: str) -> Outgoing:
    event = Event(id=id, source="bench", type=SAYINGS.name, time=now(), data=SAYINGS.encode(said))
    return outgoing(SAYINGS.name, event, SAYINGS.key_of(said))


BENCH = Bench(
    "search",
    f"top-{TOP} hybrid of real texts (MiniLM's vectors, made once and kept) through REST, p99, a fifth filtered, "
    f"while {RATE} documents/s are written",
    "ms",
    (Target("≤", 3), Target("≥", 0.95, RECALL)),
    rounds,
    "both halves of the same query on the engine itself, idle, p99",
)
