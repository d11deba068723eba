"""index: received events → documents → chunks → vectors → the index, so that no reader ever sees a regress or half a document.

The order of the writes is the whole trick (law 3): read the heads; put the new chunk points, which no reader counts yet; flip the
heads, each only if nobody else did since; then mark and remove what was superseded. After a kill between any two steps the events
come again, and every step may be done again.
"""

import collections
import itertools
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from headwater.enrichers import sparse
from headwater.enrichers.document import DocumentType, unique
from headwater.enrichers.embed import Embedder, VectorCache
from headwater.enrichers.engine import Embedded, Point, Vector
from headwater.enrichers.engine import Index as Index
from headwater.enrichers.head import Change, Entry, Fold, Head, fold, points_of
from headwater.enrichers.said import Said, change_of, measure_of
from headwater.enrichers.vectors import SLICE, Vectors
from headwater.lineage.decode import Received
from headwater.lineage.errors import HeadwaterError, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.record import GRAVEST, Record, fact

HISTORY_US = 24 * 3_600_000_000
ATTEMPTS = 100
"""How often a writer meets another one on the same documents before it gives up. Each time the other one got on."""


SWEPT_KEPT = 20_000
"""Documents of which an indexer knows that what left their history is removed. Of others their heads go on telling what is to be."""


@dataclass
class Indexed:
    """What became of a batch: one outcome per position in the order received, except for those in `failures`."""

    outcomes: list[tuple[Position, str]] = field(default_factory=list)
    failures: list[tuple[Received, HeadwaterError]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


@dataclass
class Work:
    """A batch on its way into the index.

    said         document → what the events say about it, in turn
    base, heads  the heads as first read, as last read
    outcomes     document → how each change ended
    put          versions whose points this writer has put
    replayed     documents of which an event came again: their sweep may have been cut short by a kill
    """

    received: Sequence[Received]
    said: dict[str, list[Said]] = field(default_factory=dict)
    failures: dict[Position, tuple[Received, HeadwaterError]] = field(default_factory=dict)
    base: dict[str, Head] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)
    vectors: dict[str, Vector] = field(default_factory=dict)
    outcomes: dict[str, list[str]] = field(default_factory=dict)
    put: set[tuple[str, int, str]] = field(default_factory=set)
    replayed: set[str] = field(default_factory=set)

    def to_put(self, head: Head) -> list[Said]:
        """Those versions that a new head counts and whose points are not there yet, each once."""
        before = self.heads.get(head.document)
        kept = {entry.key for entry in head.entries} - ({entry.key for entry in before.entries} if before else set())
        new = {one.key: one for one in reversed(self.said[head.document]) if one.change.entry.key in kept}
        return [one for key, one in new.items() if key not in self.put][::-1]

    def note(self, document: str, folded: Fold) -> None:
        """How the changes ended. When they are folded anew after a lost flip, what this writer itself put is no replay."""
        before = self.outcomes.get(document, folded.outcomes)
        again = zip(before, folded.outcomes, self.said[document], strict=True)
        self.outcomes[document] = [old if new == "unchanged" and one.key in self.put else new for old, new, one in again]
        if folded.replayed:
            self.replayed.add(document)

    def drop(self, refused: Mapping[str, HeadwaterError]) -> None:
        """Take out the events with a refused text, whatever else they say."""
        for said in self.said.values():
            for one in said:
                for piece in one.change.chunks:
                    if piece.hash in refused:
                        self.failures[one.received.position] = (one.received, refused[piece.hash])
        for document, said in list(self.said.items()):
            kept = [one.received.position not in self.failures for one in said]
            self.said[document] = list(itertools.compress(said, kept))
            self.outcomes[document] = list(itertools.compress(self.outcomes.get(document, ()), kept))
            if not self.outcomes[document]:
                del self.outcomes[document]
            if not self.said[document]:
                del self.said[document]

    def removable(self, document: str) -> list[Entry]:
        """Entries that left the history, and those put in vain because another writer was faster."""
        head, base = self.heads[document], self.base.get(document)
        kept = {entry.key for entry in head.entries}
        put = [one.change.entry for one in self.said[document] if one.key in self.put]
        before = (*base.gone, *base.entries) if base else ()
        return [entry for entry in (*before, *head.gone, *put) if entry.key not in kept]


class Indexer:
    """Keeps an index up to date with events.

    types       the document types; several may look at one topic
    clock       wall clock in µs, for the times in records
    history_us  how far back in event time each document's superseded versions can be searched
    former      another index with vectors of the same model, from which those of unchanged texts are taken
    cache       of vectors by content hash, shared with others who embed with the same model; None: one of its own
    """

    def __init__(
        self, index: Index, embedder: Embedder, types: Sequence[DocumentType], *, clock: Callable[[], int], history_us: int = HISTORY_US,
        former: Index | None = None, cache: VectorCache | None = None,
    ) -> None:  # fmt: skip
        unique((kind.name for kind in types), "document types")
        self._index = index
        self._clock = clock
        self._history_us = history_us
        self.vectors = Vectors(index, embedder, former, cache)
        self._tokens = measure_of(embedder)
        self._swept: dict[str, int] = {}
        self._sweeping = threading.Lock()
        self._types: dict[str, list[DocumentType]] = collections.defaultdict(list)
        for kind in types:
            self._types[kind.topic.name].append(kind)

    def index(self, received: Sequence[Received]) -> Indexed:
        """Bring a batch into the index. Raises Unavailable if the engine does not answer; the batch may then be given again."""
        steps = self.steps(received)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: Indexed = end.value
                return result

    def steps(self, received: Sequence[Received]) -> Generator[str, None, Indexed]:
        """The same, halting after each step on the store and naming it, so that a test may interleave and kill writers."""
        work = Work(received)
        self._listen(work)
        if work.said:
            yield from self._write(work)
            yield from self._sweep(work)
        return self._report(work)

    def carry(self, said: Sequence[Said]) -> None:
        """Bring in what is known of documents from elsewhere than their events. Raises Unavailable, and what the embedder refuses."""
        work = Work(())
        for one in said:
            work.said.setdefault(one.change.document, []).append(one)
        for step in (self._write, self._sweep):
            collections.deque(step(work), maxlen=0)
        for _, error in work.failures.values():
            raise error

    def changes(self, received: Received) -> list[Change]:
        """What an event says about documents. Raises IndexFailed, DocumentUnavailable."""
        kinds = [kind for kind in self._types.get(received.position.topic, ()) if kind.wants(received.event)]
        return [change for kind in kinds if (change := change_of(kind, received, self._tokens))]

    def points_of(self, said: Said) -> list[Embedded]:
        """The chunk points of a version, embedded. Raises Unavailable, and what the embedder refuses."""
        vectors: dict[str, Vector] = {}
        for error in self.vectors.add(vectors, [said], {}).values():
            raise error
        return _points(said, vectors)

    def _listen(self, work: Work) -> None:
        """What each event says. An event of which one document function fails says nothing at all."""
        for one in work.received:
            if one.is_mark:
                continue
            try:
                changes = self.changes(one)
            except HeadwaterError as error:
                work.failures[one.position] = (one, error)
                continue
            for change in changes:
                work.said.setdefault(change.document, []).append(Said(one, change))

    def _write(self, work: Work) -> Generator[str, None, None]:
        """Read, put, flip and read again, until every document's head tells of its changes."""
        work.base = work.heads = self._index.heads(list(work.said))
        yield "read"
        pending = list(work.said)
        for _ in range(ATTEMPTS):
            folds = {document: self._fold(work, document) for document in pending}
            flips = [folded.head for document, folded in folds.items() if folded.head is not work.heads.get(document)]
            new = [one for head in flips for one in work.to_put(head)]
            if refused := self.vectors.add(work.vectors, new, work.heads):
                work.drop(refused)
                pending = [document for document in pending if document in work.said]
                continue
            for document, folded in folds.items():
                work.note(document, folded)
            work.put.update(one.key for one in new)
            points = (point for one in new for point in _points(one, work.vectors))
            while piece := list(itertools.islice(points, SLICE)):
                self._index.put(piece)
                yield "put"
            if flips:
                self._index.flip(flips)
                yield "flip"
                work.heads = work.heads | self._index.heads([head.document for head in flips])
                yield "reread"
            pending = [head.document for head in flips if not _landed(head, work.heads.get(head.document))]
            if not pending:
                return
        raise Unavailable(f"other writers kept changing {len(pending)} documents, such as {pending[0]}; give the batch again")

    def _fold(self, work: Work, document: str) -> Fold:
        head = work.heads.get(document)
        swept = head is not None and self._swept.get(document) == head.rev
        return fold(head, [one.change for one in work.said[document]], self._history_us, swept=swept)

    def _sweep(self, work: Work) -> Generator[str, None, None]:
        """Mark superseded points, then remove those that left the history."""
        superseded: dict[int, list[str]] = {}
        removed: list[str] = []
        swept_now: list[str] = []
        for document in work.said:
            head, base = work.heads[document], work.base.get(document)
            if head is base and document not in work.replayed:
                continue
            swept_now.append(document)
            swept = {} if base is None or document in work.replayed else _untils(base)
            for entry, until in _untils(head).items():
                if until is not None and swept.get(entry) != until:
                    superseded.setdefault(until, []).extend(entry.points(document))
            removed.extend(points_of(document, work.removable(document)))
        superseded = {until: ids for until, ids in superseded.items() if ids}
        if superseded:
            self._index.supersede(superseded)
            yield "supersede"
        if removed:
            self._index.delete(list(dict.fromkeys(removed)))
            yield "delete"
        self._note_swept(work, swept_now)

    def _note_swept(self, work: Work, documents: Sequence[str]) -> None:
        """Up to which revision of its head a document is known to be swept, of the documents last written."""
        with self._sweeping:
            for document in documents:
                self._swept.pop(document, None)
                self._swept[document] = work.heads[document].rev
            while len(self._swept) > SWEPT_KEPT:
                del self._swept[next(iter(self._swept))]

    def _report(self, work: Work) -> Indexed:
        settled = self._clock()
        ended: dict[Position, list[str]] = collections.defaultdict(list)
        records: list[Record] = []
        for document, said in work.said.items():
            for one, outcome in zip(said, work.outcomes[document], strict=True):
                ended[one.received.position].append(outcome)
                records.append(_record(one, outcome, work.heads.get(document), settled))
        outcomes = [(one.position, gravest(ended.get(one.position, ()))) for one in work.received if one.position not in work.failures]
        return Indexed(outcomes, list(work.failures.values()), records)


def gravest(outcomes: Sequence[str]) -> str:
    """The outcome of an event with several documents; `passed` if it has none."""
    return min(outcomes, key=GRAVEST.index, default="passed")


def _landed(ours: Head, stored: Head | None) -> bool:
    """Whether our flip went through, or another writer's that says the same."""
    if stored is None:
        return False
    return (stored.rev, stored.version, stored.event, stored.entries) == (ours.rev, ours.version, ours.event, ours.entries)


def _points(said: Said, vectors: Mapping[str, Vector]) -> list[Embedded]:
    change, position = said.change, str(said.received.position)
    return [
        Embedded(
            Point(
                document=change.document, type=change.type, version=change.version, event=change.event, time=change.time,
                n=piece.n, hash=piece.hash, text=piece.text, section=piece.section, position=position, fields=change.fields,
            ),
            vectors[piece.hash],
            sparse.of_document(piece.passage),
        )
        for piece in change.chunks
    ]  # fmt: skip


def _untils(head: Head) -> dict[Entry, int | None]:
    return dict(zip(head.entries, head.untils(), strict=True))


def _record(said: Said, outcome: str, head: Head | None, settled: int) -> Record:
    """What became of one document version, with its chunks as the index holds them: an unchanged one names those that were there."""
    change, received = said.change, said.received
    entries = head.entries if head else ()
    holder = next((entry for entry in reversed(entries) if entry.digest == change.digest and entry.order <= change.entry.order), None)
    ids = holder.points(change.document) if holder else []
    chunks = [
        {"n": piece.n, "id": id, "hash": piece.hash, "text": piece.text, "section": piece.section}
        for piece, id in zip(change.chunks, ids, strict=False)
    ]
    return fact(
        "document", "index", "upsert", change.document,
        logged=settled, parents=(str(received.position),), where=received.position, at=change.time, outcome=outcome,
        data={
            "type": change.type, "document": change.document, "version": change.version, "event": change.event, "fields": change.fields,
            "chunks": chunks, "appended": received.appended, "settled": settled, **({"reads": received.reads} if received.reads else {}),
        },
    )  # fmt: skip
