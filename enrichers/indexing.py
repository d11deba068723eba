"""Where received events are indexed: in the generation that answers and, while a rebuild is under way, in the one beside it as well.

Every batch that begins after the rebuild did goes to both; the rebuild itself reads what came before. So when it has read that, nothing
is missing in either, and the other may answer from the next moment on. The order in which the two meet an event does not matter (law 3).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from headwater.enrichers.index import Indexed, Indexer
from headwater.lineage.decode import Received
from headwater.lineage.errors import HeadwaterError, Unavailable

Place = tuple[str, int]


class Indexing:
    """The indexer of a process's flow. Threads may share it.

    reached  (topic, partition) → the offset after the last event that this process indexed
    """

    def __init__(self, indexer: Indexer) -> None:
        self.reached: dict[Place, int] = {}
        self._indexer = indexer
        self._beside: Indexer | None = None
        self._failure: HeadwaterError | None = None
        self._changed = threading.Condition()
        self._under_way = 0
        self._held = False

    def index(self, received: Sequence[Received]) -> Indexed:
        """Bring a batch into the index; what became of it is told of the generation that answers. Raises Unavailable."""
        with self._changed:
            while self._held:
                self._changed.wait()
            self._under_way += 1
            indexer, beside = self._indexer, self._beside
        try:
            indexed = indexer.index(received)
            if beside is not None and received:
                self._also(beside, received, indexed)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()
        with self._changed:
            for one in received:
                place = one.position.topic, one.position.partition
                self.reached[place] = max(self.reached.get(place, 0), one.position.offset + 1)
        return indexed

    def begin(self, beside: Indexer) -> None:
        """From now on batches go to this one as well. Returns once those that began before have ended."""
        with self._still():
            self._beside, self._failure = beside, None

    def end(self) -> None:
        """Only the one that answers gets them."""
        with self._still():
            self._beside = self._failure = None

    def check(self) -> None:
        """Raises what the one beside failed with; it has missed something since, and must not answer."""
        with self._changed:
            if self._failure is not None:
                raise self._failure

    def turn(self, turned: Callable[[], None]) -> None:
        """Let the one beside answer; `turned` is called when nothing is under way, and if it raises all stays as it was."""
        with self._still():
            self.check()
            assert self._beside is not None
            turned()
            self._indexer, self._beside = self._beside, None

    @contextmanager
    def held(self) -> Iterator[Indexer]:
        """The indexer that answers, with nobody else indexing meanwhile: for a moment only."""
        with self._still():
            yield self._indexer

    def _also(self, beside: Indexer, received: Sequence[Received], indexed: Indexed) -> None:
        """A rebuild that fails must not hold the flow: it ends, and the index that answers has it all."""
        known = {one.position for one, _ in indexed.failures}
        try:
            failures = beside.index([one for one in received if one.position not in known]).failures
            failure = failures[0][1] if failures else None
        except HeadwaterError as error:
            failure = error
        if failure is None:
            return
        with self._changed:
            if self._beside is not beside:
                return
            self._beside, self._failure = None, Unavailable(f"the index that is being rebuilt refused an event: {failure}; rebuild again")

    @contextmanager
    def _still(self) -> Iterator[None]:
        with self._changed:
            while self._held:
                self._changed.wait()
            self._held = True
            try:
                while self._under_way:
                    self._changed.wait()
            except BaseException:
                self._held = False
                raise
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()
