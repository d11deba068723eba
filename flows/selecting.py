"""What no subscriber of a flow wants: taken out by its headers before it is decoded, its position accounted for, its time still heard."""

from collections.abc import Sequence
from typing import NamedTuple

from headwater.agents.order import NEVER, Signal
from headwater.agents.signals import Batch as Signals
from headwater.lineage.decode import LATEST_MS, MARK, Received
from headwater.lineage.duration import parse_time
from headwater.lineage.event import Message, Position
from headwater.lineage.select import Select, unwanted

_MARK = MARK.encode()


class Unwanted(NamedTuple):
    """A position that ends as `passed`, and its event's time in µs; None: its headers tell no time."""

    position: Position
    time: int | None


def without_tombstones(messages: list[Message], broker: str) -> tuple[list[Message], list[Unwanted]]:
    """Of a compacted topic: the messages with a value, and those without, which tell the broker to forget their key and are no events.

    Their time moves nothing, for it is the clock's where events may be years old.
    """
    ends = [Unwanted(Position(broker, each.topic, each.partition, each.offset), None) for each in messages if each.value is None]
    return ([each for each in messages if each.value is not None], ends) if ends else (messages, ends)


def sort_out(messages: list[Message], broker: str, selects: Sequence[Select]) -> tuple[list[Message], list[Unwanted]]:
    """The messages to decode, and those that none of the subscribers wants. Time marks are for everyone."""
    if not selects:
        return messages, []
    wanted: list[Message] = []
    passed: list[Unwanted] = []
    for message in messages:
        if unwanted(selects, message.headers, message.topic) and _last(message, "ce_type") != _MARK:
            passed.append(Unwanted(Position(broker, message.topic, message.partition, message.offset), _time(message)))
        else:
            wanted.append(message)
    return wanted, passed


def sift(received: list[Received], selects: Sequence[Select]) -> tuple[list[Received], list[Unwanted]]:
    """The same of events whose headers did not tell: those in structured mode."""
    if not selects:
        return received, []
    kept = [one.is_mark or any(select.wants_event(one.event) for select in selects) for one in received]
    passed = [Unwanted(one.position, one.event.time) for one, keep in zip(received, kept, strict=True) if not keep]
    return [one for one, keep in zip(received, kept, strict=True) if keep], passed


def hinted(signals: Signals, passed: Sequence[Unwanted], latest: int | None) -> Signals:
    """Signals with a hint for each event that no rule wants, in offset order.

    Such an event moves the watermark as if the rules had seen it and found nothing: so what one rule selects never changes what another
    fires, and a topic of which little is wanted does not stand still. A time beyond `latest` (µs) is not believed, and like an unknown
    one moves nothing.
    """
    hints = [_hint(one, latest) for one in passed]
    if not hints:
        return signals
    merged = sorted((*signals.signals, *hints), key=lambda signal: signal.offset)
    return signals._replace(signals=merged, broker=signals.broker or passed[0].position.broker)


def _hint(one: Unwanted, latest: int | None) -> Signal:
    believed = one.time is not None and (latest is None or one.time <= latest)
    return Signal(one.time if believed and one.time is not None else NEVER, "", one.position.partition, one.position.offset, readings=())


def _last(message: Message, name: str) -> bytes | None:
    return next((value for known, value in reversed(message.headers) if known == name and value is not None), None)


def _time(message: Message) -> int | None:
    stated = _last(message, "ce_time")
    if not stated:
        return message.timestamp * 1000 if 0 <= message.timestamp <= LATEST_MS else None
    try:
        return parse_time(stated.decode())
    except ValueError:
        return None
