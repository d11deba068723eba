"""decode: Kafka messages → received events with their models, or failures that become dead letters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from headwater.lineage.errors import HeadwaterError, Invalid
from headwater.lineage.event import Event, Message, Position, from_binary
from headwater.lineage.topic import Topic

LATEST_MS = 32_503_680_000_000
"""The year 3000: a producer may set a message's timestamp to anything."""

MARK = "headwater.mark"
"""The type of a time mark: no event earlier than the mark's time follows in this partition. Replays send them."""


class Received(msgspec.Struct, gc=False):
    """One event on its way through a flow. `appended` is the broker's append time, µs since 1970.

    facts, reads  enricher → what it knows of the event, and where it has that from
    """

    position: Position
    event: Event
    model: Any
    appended: int
    facts: Mapping[str, Any] = {}
    reads: Mapping[str, Any] = {}

    @property
    def is_mark(self) -> bool:
        return self.event.type == MARK


@dataclass(slots=True)
class Failure:
    """One position that cannot go on, with its cause and the original message."""

    message: Message
    position: Position
    error: HeadwaterError
    event: Event | None = None


def decode(topic: Topic[Any], broker: str, messages: Iterable[Message]) -> tuple[list[Received], list[Failure]]:
    """Decode messages of one topic. A time mark is received with `model=None`."""
    received: list[Received] = []
    failures: list[Failure] = []
    read, place = topic.decode, partial(tuple.__new__, Position)  # half the time of calling a NamedTuple
    for message in messages:
        name, partition, offset, timestamp, _, value, headers = message
        position = place((broker, name, partition, offset))
        appended = timestamp * 1000
        event = None
        try:
            if not 0 <= timestamp <= LATEST_MS:
                raise Invalid(f"the broker's timestamp {timestamp} ms is no time of this age")
            event = from_binary(headers, value, topic=name, appended=appended)
            model = None if event.type == MARK else read(event.data)
        except HeadwaterError as error:
            failures.append(Failure(message, position, error, event))
        else:
            received.append(Received(position, event, model, appended))
    return received, failures
