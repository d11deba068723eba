"""purge: a shard without the bytes of what was removed from it.

The engine marks what is removed, and its log and its pages hold the bytes until something else is written there. So a shard from which
something must be gone for good is marked; when it is opened next, all that it holds is copied into a new one, which takes its place.
"""

import os
import shutil
from pathlib import Path

import structlog
from qdrant_edge import EdgeConfig, EdgeShard, ScrollRequest, UpdateOperation
from qdrant_edge import Point as EdgePoint

_log = structlog.get_logger("headwater.index")

MARK = "purge"
COPIED_AT_ONCE = 500


def mark(directory: Path) -> None:
    """From now on the shard is made anew when it is opened next, also after a kill."""
    with (directory / MARK).open("w") as file:
        os.fsync(file.fileno())
    _on_disk(directory)


def purged(directory: Path, config: EdgeConfig) -> None:
    """Make the shard anew if it is marked; a kill at any step loses nothing. Raises what the engine does, if it is open elsewhere."""
    new, old = _beside(directory, "new"), _beside(directory, "old")
    if new.exists() and not directory.exists():  # killed between the two renames: it is whole
        new.replace(directory)
    marked = (directory / MARK).exists()
    if not (marked or new.exists() or old.exists()):
        return
    source = EdgeShard.load(str(directory), config)  # from here on no other process comes in between
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    if not marked:
        source.close()
        return
    new.mkdir()
    copy = EdgeShard.create(str(new), config)
    copied = _copied(source, copy)
    source.close()
    copy.flush()
    copy.close()
    directory.replace(old)
    new.replace(directory)
    _on_disk(directory.parent)
    shutil.rmtree(old)
    _log.info("the index was made anew, without the bytes of what was erased", points=copied)


def _copied(source: EdgeShard, copy: EdgeShard) -> int:
    """All points with their vectors; how many."""
    count, offset = 0, None
    while True:
        found, offset = source.scroll(ScrollRequest(offset, COPIED_AT_ONCE, with_payload=True, with_vector=True))
        if found:
            points = [EdgePoint(record.id, record.vector or {}, record.payload) for record in found]
            copy.update(UpdateOperation.upsert_points(points))
        count += len(found)
        if offset is None:
            return count


def _beside(directory: Path, what: str) -> Path:
    return directory.with_name(f"{directory.name}.{what}")


def _on_disk(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
