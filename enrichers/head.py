"""A document's head: which version of it counts, and its recent history. Pure values; the index stores them.

Every version that brought new content is an entry. The last entry is what searches find now; the ones before it are what they
find when they ask about the past. A head is only ever replaced by one computed from it (`rev` grows by one), so two writers
never lose each other's versions, and none can set a document back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from headwater.enrichers.document import Chunk, Field, point_id, tie_of

ENTRIES_KEPT = 50
GONE_KEPT = 100
"""Entries that a head tells of as gone, at most: as many revisions were swept since by somebody."""


class Entry(msgspec.Struct, frozen=True):
    """A version of a document that brought new content. `time` is event time in µs; `digest` covers text, sections and fields."""

    version: int
    event: str
    time: int
    chunks: int
    digest: str
    deleted: bool = False

    @property
    def key(self) -> tuple[int, str]:
        return self.version, self.event

    @property
    def order(self) -> tuple[int, int]:
        return self.version, tie_of(self.event)

    def points(self, document: str) -> list[str]:
        """The ids of its chunk points."""
        return [point_id(document, self.version, self.event, n) for n in range(self.chunks)]


class Head(msgspec.Struct, frozen=True):
    """What the index knows about one document.

    version, event, time   the newest event about it, though it may have changed nothing
    entries                versions with content, oldest first, the last one current; at most `ENTRIES_KEPT`
    hashes                 of the current chunks, in order
    gone                   entries that left the history with this revision, or before it and may not be removed yet
    floor                  event time (µs) before which versions are forgotten; 0: nothing is
    rev                    counts replacements, from 1
    """

    document: str
    type: str
    version: int
    event: str
    time: int
    entries: tuple[Entry, ...]
    hashes: tuple[str, ...] = ()
    gone: tuple[Entry, ...] = ()
    floor: int = 0
    rev: int = 1

    @property
    def current(self) -> Entry:
        return self.entries[-1]

    @property
    def order(self) -> tuple[int, int]:
        return self.version, tie_of(self.event)

    def at(self, time: int | None) -> Entry | None:
        """The entry that counts now (None), or counted at an event time: the latest version not later than that."""
        known = self.entries[-1:] if time is None else [entry for entry in self.entries if entry.time <= time]
        return known[-1] if known and not known[-1].deleted else None

    def untils(self) -> list[int | None]:
        """For each entry the event time from which a later version counts; None for the current one."""
        untils: list[int | None] = [None]
        for entry in reversed(self.entries[1:]):
            after = untils[-1]
            untils.append(entry.time if after is None else min(after, entry.time))
        return untils[::-1]

    def payload(self) -> dict[str, Any]:
        """The head as the payload of its point; `tie`, `chunks` and `deleted` are there for people and filters."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        current = self.current
        return fields | {"kind": "head", "tie": tie_of(self.event), "chunks": current.chunks, "deleted": int(current.deleted)}

    @classmethod
    def of(cls, payload: dict[str, Any]) -> "Head":
        return msgspec.convert(payload, cls)


@dataclass(frozen=True)
class Change:
    """What one event says about one document: its new chunks, or that it is deleted."""

    document: str
    type: str
    version: int
    event: str
    time: int
    chunks: tuple[Chunk, ...]
    fields: dict[str, Field]
    digest: str
    deleted: bool = False

    @cached_property
    def entry(self) -> Entry:
        return Entry(self.version, self.event, self.time, len(self.chunks), self.digest, self.deleted)


@dataclass(frozen=True)
class Fold:
    """A head after changes: the new head (the same object if nothing changed), and how each change ended."""

    head: Head
    outcomes: tuple[str, ...]
    replayed: bool


def fold(head: Head | None, changes: Sequence[Change], history_us: int, *, swept: bool = True) -> Fold:
    """Apply the changes of one document in turn. At least one change is needed.

    swept  what the head says is gone was removed; else the new head goes on saying so, for its writer may have died before
    """
    outcomes: list[str] = []
    replayed = False
    new = head
    for change in changes:
        if new is None:
            new, outcome = _first(change), "deleted" if change.deleted else "indexed"
        elif change.entry.key == (new.version, new.event) or any(change.entry.key == entry.key for entry in new.entries):
            replayed, outcome = True, "unchanged"
        else:
            new, outcome = _advance(new, change, history_us)
        outcomes.append(outcome)
    assert new is not None
    if head is not None and new is not head:
        left = [entry for entry in dict.fromkeys(new.gone) if entry not in new.entries and not (swept and entry in head.gone)]
        new = msgspec.structs.replace(new, rev=head.rev + 1, gone=tuple(left[-GONE_KEPT:]))
    return Fold(new, tuple(outcomes), replayed)


def _first(change: Change) -> Head:
    hashes = tuple(chunk.hash for chunk in change.chunks)
    return Head(change.document, change.type, change.version, change.event, change.time, (change.entry,), hashes)


def _advance(head: Head, change: Change, history_us: int) -> tuple[Head, str]:
    entry = change.entry
    if entry.order < head.order:
        return _remember(head, entry, history_us), "stale"
    moved = msgspec.structs.replace(head, version=change.version, event=change.event, time=change.time)
    if entry.digest == head.current.digest:
        return moved, "unchanged"
    moved = msgspec.structs.replace(moved, hashes=tuple(chunk.hash for chunk in change.chunks))
    return _trim(moved, (*head.entries, entry), history_us), "deleted" if change.deleted else "indexed"


def _remember(head: Head, entry: Entry, history_us: int) -> Head:
    """A version that came too late to count now still belongs to the past that searches may ask about.

    Between the current content and a newer event that confirmed it there is no such past: the content did not change.
    """
    if entry.order > head.current.order:
        return head
    before = [other for other in head.entries if other.order < entry.order]
    if before and before[-1].digest == entry.digest:
        return head
    entries = (*before, entry, *head.entries[len(before) :])
    kept = _trim(head, entries, history_us)
    if entry in kept.entries:
        return kept
    # It came too late even for the history: that there was such a version is all that is remembered.
    return msgspec.structs.replace(head, floor=kept.floor) if kept.floor > head.floor else head


def _trim(head: Head, entries: tuple[Entry, ...], history_us: int) -> Head:
    full = msgspec.structs.replace(head, entries=entries)
    horizon = max(entry.time for entry in entries) - history_us
    untils = full.untils()
    too_many = len(entries) - ENTRIES_KEPT
    dropped = [n for n, until in enumerate(untils) if until is not None and (n < too_many or until <= horizon)]
    if not dropped:
        return full
    floor = max(head.floor, *(until for n in dropped if (until := untils[n]) is not None))
    kept = tuple(entry for n, entry in enumerate(entries) if n not in dropped)
    return msgspec.structs.replace(full, entries=kept, gone=head.gone + tuple(entries[n] for n in dropped), floor=floor)


def points_of(document: str, entries: Iterable[Entry]) -> list[str]:
    """The ids of the chunk points of some versions of a document."""
    return [point for entry in entries for point in entry.points(document)]
