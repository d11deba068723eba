"""What a rebuilt index takes over from the former one: documents whose events the topics no longer hold."""

from collections.abc import Callable, Mapping, Sequence

from headwater.enrichers.document import Chunk
from headwater.enrichers.engine import Index, Point
from headwater.enrichers.head import Change, Entry, Head
from headwater.enrichers.said import Said
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Position

NOWHERE = Position("", "", 0, 0)


def remnants(former: Index, heads: Sequence[Head], rebuilt: Mapping[str, Head], told: Callable[[Position], bool]) -> list[Said]:
    """The versions to take over, as they were cut then; `told` says of a position whether its event was read again.

    What was read again speaks for itself, also by saying nothing any more. A deletion is taken over only where nothing else is known:
    it keeps late older versions from coming back.
    """
    wanted = [(head, entry) for head in heads for entry in head.entries if _unknown(entry, rebuilt.get(head.document))]
    points = former.points([id for head, entry in wanted for id in entry.points(head.document)])
    found = []
    for head, entry in wanted:
        pieces = [points[id][0] for id in entry.points(head.document) if id in points]
        position = Position.parse(pieces[0].position) if pieces and pieces[0].position else NOWHERE
        if len(pieces) == entry.chunks and not (pieces and told(position)):
            found.append(_said(head, entry, pieces, position))
    return found


def _unknown(entry: Entry, rebuilt: Head | None) -> bool:
    """Whether a version lies outside what the events that were read again tell of."""
    if rebuilt is None:
        return True
    return not entry.deleted and not rebuilt.entries[0].order <= entry.order <= rebuilt.order


def _said(head: Head, entry: Entry, pieces: Sequence[Point], position: Position) -> Said:
    chunks = tuple(Chunk(point.n, point.text, point.hash, point.section) for point in pieces)
    fields = pieces[0].fields if pieces else {}
    change = Change(head.document, head.type, entry.version, entry.event, entry.time, chunks, fields, entry.digest, entry.deleted)
    event = Event(id=entry.event, source="headwater", type="headwater.carried", time=entry.time)
    return Said(Received(position, event, None, 0), change)
