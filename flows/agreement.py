"""Workers and processes of `detect` change their rules at one place in the stream, all or none.

    read ─┬─ batches ── decode, enrich ──┬── signal ──▶ rules (one owner for each group of topics)
          └─ Known ──▶ agree ──▶ Word ───┘   (to every worker)

A process that has loaded other rules says so (`Known`) in the stream of what it reads. Once all know the same, one owner gives the word,
which reaches every worker: from there on it reads under the new rules, and tells each group of it (`Turned`), behind all that it read under
the old ones. A group changes when it has heard of all workers; what was read under the new rules waits for that. So each partition has one
cut.

It all happens within one epoch, for the engine lets no source read in the next before this one is done everywhere. A snapshot therefore
holds the change of all groups, or of none: after a crash all go on from before or from behind it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic

from headwater.flows.batch import Batch
from headwater.flows.rulebook import Known, Rulebook, Word
from headwater.flows.settling import only
from headwater.flows.source import State

KEYS = 64
"""Keys for each worker: that none of them leads to some worker has a chance of e⁻⁶⁴."""


@dataclass
class TellingSource(FixedPartitionedSource[Any, State]):
    """What `below` reads, and what the rules of this process say whenever that is new. `failed` is called with what ends the flow here."""

    below: FixedPartitionedSource[Batch, State]
    book: Rulebook
    clock: Callable[[], int]
    failed: Callable[[BaseException], None]

    def list_parts(self) -> list[str]:
        return self.below.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> "_Telling":
        return _Telling(self, self.below.build_part(step_id, for_part, resume_state))


class _Telling(StatefulSourcePartition[Any, State]):
    def __init__(self, source: TellingSource, below: StatefulSourcePartition[Batch, State]) -> None:
        self._source, self._below = source, below

    def next_batch(self) -> list[Any]:
        batches, source = list(self._below.next_batch()), self._source
        try:
            return [*source.book.to_tell(source.clock()), *batches]
        except BaseException as error:
            source.failed(error)
            raise

    def next_awake(self) -> datetime | None:
        return self._below.next_awake()

    def snapshot(self) -> State:
        return self._below.snapshot()

    def close(self) -> None:
        self._below.close()


class Agreement(StatefulBatchLogic[Known, Word, None]):
    """Hears what every process knows, and gives the word once all know the same. After a start they tell it anew."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._known: dict[int, Known] = {}
        self._agreed = ""
        self._told = self._revision = 0

    def on_batch(self, values: list[Known]) -> tuple[list[Word], bool]:
        return ([self._word(known) for known in values], StatefulBatchLogic.RETAIN)

    def _word(self, known: Known) -> Word:
        self._told += 1
        self._known[known.process] = known
        agreed = len(self._known) == self._processes and len({each.digest for each in self._known.values()}) == 1
        if not agreed or known.digest == self._agreed:
            return Word(self._told, 0, "", dict(self._known))
        self._agreed, self._revision = known.digest, self._revision + 1
        return Word(self._told, self._revision, known.digest, dict(self._known))

    def snapshot(self) -> None:
        return None


class Passing(StatefulBatchLogic[Word, Word, None]):
    """Hands on, and is forgotten: it stands on the worker that its key leads to."""

    def on_batch(self, values: list[Word]) -> tuple[list[Word], bool]:
        return (values, StatefulBatchLogic.DISCARD)

    def snapshot(self) -> None:
        return None


def once_for_each_worker() -> Callable[[list[tuple[str, Word]]], list[Word]]:
    """Each word once, in order, of all that a worker hears by one key and the other; each key brings all of them in order."""
    heard: dict[int, int] = {}

    def step(words: list[tuple[str, Word]]) -> list[Word]:
        new, worker = [], threading.get_ident()
        for _, word in words:
            if word.told > heard.get(worker, 0):
                heard[worker] = word.told
                new.append(word)
        return new

    return step


def words(read: Stream[Any], processes: int, workers: int) -> Stream[Word]:
    """The words, at every worker, of what processes tell in a stream that a `TellingSource` gives.

    The engine has no way to tell all workers something but by key, and does not say which worker a key leads to. So there are many keys.
    """
    keys = [str(key) for key in range(KEYS * workers if workers > 1 else 1)]
    keyed = op.key_on("rules_known", op.flat_map_batch("rules_told", read, only(Known)), lambda _: "rules")
    agreed = op.stateful_batch("rules_agreed", keyed, lambda resume: Agreement(processes))
    spread = op.flat_map("rules_spread", agreed, lambda each: [(key, each[1]) for key in keys])
    given = op.stateful_batch("rules_given", spread, lambda resume: Passing())
    return op.flat_map_batch("rules_heard", given, once_for_each_worker())
