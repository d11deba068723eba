"""Freshness: how far the index has come, said honestly, and waited for (law 4)."""

import collections
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import msgspec

from headwater.enrichers.engine import Index, Row
from headwater.lineage.errors import Behind, DeadLettered, Gone, HeadwaterError, Misused
from headwater.lineage.event import Position

Place = tuple[str, int]

LOOK_EVERY = 0.02
"""Seconds between two looks at a store that cannot tell us when it changes."""

DEAD_KEPT = 10_000
RETRYING_SHOWN = 100


class Standing(NamedTuple):
    """How far the index had come at one moment.

    as_of         `topic/partition` → the lowest offset not yet settled
    staleness_ms  how long ago it was surely complete; infinite: not known
    retrying      `topic/partition@offset`: below `as_of`, and yet not searchable, for they wait on the retry ladder; the first hundred
    """

    as_of: dict[str, int]
    staleness_ms: float
    retrying: tuple[str, ...] = ()


@dataclass
class _Partition:
    next: int = 0
    read: collections.deque[tuple[int, int]] = field(default_factory=collections.deque)
    ends: collections.deque[tuple[int, int]] = field(default_factory=collections.deque)
    complete: int = 0
    dead: dict[int, str] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)

    @property
    def complete_at(self) -> int:
        """All that had been appended by this moment (µs) is settled; 0: nothing is known."""
        return max(self.complete, self.read[0][1]) if self.read else self.complete

    def knows(self, offset: int) -> bool:
        """Whether it can be said of an offset what became of it."""
        return offset < self.next or offset in self.dead or offset in self.moved

    def advance(self, next: int) -> None:
        self.next = max(self.next, next)
        for reached in (self.read, self.ends):
            while reached and reached[0][0] <= self.next:
                self.complete = max(self.complete, reached.popleft()[1])


@dataclass(eq=False)
class _Reader:
    """One who waits: for which positions, and whether for an index that is fresh enough."""

    late: Sequence[Position]
    freshness: bool
    woken: threading.Condition


class Progress:
    """The progress of the index over the partitions it reads, shared by the index flow (which tells) and readers (who ask).

    broker  whose offsets these are; tokens of another broker's life are Gone
    clock   wall clock in µs
    topics  what the index reads or will read; a token of any other topic is refused at once
    places  every (topic, partition) of these, where they are known: while nothing is heard of one, staleness is infinite; and what is
            learnt of other topics (that the application no longer indexes) counts for nothing. Partitions that appear later count from
            when the flow begins to read them, or stores that it does
    look_ups  how far look-ups have read the topics they follow, for `as_of`: place → the lowest offset not yet taken in

    Every method may be called from any thread.
    """

    def __init__(
        self, broker: str, clock: Callable[[], int], topics: Iterable[str] = (), places: Iterable[Place] = (),
        look_ups: Callable[[], Mapping[Place, int]] = dict,
    ) -> None:  # fmt: skip
        self.broker = broker
        self.clock = clock
        self._look_ups = look_ups
        self.topics = set(topics)
        self.revision = 0
        self._partitions: dict[Place, _Partition] = {place: _Partition() for place in places}
        self._only = frozenset(topic for topic, _ in self._partitions)
        self._told: set[Place] = set()
        self._changed = threading.RLock()
        self._readers: set[_Reader] = set()

    # What the index flow tells.

    def start(self, topic: str, partition: int, offset: int) -> None:
        """The flow reads this partition from `offset` on. What was settled before a restart stays settled."""
        with self._changed:
            part = self._of(topic, partition)
            part.read.clear()
            part.ends.clear()
            part.advance(offset)
            self._notify((topic, partition))

    def note_appended(self, topic: str, partition: int, next: int, appended_us: int) -> None:
        """The flow has read everything below `next`; the oldest event newly read was appended at `appended_us`.

        That may be a sender's word, whose clock may run ahead of ours: no event was appended later than it is read.
        """
        appended_us = min(appended_us, self.clock())
        with self._changed:
            part = self._of(topic, partition)
            if next > part.next and (not part.read or next > part.read[-1][0]):
                part.read.append((next, appended_us))
                self.revision += 1

    def settle(self, topic: str, partition: int, next: int) -> None:
        """Every offset below `next` has its outcome acknowledged, or moved, or was dead-lettered. Never goes back."""
        with self._changed:
            part = self._of(topic, partition)
            if next <= part.next:
                return
            part.advance(next)
            self._notify((topic, partition))

    def at_end(self, topic: str, partition: int, us: int, offset: int | None = None) -> None:
        """The source stood at the end of the partition, at `offset`, at this moment (µs). To be told at every idle look.

        Without `offset` it is the furthest that `note_appended` told of: right only if that is told no later than this.
        """
        with self._changed:
            part = self._of(topic, partition)
            if offset is None:
                offset = part.read[-1][0] if part.read else part.next
            if part.ends and part.ends[-1][0] >= offset:
                part.ends.pop()
            part.ends.append((offset, us))
            part.advance(part.next)
            self._notify((topic, partition))

    def dead_letter(self, position: Position, id: str) -> None:
        """This position ended as the dead letter `id`."""
        with self._changed:
            part = self._of(position.topic, position.partition)
            part.dead[position.offset] = id
            part.moved.discard(position.offset)
            while len(part.dead) > DEAD_KEPT:
                del part.dead[next(iter(part.dead))]
            self._notify(position[1:3])

    def moved(self, position: Position) -> None:
        """This position moved to the retry ladder and is not searchable yet."""
        with self._changed:
            self._of(position.topic, position.partition).moved.add(position.offset)
            self._notify(position[1:3])

    def arrived(self, position: Position) -> None:
        """A position that had moved is searchable after all."""
        with self._changed:
            self._of(position.topic, position.partition).moved.discard(position.offset)
            self._notify(position[1:3])

    def reads(self, position: Position) -> bool:
        """Whether this process tells of the position's partition; else another does."""
        with self._changed:
            return position[1:3] in self._told

    def moving(self) -> int:
        """How many positions are on the retry ladder, of the partitions that this process tells of."""
        with self._changed:
            return sum(len(part.moved) for place, part in self._partitions.items() if place in self._told)

    # What readers ask.

    def refresh(self) -> None:
        """Learn what is new; nothing to do where the flow tells us directly."""

    def as_of(self) -> dict[str, int]:
        """`topic/partition` → the lowest offset not yet settled; of a topic that is looked up only, not yet taken in by the look-up."""
        looked_up = self._look_ups()
        with self._changed:
            settled = {place: part.next for place, part in self._partitions.items()}
        return {f"{topic}/{partition}": next for (topic, partition), next in sorted({**looked_up, **settled}.items())}

    def staleness_ms(self, now: int | None = None) -> float:
        """How long ago the index was surely complete; infinite while that is not known for every topic. `now` in µs."""
        now = self.clock() if now is None else now
        with self._changed:
            known = {topic for topic, _ in self._partitions}
            oldest = min((part.complete_at for part in self._partitions.values()), default=0)
            if not oldest or not self.topics <= known:
                return math.inf
            return max(0, now - oldest) / 1000

    def standing(self) -> Standing:
        """How far the index has come, all of it at one moment: what is read afterwards is at least as fresh."""
        with self._changed:
            moved = sorted((*place, offset) for place, part in self._partitions.items() for offset in part.moved)
            shown = tuple(f"{topic}/{partition}@{offset}" for topic, partition, offset in moved[:RETRYING_SHOWN])
            return Standing(self.as_of(), self.staleness_ms(), shown)

    def wait(self, positions: Sequence[Position], timeout_s: float, max_staleness_us: int | None = None) -> Standing:
        """Return once all positions are settled and the index is fresh enough; what stood then.

        Raises DeadLettered (details: `id`), Gone, Misused at once, Behind (details: `behind` offset by offset, `staleness_ms`,
        `retry_after` in seconds) when a position is in retry or the time is up.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.refresh()
            with self._changed:
                late = [position for position in positions if not self._settled(position)]
                if not late:
                    standing = self.standing()
                    if max_staleness_us is None or standing.staleness_ms * 1000 <= max_staleness_us:
                        return standing
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._behind(late, max_staleness_us)
                self._pause(left, late, max_staleness_us is not None)

    def rows(self) -> list[Row]:
        """The progress as it is stored for readers in other processes: of partitions that this process reads and knows anything about.

        What was learnt of the others is theirs to store: an `index` of several processes would else overwrite what is newer.
        """
        with self._changed:
            return [
                Row(self.broker, topic, partition, part.next, part.complete_at, dict(part.dead), tuple(sorted(part.moved)))
                for (topic, partition), part in sorted(self._partitions.items())
                if (topic, partition) in self._told and (part.next or part.complete_at or part.dead or part.moved)
            ]

    def learn(self, rows: Iterable[Row]) -> None:
        """Take over stored progress; rows of another broker's life say nothing here."""
        with self._changed:
            for row in rows:
                if row.broker != self.broker or (self._only and row.topic not in self._only):
                    continue
                self.topics.add(row.topic)
                part = self._partitions.setdefault((row.topic, row.partition), _Partition())
                part.next = max(part.next, row.next)
                part.complete = max(part.complete, row.complete_at)
                part.dead |= row.dead
                part.moved = set(row.moved)
                self._notify((row.topic, row.partition))

    def to_json(self) -> bytes:
        return msgspec.json.encode(self.rows())

    @classmethod
    def from_json(cls, body: bytes, broker: str, clock: Callable[[], int]) -> Self:
        progress = cls(broker, clock)
        progress.learn(msgspec.json.decode(body, type=list[Row]))
        return progress

    # Inside; the lock is held.

    def _of(self, topic: str, partition: int) -> _Partition:
        """The partition as the flow of this process knows it."""
        self.topics.add(topic)
        self._told.add((topic, partition))
        return self._partitions.setdefault((topic, partition), _Partition())

    def _notify(self, place: Place) -> None:
        """Something is known anew of a partition. Only those are woken to whom it may matter: with many readers, waking all at every
        batch would take more of the interpreter than indexing it."""
        self.revision += 1
        part = self._partitions[place]
        for reader in self._readers:
            if reader.freshness or any(late[1:3] == place and part.knows(late.offset) for late in reader.late):
                reader.woken.notify()

    def _pause(self, left: float, late: Sequence[Position], freshness: bool) -> None:
        # Time alone makes an answer staler, never fresher: whatever ends the wait is told to us.
        reader = _Reader(late, freshness, threading.Condition(self._changed))
        self._readers.add(reader)
        try:
            reader.woken.wait(left)
        finally:
            self._readers.discard(reader)

    def _settled(self, position: Position) -> bool:
        if position.broker != self.broker:
            why = f"the token {position} is of another broker's life; this one is {self.broker}: publish the event again"
            raise Gone(why, broker=self.broker)
        if position.topic not in self.topics:
            raise Misused(f"the index does not read topic {position.topic!r}; it reads {', '.join(sorted(self.topics)) or 'nothing yet'}")
        part = self._partitions.get((position.topic, position.partition))
        if part is None:
            return False
        if position.offset in part.dead:
            id = part.dead[position.offset]
            why = f"{position.short} ended as the dead letter {id}; see `headwater dead show {id}`"
            raise DeadLettered(why, id=id, position=str(position))
        if position.offset in part.moved:
            why = f"{position.short} failed and will be tried again; ask again later"
            raise Behind(why, retry_after=5, position=str(position), state="retrying")
        return position.offset < part.next

    def _behind(self, late: Sequence[Position], max_staleness_us: int | None) -> HeadwaterError:
        distance = {}
        for position in late:
            part = self._partitions.get((position.topic, position.partition), _Partition())
            distance[position.short] = position.offset + 1 - part.next
        staleness = self.staleness_ms()
        known = None if math.isinf(staleness) else staleness
        if late:
            worst = max(distance, key=distance.__getitem__)
            message = f"the index is {distance[worst]} events short of {worst}; ask again in a second"
        else:
            allowed = (max_staleness_us or 0) / 1e6
            told = "behind by nobody knows how much" if known is None else f"{staleness / 1000:.3f} s behind"
            message = f"the index is {told}, more than the {allowed:.3f} s allowed; ask again in a second"
        return Behind(message, behind=distance, staleness_ms=known, retry_after=1)


class StoredProgress(Progress):
    """Progress as the index flow of another process stores it (`Index.save_progress`), read anew for every search."""

    def __init__(
        self, index: Index, broker: str, clock: Callable[[], int], topics: Iterable[str] = (), places: Iterable[Place] = ()
    ) -> None:
        super().__init__(broker, clock, topics, places)
        self._index = index

    def refresh(self) -> None:
        self.learn(self._index.load_progress())

    def _pause(self, left: float, late: Sequence[Position], freshness: bool) -> None:
        super()._pause(min(left, LOOK_EVERY), late, freshness)
