"""`headwater index rebuild`: the index made anew from the topics, beside the one that answers, which it then replaces without a gap.

While it runs, the flow indexes into both. What it has read is remembered in the new one: after a kill it goes on from there.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from headwater.enrichers import fingerprint as prints
from headwater.enrichers.carry import remnants
from headwater.enrichers.engine import Index
from headwater.enrichers.fingerprint import Fingerprint
from headwater.enrichers.index import Indexer
from headwater.flows.deadletter import dead_letter_id
from headwater.flows.drain import oldest_of
from headwater.flows.reread import PIECE, dead_letters, reread, told_of
from headwater.flows.runtime import Runtime
from headwater.lineage.errors import Conflict, HeadwaterError, Retryable, Unavailable
from headwater.lineage.event import Position

KEPT = "rebuild"
REFUSED_KEPT = 10_000
"""Refused events that are remembered; with more than these the application is at fault, and there is nothing to compare them with."""

Place = tuple[str, int]


class Begun(msgspec.Struct):
    """How far a rebuild has come, as it lies in the index it fills: `topic/partition` → next offset. Of what it was begun for."""

    broker: str
    fingerprint: Fingerprint
    read: dict[str, int] = {}


class Step(NamedTuple):
    """How far it is: so many of so many, and of what."""

    done: int
    of: int
    what: str


class Rebuilt(msgspec.Struct, frozen=True):
    """What was done: events read again, document versions taken over from the former index, documents there now."""

    events: int
    carried: int
    documents: int
    refused: int


class Plan(msgspec.Struct, frozen=True):
    """What a rebuild would do. `resumes`: it would go on with one that was begun; `events`: to be read of the topics."""

    changes: dict[str, str]
    documents: dict[str, int]
    events: int
    resumes: bool


class Rebuild:
    """Rebuilds the index of a runtime, one at a time."""

    def __init__(self, run: Runtime) -> None:
        self._run = run
        self._busy = threading.Lock()
        self.stopped = threading.Event()

    @property
    def running(self) -> bool:
        return self._busy.locked()

    def plan(self) -> Plan:
        """Changes nothing. Raises Unavailable."""
        run = self._run
        stored = prints.stored(run.index)
        changes = run.fingerprint.since(stored) if stored else {}
        documents = {kind.name: run.index.documents(kind.name) for kind in run.app.document_types}
        events = sum(max(0, until - low) for low, until in self.ranges().values())
        return Plan(changes, documents, events, not self.running and run.generations.begun())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing else that goes through the whole index, meanwhile. Raises Conflict."""
        if not self._busy.acquire(blocking=False):
            raise Conflict("a rebuild or a check of this index is under way; wait for it")
        try:
            yield
        finally:
            self._busy.release()

    def steps(self, accept_refused: bool = False) -> Generator[Step, None, Rebuilt]:
        """Rebuild, telling how far it is; ended between two steps, it can be gone on with.

        accept_refused  go on though events are refused that are not among the dead letters
        Raises Conflict if one is under way or events were refused, Unavailable.
        """
        with self.alone():
            run = self._run
            beside, begun = self._open()
            size = run.embedder.size
            try:
                indexer = run.new_indexer(beside, former=run.index if self._same_vectors() else None)
                run.indexing.begin(indexer)
                try:
                    rebuilt = yield from self._fill(indexer, beside, begun, accept_refused)
                    prints.keep(beside, run.fingerprint)
                    run.indexing.turn(lambda: self._turn(indexer, beside, size))
                except BaseException:
                    run.indexing.end()
                    raise
            except BaseException:
                if run.switch.index is not beside:
                    beside.close()
                raise
            run.generations.drop()
            return rebuilt

    def _same_vectors(self) -> bool:
        stored = prints.stored(self._run.index)
        return stored is None or stored.vectors == self._run.fingerprint.vectors

    def _open(self) -> tuple[Index, Begun]:
        """The index to fill: one that was begun for the same, or a new one."""
        run = self._run
        wanted = Begun(run.broker, run.fingerprint)
        if run.generations.begun():
            try:
                beside = run.generations.beside(run.embedder.size)
                value = beside.kept(KEPT)
                begun = None if value is None else msgspec.convert(value, Begun)
                if begun is not None and (begun.broker, begun.fingerprint) == (wanted.broker, wanted.fingerprint):
                    return beside, begun
                beside.close()
            except HeadwaterError as error:  # of another vector size, or cut short while it was made
                if isinstance(error, Retryable):
                    raise
            run.generations.drop()
        beside = run.generations.beside(run.embedder.size)
        beside.keep(KEPT, msgspec.to_builtins(wanted))
        return beside, wanted

    def ranges(self) -> dict[Place, tuple[int, int]]:
        """Of each partition: its oldest offset, and the one up to which the flow has indexed; all after it goes to both."""
        run, found = self._run, {}
        settled = run.progress.as_of()
        for topic in run.app.indexed:
            for partition in range(run.counts.get(topic, run.app.partitions[topic])):
                until = max(run.indexing.reached.get((topic, partition), 0), settled.get(f"{topic}/{partition}", 0))
                if until:
                    found[topic, partition] = oldest_of(run.kafka, topic, partition), until
        return found

    def _fill(self, indexer: Indexer, beside: Index, begun: Begun, accept_refused: bool) -> Generator[Step, None, Rebuilt]:
        ranges = self.ranges()
        whole = sum(until - low for low, until in ranges.values())
        refused: list[tuple[Position, HeadwaterError]] = []
        done = 0
        for (topic, partition), (low, until) in ranges.items():
            place = f"{topic}/{partition}"
            first = max(low, begun.read.get(place, 0))
            done += first - low
            yield Step(done, whole, place)
            for piece in reread(self._run, topic, partition, first, until):
                self.go_on()
                failures = indexer.index(piece.received).failures
                if late := [(one.position, error) for one, error in failures if isinstance(error, Retryable)]:
                    raise Unavailable(f"{told_of(late)}; ask again later, the rebuild goes on where it was")
                refused += [*piece.refused, *((one.position, error) for one, error in failures)]
                if not refused:  # what was refused is to be heard again by who goes on
                    begun.read[place] = piece.next
                    beside.keep(KEPT, msgspec.to_builtins(begun))
                done += piece.read
                yield Step(done, whole, place)
        carried = yield from self._carry(indexer, beside, ranges)
        unknown = self._unknown(refused)
        if unknown and not accept_refused:
            raise Conflict(
                f"{len(unknown)} events were refused that are no dead letters, such as {told_of(unknown)}; the former index goes on "
                "answering. Mend the application, or leave them out with --accept-refused"
            )
        return Rebuilt(done, carried, beside.count().documents, len(unknown))

    def _carry(self, indexer: Indexer, beside: Index, ranges: dict[Place, tuple[int, int]]) -> Generator[Step, None, int]:
        """What the topics no longer tell is taken over, of the document types that are still declared."""
        kinds = self._run.fingerprint.kinds
        cursor, carried, seen, all_of_them = None, 0, 0, self._run.index.count().documents
        while True:
            heads, cursor = self._run.index.heads_from(cursor, PIECE)
            self.go_on()
            known = [head for head in heads if head.type in kinds]
            rebuilt = beside.heads([head.document for head in known])
            said = remnants(self._run.index, known, rebuilt, lambda position: _within(position, self._run.broker, ranges))
            indexer.carry(said)
            carried, seen = carried + len(said), seen + len(heads)
            yield Step(seen, max(seen, all_of_them), "documents")
            if cursor is None:
                return carried

    def _unknown(self, refused: list[tuple[Position, HeadwaterError]]) -> list[tuple[Position, HeadwaterError]]:
        """Those that did not end as dead letters when they came."""
        if not refused or len(refused) > REFUSED_KEPT:
            return refused
        dead = dead_letters(self._run)
        return [(position, error) for position, error in refused if dead_letter_id(position) not in dead]

    def go_on(self) -> None:
        """Raises Unavailable if the process is stopping, or the index beside has missed something."""
        self._run.indexing.check()
        if self.stopped.is_set():
            raise Unavailable("this headwater is stopping; ask again later: a rebuild goes on where it was")

    def _turn(self, indexer: Indexer, beside: Index, size: int) -> None:
        """Nobody writes now. The new index gets the progress; then it answers, also after a kill; then the readers turn to it."""
        run = self._run

        def last(former: Index) -> None:
            beside.save_progress(former.load_progress())
            run.generations.turn(size)

        former = run.switch.turn(beside, last)
        indexer.vectors.former = None
        former.close()
        run.save_progress()


def _within(position: Position, broker: str, ranges: dict[Place, tuple[int, int]]) -> bool:
    low, until = ranges.get((position.topic, position.partition), (0, 0))
    return position.broker == broker and low <= position.offset < until


def outcome(steps: Generator[Any, None, Any], told: Callable[[Any], None] = lambda step: None) -> Any:
    """The end of steps; each is told."""
    while True:
        try:
            told(next(steps))
        except StopIteration as end:
            return end.value
