"""The history of a topic, from its broker or from a file, as a flow would receive it. Only read: no group, no offset, no message."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from headwater.flows.drain import end_of, oldest_of, scan
from headwater.flows.foreign import converted, time_of
from headwater.flows.kafka import Kafka
from headwater.flows.rows import FORMATS, Row
from headwater.flows.selecting import without_tombstones
from headwater.lineage.decode import MARK, Received, decode
from headwater.lineage.errors import HeadwaterError, Misused
from headwater.lineage.event import Event, Position, from_structured
from headwater.lineage.topic import Topic

PIECE = 100
"""Events of one partition that are taken together."""

NEVER_ENDING = 2**61
"""An event time (µs) that no event reaches."""

Told = Callable[[int], None]
Pieces = Iterator[tuple[str, Sequence[Received]]]


def size(kafka: Kafka, topics: Sequence[Topic[Any]]) -> int:
    """About how many messages lie on the topics. Raises Unavailable; Misused for a topic that the broker does not have."""
    there = kafka.counts(topic.name for topic in topics)
    missing = [topic.name for topic in topics if topic.name not in there]
    if missing:
        raise Misused(f"the broker at {kafka.address} has no topic {', '.join(missing)}: nothing was published there yet")
    return sum(end_of(kafka, name, part) - oldest_of(kafka, name, part) for name, parts in there.items() for part in range(parts))


class Replayed:
    """What lies on topics, piece by piece: always of the partition whose event time is furthest behind, so that few events wait.

    Time marks say that a partition has no more, the last of them only that the newest event is over: what comes after it is not known.
    unread  messages that are no events of their topic
    """

    def __init__(self, kafka: Kafka, broker: str, topics: Sequence[Topic[Any]], told: Told = lambda many: None) -> None:
        self._kafka, self._broker, self._told = kafka, broker, told
        self._topics = {topic.name: topic for topic in topics}
        self.unread = 0

    def __iter__(self) -> Pieces:
        places = [(name, part) for name, parts in self._kafka.counts(self._topics).items() for part in range(parts)]
        messages = {place: scan(self._kafka, *place, 0) for place in places}
        behind = [(-1, place) for place in places]
        heapq.heapify(behind)
        newest = 0
        while behind:
            floor, place = heapq.heappop(behind)
            piece = list(islice(messages[place], PIECE))
            if not piece:
                yield place[0], [_over(Position(self._broker, *place, 2**62), NEVER_ENDING if behind else newest + 1)]
                continue
            self._told(len(piece))
            events = without_tombstones(piece, self._broker)[0] if self._topics[place[0]].compact else piece
            received, failures = decode(self._topics[place[0]], self._broker, events)
            self.unread += len(failures)
            floor = max([floor, *(each.event.time for each in received)])
            newest = max(newest, floor)
            heapq.heappush(behind, (floor, place))
            yield place[0], received


def _over(position: Position, at: int) -> Received:
    return Received(position, Event(id="over", source="headwater/history", type=MARK, time=at), None, 0)


class Read:
    """The rows of a file as events of one partition: CloudEvents by their own time, other rows by a field that tells it.

    Raises Misused for a file that cannot be read, and for rows that tell no time.
    """

    def __init__(self, path: Path, topic: Topic[Any], time: str, told: Told = lambda many: None) -> None:
        if path.suffix not in FORMATS:
            raise Misused(f"{path}: {path.suffix or 'no suffix'} is none of {', '.join(FORMATS)}")
        self._path, self._topic, self._time, self._told = path, topic, time, told
        self.unread = 0

    def __iter__(self) -> Pieces:
        newest = 0
        try:
            with self._path.open("rb") as file:
                rows = FORMATS[self._path.suffix](file, 0)
                while piece := list(islice(rows, PIECE)):
                    self._told(len(piece))
                    received = [each for each in map(self._received, piece) if each is not None]
                    newest = max([newest, *(each.event.time for each in received)])
                    yield self._topic.name, received
                yield self._topic.name, [_over(Position("file", self._topic.name, 0, 2**62), newest + 1)]
        except OSError as error:
            raise Misused(f"cannot read {self._path}: {error.strerror}") from None

    def _received(self, row: Row) -> Received | None:
        position = Position("file", self._topic.name, 0, row.number - 1)
        try:
            if row.error is not None:
                raise row.error
            event = self._event(row)
            model = self._topic.decode(event.data)
        except Misused:
            raise
        except HeadwaterError:
            self.unread += 1
            return None
        return Received(position, event, model, event.time)

    def _event(self, row: Row) -> Event:
        if isinstance(row.value, dict) and "specversion" in row.value:
            return from_structured(msgspec.json.encode(row.value))
        try:
            at = time_of(row.value, self._time, 0)
        except HeadwaterError as error:
            raise Misused(f"{self._path}, row {row.number}: {error}; name the field of the event time with --time") from None
        data = converted(row.value, self._topic) or b"null"
        return Event(id=f"row-{row.number}", source="headwater/file", type=self._topic.name, time=at, data=data)
