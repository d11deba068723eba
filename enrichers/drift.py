"""Drift: where an index is not what the events say. Found by reading; mended by the steps of every write."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from headwater.enrichers import sparse
from headwater.enrichers.chunking import hash_of
from headwater.enrichers.document import head_id, passage
from headwater.enrichers.engine import Embedded, Index, Point, State
from headwater.enrichers.head import Entry, Head, fold, points_of
from headwater.enrichers.index import Indexer
from headwater.enrichers.said import Said, digest_of
from headwater.lineage.event import Position

Told = Callable[[Position], bool]
"""Whether the event at a position is among those that were read."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong with one document.

    kind  missing: events tell of it, the index does not
          behind: the index has an older version;  ahead: a version that no event tells of
          differs: the same version with other content, in its head or in the text or fields of its points
          extra: no event tells of it
          incomplete: chunk points are missing;  live: points count that should not, or the other way round
          orphan: chunk points that belong to no version
    """

    kind: str
    document: str
    what: str


def examine(index: Index, documents: Sequence[str], truth: Mapping[str, Head | None], told: Told) -> list[Finding]:
    """Compare documents; the gravest finding of each. Those of which `truth` has None are compared with themselves alone."""
    heads = index.heads(documents)
    states = index.states([id for head in heads.values() for id in points_of(head.document, head.entries)])
    found = []
    for document in documents:
        head = heads.get(document)
        wrong: list[Finding] = []
        if document not in truth:
            wrong = [] if head is None else _unexpected(head, states, told)
        elif (true := truth[document]) is not None:
            wrong = _compared(head, true, states, told)
        found += (wrong or ([] if head is None else _whole(head, states)))[:1]
    return found


def orphans(index: Index, states: Sequence[State]) -> list[State]:
    """Those chunk points that belong to no version that a head knows."""
    heads = index.heads(list({state.point.document for state in states}))
    known = {id for head in heads.values() for id in points_of(head.document, head.entries)}
    return [state for state in states if state.id not in known]


def orphaned(states: Sequence[State]) -> list[Finding]:
    """Orphans as findings, one for each document."""
    many: dict[str, int] = {}
    for state in states:
        many[state.point.document] = many.get(state.point.document, 0) + 1
    return [Finding("orphan", document, f"{count} points belong to no version") for document, count in many.items()]


def _unexpected(head: Head, states: Mapping[str, State], told: Told) -> list[Finding]:
    position = _position(head, head.current, states)
    if head.current.deleted or position is None or not told(position):
        return []  # it speaks of events that the topics no longer hold
    return [Finding("extra", head.document, f"version {head.version} is there, and no event tells of it")]


def _compared(head: Head | None, true: Head, states: Mapping[str, State], told: Told) -> list[Finding]:
    if head is None:
        return [Finding("missing", true.document, f"version {true.version} is not there")]
    if head.order < true.order:
        return [Finding("behind", head.document, f"version {head.version} is there, {true.version} should be")]
    if head.current.key == true.current.key:
        same = (head.current.digest, head.hashes, head.current.deleted) == (true.current.digest, true.hashes, true.current.deleted)
        return [] if same else [Finding("differs", head.document, f"version {head.current.version} has other content than its event says")]
    position = _position(head, head.current, states)
    if head.order > true.order and (position is None or not told(position)):
        return []  # newer than what was read, or from events that are gone
    return [Finding("ahead", head.document, f"version {head.current.version} counts, {true.current.version} should")]


def _whole(head: Head, states: Mapping[str, State]) -> list[Finding]:
    missing = wrong = 0
    for entry, until in zip(head.entries, head.untils(), strict=True):
        for id in entry.points(head.document):
            state = states.get(id)
            missing += state is None
            wrong += state is not None and not _lives(state, until)
    found = [Finding("incomplete", head.document, f"{missing} of its points are not there")] if missing else []
    found += [Finding("live", head.document, f"{wrong} of its points count at the wrong time")] if wrong else []
    current = [states[id].point for id in head.current.points(head.document) if id in states]
    if other := sum(not _holds(point, head.hashes[point.n]) for point in current):
        found.append(Finding("differs", head.document, f"{other} of its points hold another text"))
    elif current and not missing and not _told_alike(current, head.current):
        found.append(Finding("differs", head.document, "its points hold other fields"))
    return found


def _holds(point: Point, hash: str) -> bool:
    """Whether a point's text is the one of that hash, whatever it says of itself."""
    return point.hash == hash == hash_of(passage(point.section, point.text))


def _told_alike(points: Sequence[Point], entry: Entry) -> bool:
    """Whether all points of a version hold its fields."""
    fields = points[0].fields
    return all(point.fields == fields for point in points) and digest_of(points, fields, False) == entry.digest


def _lives(state: State, until: int | None) -> bool:
    return state.point.until == until and state.live == (until is None)


def _position(head: Head, entry: Entry, states: Mapping[str, State]) -> Position | None:
    """Where the event of a version lies, as its points tell."""
    for id in entry.points(head.document):
        if id in states and states[id].point.position:
            return Position.parse(states[id].point.position)
    return None


def mend(
    index: Index, indexer: Indexer, document: str, said: Sequence[Said], spare: Sequence[str], told: Told, history_us: int, *, extra: bool
) -> None:
    """Make a document what its events say; nobody else may write it meanwhile. Raises Unavailable.

    said   what the events say of it, in turn;  spare  points under its name that belong to no version;  extra  it should not be there

    What is wrong is deleted and put anew, the head flipped as the next revision of the one that is there, the superseded marked.
    Versions whose events are gone stay; their missing points cannot be made again.
    """
    head = index.heads([document]).get(document)
    if extra and not said:
        ids = points_of(document, head.entries) if head else []
        index.delete([*ids, *spare, head_id(document)])
        return
    states = index.states(points_of(document, head.entries)) if head else {}
    target = _target(head, said, states, told, history_us)
    if target is None:
        index.delete(list(spare))
        return
    known = {one.change.entry.key: one for one in said}
    for entry, until in zip(target.entries, target.untils(), strict=True):
        _mend_points(index, indexer, entry, document, known.get(entry.key), until)
    if target is not head:
        index.flip([target])
    ended: dict[int, list[str]] = {}
    for entry, until in zip(target.entries, target.untils(), strict=True):
        if until is not None and entry.chunks:
            ended.setdefault(until, []).extend(entry.points(document))
    if ended:
        index.supersede(ended)
    kept = set(points_of(document, target.entries))
    before = points_of(document, head.entries) if head else []
    if gone := [id for id in (*before, *spare) if id not in kept]:
        index.delete(gone)


def _target(head: Head | None, said: Sequence[Said], states: Mapping[str, State], told: Told, history_us: int) -> Head | None:
    """The head as it should be: what events say, and what is known of versions whose events are gone."""
    changes = [one.change for one in said]
    if not changes:
        return head
    true = fold(None, changes, history_us).head
    if head is None:
        return true
    known = {change.entry.key: change.entry for change in changes}
    kept = [entry for entry in head.entries if entry.key in known or not _told(head, entry, states, told)]
    if len(kept) < len(head.entries) or any(known.get(entry.key, entry) != entry for entry in kept):
        kept = [entry for entry in kept if entry.key not in known]  # what its events say anew, and what they no longer say
        entries = tuple(sorted((*kept, *true.entries), key=lambda entry: entry.order))
        newest = max((true.version, true.event, true.time), (entries[-1].version, entries[-1].event, entries[-1].time))
        hashes = true.hashes if entries[-1] == true.current else head.hashes
        return msgspec.structs.replace(
            head, version=newest[0], event=newest[1], time=newest[2], entries=entries, hashes=hashes, gone=(), rev=head.rev + 1
        )
    target = fold(head, changes, history_us).head
    if target.current.key == true.current.key and target.hashes != true.hashes:
        return msgspec.structs.replace(target, hashes=true.hashes, rev=head.rev + 1)
    return target


def _told(head: Head, entry: Entry, states: Mapping[str, State], told: Told) -> bool:
    position = _position(head, entry, states)
    return position is not None and told(position)


def _mend_points(index: Index, indexer: Indexer, entry: Entry, document: str, said: Said | None, until: int | None) -> None:
    """See to it that a version's points are there, right, and can be marked as they should."""
    ids = entry.points(document)
    states = index.states(ids)
    pieces = said.change.chunks if said else ()
    fields = said.change.fields if said else {}
    other = [
        id for piece, id in zip(pieces, ids, strict=False)
        if id in states and not (_holds(states[id].point, piece.hash) and states[id].point.fields == fields)
    ]  # fmt: skip
    if said and (other or len(states) < len(ids)):
        if other:
            index.delete(other)
        index.put([one for one in indexer.points_of(said) if one.point.id in other or one.point.id not in states])
    # A time only ever moves forward in the ordinary way: a point that ended too early is put anew.
    ended = [id for id, state in states.items() if id not in other and not _lives(state, until) and _early(state, until)]
    if ended:
        found = index.points(ended)
        index.delete(ended)
        index.put([
            Embedded(msgspec.structs.replace(point, until=None), vector, sparse.of_document(passage(point.section, point.text)))
            for point, vector in found.values()
        ])  # fmt: skip


def _early(state: State, until: int | None) -> bool:
    return until is None or (state.point.until is not None and state.point.until <= until)
