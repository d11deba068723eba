"""The ladder's source: messages of the rungs, handed on when they are due, and decoded as what they were on their own topics.

What is not due yet waits in the source, first in, first out, and the rung's partition is paused: so little is held, nothing is in a
snapshot but the offset of the first that waits, and no worker is blocked.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from headwater.flows.attempt import Attempt, attempt_of, retried
from headwater.flows.ladder import outcome_of
from headwater.flows.partitions import Place
from headwater.flows.source import State, TopicSource
from headwater.flows.steps import Work
from headwater.lineage.decode import Failure, decode
from headwater.lineage.errors import HeadwaterError, Invalid
from headwater.lineage.event import Message, Position
from headwater.lineage.record import Kind, Record, run_of
from headwater.lineage.topic import Topic


@dataclass
class Piece:
    """Messages of a rung's partition in offset order, and the offsets up to them that do not exist."""

    broker: str
    topic: str
    partition: int
    messages: list[Message]
    absent: list[tuple[int, int]]

    @property
    def next(self) -> int:
        return self.messages[-1].offset + 1

    @property
    def first(self) -> int:
        """The lowest offset that this tells of."""
        return min([self.messages[0].offset, *(first for first, _ in self.absent)])

    def due(self, at: Callable[[Message], int], now: int) -> "tuple[Piece | None, Piece | None]":
        """What of it is due, up to the first that is not; and the rest."""
        many = next((n for n, message in enumerate(self.messages) if at(message) > now), len(self.messages))
        if many == len(self.messages):
            return self, None
        if many == 0:
            return None, self
        border = self.messages[many].offset
        before = [(first, following) for first, following in self.absent if first < border]
        rest = [span for span in self.absent if span not in before]
        place = (self.broker, self.topic, self.partition)
        return Piece(*place, self.messages[:many], before), Piece(*place, self.messages[many:], rest)

    def records(self, flow: str, now: int) -> list[Record]:
        """The `consumed` and `absent` records."""
        runs: list[tuple[int, int]] = []
        for message in self.messages:
            first = runs.pop()[0] if runs and runs[-1][1] == message.offset else message.offset
            runs.append((first, message.offset + 1))
        told: tuple[tuple[Kind, list[tuple[int, int]]], ...] = (("consumed", runs), ("absent", self.absent))
        return [
            run_of(kind, flow, Position(self.broker, self.topic, self.partition, first), following, following - first, now)
            for kind, spans in told
            for first, following in spans
        ]


def due_at(message: Message) -> int:
    """When a message of a rung is to be tried (µs); at once if it does not say."""
    try:
        return retried(Position("", message.topic, message.partition, message.offset), message).due
    except HeadwaterError:
        return 0


@dataclass
class RetrySource(FixedPartitionedSource[Piece, State]):
    """The rungs' messages when they are due. `source` must take its `gate` from here; `hurry` says that nothing waits any more.

    room  (topic, partition) → may more of a rung be read now?
    """

    source: TopicSource
    clock: Callable[[], int]
    hurry: Callable[[], bool]
    room: Callable[[str, int], bool] = lambda topic, partition: True
    _held: dict[Place, deque[Piece]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source.gate = lambda topic, partition: not self._held.get((topic, partition)) and self.room(topic, partition)

    def list_parts(self) -> list[str]:
        return self.source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> "RetryPart":
        return RetryPart(self.source.build_part(step_id, for_part, resume_state), self._held, self.clock, self.hurry)


class RetryPart(StatefulSourcePartition[Piece, State]):
    """Holds what the part below read until it is due."""

    def __init__(self, below: Any, held: dict[Place, deque[Piece]], clock: Callable[[], int], hurry: Callable[[], bool]) -> None:
        self._below, self._held, self._clock, self._hurry = below, held, clock, hurry
        self._mine: set[Place] = set()

    def next_batch(self) -> list[Piece]:
        for batch in self._below.next_batch():
            place = (batch.topic, batch.partition)
            self._mine.add(place)
            self._held.setdefault(place, deque()).append(Piece(batch.broker, *place, batch.plain(), list(batch.absent)))
        return [piece for place in self._mine for piece in self._due(self._held[place])]

    def _due(self, held: deque[Piece]) -> list[Piece]:
        found = []
        now = self._clock()
        while held:
            due, rest = held[0].due((lambda message: 0) if self._hurry() else due_at, now)
            if due is not None:
                found.append(due)
            held.popleft()
            if rest is not None:
                held.appendleft(rest)
                break
        return found

    def next_awake(self) -> datetime | None:
        rest: datetime | None = self._below.next_awake()
        return rest

    def snapshot(self) -> State:
        """Where to read on: the first of what waits comes again."""
        state: State = self._below.snapshot()
        return {**state, "next": {**state["next"], **{place: self._held[place][0].first for place in self._mine if self._held[place]}}}

    def close(self) -> None:
        self._below.close()


@dataclass(slots=True)
class Again(Work):
    """Events that are tried again: positions are those of their lives, so that they say what they always said.

    tries   the position of a life → its try;  reached  the rung's place and the offset that is dealt with after this
    lane    the rung's place
    """

    tries: dict[Position, Attempt] = field(default_factory=dict)
    lane: Place = ("", 0)
    reached: tuple[str, int, int] = ("", 0, 0)

    def attempt(self, failure: Failure) -> Attempt:
        return self.tries.get(failure.position) or attempt_of(failure.position, failure.message)

    def close(self, ended: Sequence[tuple[Position, str]], flow: str, now: int) -> list[Record]:
        """One outcome each, at its place on the ladder, with the life it belongs to and what it was moved from."""
        return [outcome_of(flow, self.tries.get(position), position, outcome, now) for position, outcome in ended]


def retry_step(topics: Mapping[str, Topic[Any]], broker: str) -> Callable[[list[Piece]], list[Work]]:
    """Pieces of rungs → work, decoded by the topics the events came from."""

    def step(pieces: list[Piece]) -> list[Work]:
        return [work for piece in pieces for work in _again(topics, broker, piece)]

    return step


def _again(topics: Mapping[str, Topic[Any]], broker: str, piece: Piece) -> list[Work]:
    """The messages in order; a new Again begins where the topic changes, or where a life comes a second time."""
    found: list[Again] = []
    for message in piece.messages:
        place = Position(broker, message.topic, message.partition, message.offset)
        try:
            attempt = retried(place, message)
            if attempt.position.topic not in topics or attempt.position.broker != broker:
                raise Invalid(f"{attempt.position} is no position of a topic that is indexed here")
        except HeadwaterError as error:
            found.append(_of(piece, message.topic))
            found[-1].messages, found[-1].failures = [message], [Failure(message, place, error)]
            continue
        topic = attempt.position.topic
        if not found or found[-1].batch.topic != topic or attempt.position in found[-1].tries:
            found.append(_of(piece, topic))
        original = Message(topic, attempt.position.partition, attempt.position.offset, attempt.appended, *message[4:])
        received, failures = decode(topics[topic], broker, [original])
        found[-1].tries[attempt.position] = attempt
        found[-1].messages.append(original)
        found[-1].received += received
        found[-1].failures += failures
    if found:
        found[-1].reached = (piece.topic, piece.partition, piece.next)
    return list(found)


def _of(piece: Piece, topic: str) -> Again:
    batch: Any = Piece(piece.broker, topic, piece.partition, [], [])
    return Again(batch, [], lane=(piece.topic, piece.partition))
