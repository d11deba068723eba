"""What a lane carries: batches, the messages of them that cross, and groups of batches that share a transaction."""

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from confluent_kafka import Message as KafkaMessage

from headwater.flows.source import Batch
from headwater.lineage.decode import Failure
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.event import Message, Position
from headwater.lineage.record import Record

Headers: TypeAlias = list[tuple[str, Any]]


class Carry(Protocol):
    """What a lane asks of each message: the headers it crosses to broker `target` with, None if it stays. Raises Forbidden, Invalid."""

    def __call__(self, headers: Headers | None, where: Position, target: str) -> Headers | None: ...


@dataclass
class Ended:
    """A batch with which a lane is done: every message crossed or stayed, or is refused and buried.

    records  of the dead letters;  written  the last position per partition that was written at the target
    """

    batch: Batch
    carried: int = 0
    refused: dict[int, Failure] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    written: list[Position] = field(default_factory=list)


class Crossing:
    """One message that crosses."""

    __slots__ = ("headers", "message", "offset", "partition")

    def __init__(self, message: KafkaMessage, headers: Headers) -> None:
        self.message, self.headers = message, headers
        self.partition, self.offset = int(message.partition()), int(message.offset())


@dataclass
class Group:
    """Batches that share a transaction. `singly`: a transaction for each message, to find the one that the target refuses."""

    ended: list[Ended]
    crossing: list[Crossing]
    singly: bool = False

    def refuse(self, one: Crossing, error: HeadwaterError) -> None:
        for ended in self.ended:
            where = Position(ended.batch.broker, ended.batch.topic, one.partition, one.offset)
            if ended.batch.partition == one.partition and any(first <= one.offset < next for first, next in ended.batch.runs):
                ended.refused[one.offset] = Failure(plain(one.message), where, error)
                ended.carried -= 1
        self.crossing = [each for each in self.crossing if each is not one]


def bytes_of(batch: Batch) -> int:
    return sum(len(message) for message in batch.messages)


def plain(message: KafkaMessage) -> Message:
    stamp = message.timestamp()[1]
    return Message(message.topic(), message.partition(), message.offset(), stamp, message.key(), message.value(), message.headers() or [])
