"""forget: everything an index holds of a document, its kept history included, but for the head, which goes on refusing older versions."""

from collections.abc import Sequence

import msgspec

from headwater.enrichers.engine import Index
from headwater.enrichers.head import Entry, Head, points_of
from headwater.lineage.errors import Unavailable

ATTEMPTS = 100


def forget(index: Index, documents: Sequence[str]) -> int:
    """Remove the points of documents, and what their heads tell of the texts; how many points. May be done again after a kill.

    The head says first that all is gone, then the points go, then it forgets their names: as the sweep does, so a writer at work on the
    same document loses nothing that is newer. An event that comes again says nothing new then. Raises Unavailable.
    """
    removed = 0
    pending = _told(index, documents)
    if pending:
        index.purge()
    for _ in range(ATTEMPTS):
        if not pending:
            return removed
        index.flip([_emptied(head) for head in pending])
        empty = [head for head in _told(index, [head.document for head in pending]) if _is_empty(head)]
        ids = [id for head in empty for id in points_of(head.document, head.gone)]
        if ids:
            index.delete(ids)
            removed += len(ids)
        index.flip([msgspec.structs.replace(head, gone=(), rev=head.rev + 1) for head in empty])
        pending = _told(index, [head.document for head in pending])
    raise Unavailable(f"{pending[0].document} was written again and again while it was to be forgotten; try again")


def _told(index: Index, documents: Sequence[str]) -> list[Head]:
    """The heads that still tell of something."""
    return [head for head in index.heads(list(documents)).values() if head.gone or not _is_empty(head)]


def _emptied(head: Head) -> Head:
    marker = Entry(head.version, head.event, head.time, 0, "", deleted=True)
    gone = tuple(entry for entry in (*head.gone, *head.entries) if entry.chunks)
    return msgspec.structs.replace(head, entries=(marker,), hashes=(), gone=gone, rev=head.rev + 1)


def _is_empty(head: Head) -> bool:
    return not head.hashes and all(entry.deleted and not entry.digest for entry in head.entries)
