"""The batch: messages of one partition as the client gave them, columns read on demand, and every offset accounted for."""

from confluent_kafka import Message as KafkaMessage

from headwater.lineage.event import Message, Position
from headwater.lineage.record import Kind, Record, run_of


class Batch:
    """Messages of one partition in offset order, as the client gave them; columns are read on demand.

    runs     the offsets [first, next) that are here; more than one where offsets are missing between
    absent   the offsets [first, next) that do not exist, up to this batch
    """

    __slots__ = ("absent", "broker", "messages", "partition", "runs", "topic")

    def __init__(self, broker: str, topic: str, partition: int, messages: list[KafkaMessage], expected: int) -> None:
        self.broker, self.topic, self.partition, self.messages = broker, topic, partition, messages
        self.runs, self.absent = _runs(messages, expected)

    @property
    def next(self) -> int:
        return self.runs[-1][1]

    @property
    def first(self) -> int:
        """The lowest offset that this tells of."""
        return min(self.runs[0][0], self.absent[0][0]) if self.absent else self.runs[0][0]

    def values(self) -> list[bytes]:
        """The values, a missing one as empty."""
        return [message.value() or b"" for message in self.messages]

    def plain(self) -> list[Message]:
        """The messages as plain values."""
        topic, partition, new = self.topic, self.partition, tuple.__new__  # half the time of calling a NamedTuple
        return [
            new(Message, (topic, partition, m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers() or [])) for m in self.messages
        ]

    def records(self, flow: str, now: int) -> list[Record]:
        """The `consumed` and `absent` records of this batch."""
        told: tuple[tuple[Kind, list[tuple[int, int]]], ...] = (("consumed", self.runs), ("absent", self.absent))
        return [
            run_of(kind, flow, Position(self.broker, self.topic, self.partition, first), following, following - first, now)
            for kind, runs in told
            for first, following in runs
        ]


def _runs(messages: list[KafkaMessage], expected: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    first, last = messages[0].offset(), messages[-1].offset()
    if last - first + 1 == len(messages):
        return [(first, last + 1)], [(expected, first)] if first > expected else []
    runs: list[tuple[int, int]] = []
    absent: list[tuple[int, int]] = []
    start = following = expected
    for message in messages:
        offset = message.offset()
        if offset != following:
            if following > start:
                runs.append((start, following))
            absent.append((following, offset))
            start = offset
        following = offset + 1
    runs.append((start, following))
    return runs, absent
