"""The topics read once more, outside the flow: the same steps as `index` takes, up to what is to be indexed."""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headwater.enrichers.enrich import enrich
from headwater.flows.attempt import ID
from headwater.flows.drain import scan
from headwater.flows.runtime import Runtime
from headwater.flows.selecting import sift, sort_out, without_tombstones
from headwater.lineage.decode import Received, decode
from headwater.lineage.errors import HeadwaterError, Retryable, Unavailable
from headwater.lineage.event import Message, Position
from headwater.lineage.topic import DEAD

PIECE = 500
TRIES = 6
PAUSE_S = 0.5
"""Before what an enricher cannot answer now is asked again; doubled each time."""


class Piece(NamedTuple):
    """Some messages of one partition: what they say, what cannot be decoded or enriched, and the offset after the last."""

    received: list[Received]
    refused: list[tuple[Position, HeadwaterError]]
    next: int
    read: int


def reread(run: Runtime, topic: str, partition: int, first: int, until: int | None = None) -> Iterator[Piece]:
    """A partition from an offset (or the oldest there is) to `until`, or to its end as it now is. Raises Unavailable."""
    for messages in _pieces(run, topic, partition, first, until):
        selects = run.app.selected_documents.get(topic, ())
        wanted, _ = sort_out(messages, run.broker, selects)
        if run.app.indexed[topic].compact:
            wanted, _ = without_tombstones(wanted, run.broker)
        received, failures = decode(run.app.indexed[topic], run.broker, wanted)
        received, _ = sift(received, selects)
        enriched, refused = _enriched(run, topic, received)
        undecoded = [(failure.position, failure.error) for failure in failures]
        yield Piece(enriched, [*undecoded, *refused], messages[-1].offset + 1, len(messages))


def dead_letters(run: Runtime) -> set[str]:
    """The ids of all dead letters that are kept. Raises Unavailable."""
    found: set[str] = set()
    for partition in range(run.app.partitions[DEAD]):
        for message in scan(run.kafka, DEAD, partition, 0):
            found.update(_text(value) for name, value in message.headers if name == ID)
    return found


def _pieces(run: Runtime, topic: str, partition: int, first: int, until: int | None) -> Iterator[list[Message]]:
    piece: list[Message] = []
    if until is not None and first >= until:
        return
    for message in scan(run.kafka, topic, partition, first):
        if until is not None and message.offset >= until:
            break
        piece.append(message)
        if len(piece) == PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def _enriched(run: Runtime, topic: str, received: list[Received]) -> tuple[list[Received], list[tuple[Position, HeadwaterError]]]:
    """What may go through later is asked again here: a rebuild has no retry ladder. Raises Unavailable if it does not."""
    pause, left = PAUSE_S, received
    done: dict[Position, Received] = {}
    refused: list[tuple[Position, HeadwaterError]] = []
    for _ in range(TRIES):
        enriched, failures = enrich(run.app.indexed[topic], left)
        done |= {one.position: one for one in enriched}
        refused += [(one.position, error) for one, error in failures if not isinstance(error, Retryable)]
        again = [(one, error) for one, error in failures if isinstance(error, Retryable)]
        if not again:
            return [done[one.position] for one in received if one.position in done], refused
        left = [one for one, _ in again]
        time.sleep(pause)
        pause *= 2
    raise Unavailable(f"{again[0][0].position.short} cannot be enriched now: {again[0][1]}; ask again later, it goes on where it was")


def _text(value: bytes | str | None) -> str:
    return value if isinstance(value, str) else (value or b"").decode("utf-8", "replace")


def told_of(refused: Sequence[tuple[Position, HeadwaterError]]) -> str:
    """The first of what was refused, in words."""
    position, error = refused[0]
    return f"{position.short}: {error}"
