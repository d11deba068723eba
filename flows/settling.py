"""A source whose snapshot is what is settled, not what was read: what a crew had not done when the process died is read again.

It hands on what it reads and, beside it, what became of what it read before. So the records of that belong to the same epoch as the
snapshot that counts on them, and landing cuts off what is told a second time.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from headwater.flows.crew import Crew, Lane
from headwater.flows.source import State
from headwater.flows.steps import Upserted

GRACE_S = 5.0
"""How long a flow that is to stop waits for what its crew has begun. What is left then is read again at the next start."""

T = TypeVar("T")


class Read(Protocol):
    """What a source below hands on: offsets of one partition, from the lowest that it tells of to the one after its last."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def next(self) -> int: ...


@dataclass
class SettledSource(FixedPartitionedSource[Any, State]):
    """What `below` reads, and what the crew made of it. `failed` is called with what ends the flow from here."""

    below: FixedPartitionedSource[Any, State]
    crew: Crew
    failed: Callable[[BaseException], None]

    def list_parts(self) -> list[str]:
        return self.below.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> "SettledPart":
        return SettledPart(self.below.build_part(step_id, for_part, resume_state), self.crew, self.failed)


class SettledPart(StatefulSourcePartition[Any, State]):
    """One part. `_settled`: of each lane with anything on its way, the offset it is settled below; `_read`: the one it was read to."""

    def __init__(self, below: StatefulSourcePartition[Any, State], crew: Crew, failed: Callable[[BaseException], None]) -> None:
        self._below, self._crew, self._failed = below, crew, failed
        self._settled: dict[Lane, int] = {}
        self._read: dict[Lane, int] = {}
        self._patience: float | None = None

    def next_batch(self) -> list[Any]:
        try:
            done = self._done()
        except BaseException as error:
            self._failed(error)
            raise
        try:
            return [*done, *self._noted(self._below.next_batch())]
        except StopIteration:
            if done or self._lingers():
                return done
            raise

    def _done(self) -> list[Upserted]:
        found = [upserted for lane in self._settled for upserted in self._crew.take(lane)]
        for upserted in found:
            self._settled[upserted.lane] = max(self._settled[upserted.lane], upserted.next)
        self._settled = {lane: settled for lane, settled in self._settled.items() if settled < self._read[lane]}
        return found

    def _noted(self, read: Iterable[Read]) -> list[Read]:
        batches = list(read)
        for batch in batches:
            lane = batch.topic, batch.partition
            self._settled.setdefault(lane, batch.first)
            self._read[lane] = batch.next
        return batches

    def _lingers(self) -> bool:
        """Whether the end waits for what is on its way."""
        now = time.monotonic()
        if self._patience is None:
            self._patience = now + GRACE_S
        return bool(self._settled) and now < self._patience

    def next_awake(self) -> datetime | None:
        return self._below.next_awake()

    def snapshot(self) -> State:
        state = self._below.snapshot()
        return {**state, "next": {**state["next"], **self._settled}}

    def close(self) -> None:
        self._below.close()


def only(kind: type[T]) -> Callable[[list[Any]], list[T]]:
    """Of what such a source hands on, the items of one kind."""
    return lambda items: [item for item in items if isinstance(item, kind)]
