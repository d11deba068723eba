"""Law 3, by enumeration: two writers on one document in every order of their steps, either one killed after any of its steps."""

import itertools
from collections.abc import Iterator

import pytest

import headwater.enrichers.index as index_module
from headwater.enrichers.engine import Index

HOUR = 3_600_000_000
STEPS = 5
"""read, put, flip, reread, supersede; a writer that lost its flip takes more, and takes them at the end."""

OLDER = "# A\n\nolder one\n\n# B\n\nolder two\n\n# C\n\nolder three"
NEWER = {"text": "# A\n\nnewer one", "deletion": None}


def schedules() -> Iterator[tuple[str, int | None]]:
    """(order of steps, who is killed after its last step there): `0` the older writer's step, `1` the newer one's."""
    for killed in (0, 1):
        for cut in range(STEPS + 1 - killed):
            for places in itertools.combinations(range(STEPS + cut), cut):
                order = "".join(str(killed if n in places else 1 - killed) for n in range(STEPS + cut))
                yield order, killed if cut < STEPS else None


def check_readable(index: Index, document: str, seen: int) -> int:
    """The document as readers see it is whole, and no older than it was; returns its version."""
    head = index.heads([document])[document]
    assert head.version >= seen
    points = index.points(head.current.points(document))
    assert len(points) == head.current.chunks
    return head.version


@pytest.mark.parametrize("newer", NEWER)
def test_no_order_of_steps_and_no_kill_sets_a_document_back_or_halves_it(world, newer):
    """While two writers interleave, readers see whole versions only and never an older one; after the killed writer's events
    came again, the newest version counts, alone, and the past is complete."""
    for number, (order, killed) in enumerate(schedules()):
        if number % 20 == 0:
            world.renew()
        document, id = f"note/d{number}", f"d{number}"
        events = [world.said(id, 2, OLDER), world.said(id, 3, NEWER[newer])]
        world.writer().index([world.said(id, 1, "# A\n\noldest")])
        writers = [world.writer().steps([event]) for event in events]
        version = 1
        for step in order:
            next(writers[int(step)], None)
            version = check_readable(world.index, document, version)
        for writer in range(2):
            if writer == killed:
                writers[writer].close()
            for _ in writers[writer]:
                version = check_readable(world.index, document, version)
        if killed is not None:
            world.writer().index([events[killed]])
        head = world.index.heads([document])[document]
        assert [entry.version for entry in head.entries] == [1, 2, 3], order
        points = world.index.points([point for entry in head.entries for point in entry.points(document)])
        states = sorted((point.version, point.n, point.until) for point, _ in points.values())
        expected = [(1, 0, 2 * HOUR), (2, 0, 3 * HOUR), (2, 1, 3 * HOUR), (2, 2, 3 * HOUR)]
        assert states == expected + ([] if NEWER[newer] is None else [(3, 0, None)]), order


def test_a_kill_between_the_slices_of_a_long_document_leaves_nothing_behind(world, monkeypatch):
    """A document put piece by piece, its writer killed between two pieces while a newer version is written, in every order: readers see
    whole versions only, and when the events come again each version is there, complete, once."""
    monkeypatch.setattr(index_module, "SLICE", 1)
    number = 0
    for cut in (2, 3):  # after the first and the second of three points
        for places in itertools.combinations(range(STEPS + cut), cut):
            if number % 20 == 0:
                world.renew()
            id, number = f"s{number}", number + 1
            document, events = f"note/{id}", [world.said(id, 2, OLDER), world.said(id, 3, "# A\n\nnewer one")]
            world.writer().index([world.said(id, 1, "# A\n\noldest")])
            writers = [world.writer().steps([event]) for event in events]
            version = 1
            for n in range(STEPS + cut):
                next(writers[0 if n in places else 1], None)
                version = check_readable(world.index, document, version)
            writers[0].close()
            for _ in writers[1]:
                version = check_readable(world.index, document, version)
            world.writer().index([events[0]])
            head = world.index.heads([document])[document]
            assert [(entry.version, entry.chunks) for entry in head.entries] == [(1, 1), (2, 3), (3, 1)], places
            states = world.index.states([point for entry in head.entries for point in entry.points(document)])
            assert sorted((one.point.version, one.point.n, one.live) for one in states.values()) == [
                (1, 0, False), (2, 0, False), (2, 1, False), (2, 2, False), (3, 0, True),
            ], places  # fmt: skip


def test_the_same_event_in_two_hands_is_indexed_once(edge_world):
    """A zombie and its successor on the same event, in every order: one version, live, whole."""
    for number, places in enumerate(itertools.combinations(range(2 * STEPS), STEPS)):
        id = f"d{number}"
        event = edge_world.said(id, 1, OLDER)
        writers = [edge_world.writer().steps([event]) for _ in range(2)]
        for n in range(2 * STEPS):
            next(writers[n in places], None)
        head = edge_world.index.heads([f"note/{id}"])[f"note/{id}"]
        points = edge_world.index.points(head.current.points(f"note/{id}"))
        assert len(head.entries) == 1 and [point.until for point, _ in points.values()] == [None] * 3


def test_many_writers_over_many_documents_end_with_the_newest(edge_world):
    """Batches that share documents, interleaved step by step: each document ends with its newest version and all its past."""
    batches = [[edge_world.said(f"d{(n + k) % 5}", 10 * n + k, f"text {n} {k}", time=10 * n + k) for k in range(4)] for n in range(6)]
    writers = [edge_world.writer().steps(batch) for batch in batches]
    while writers:
        writers = [writer for writer in writers if next(writer, None)]
    for name in range(5):
        versions = sorted(one.model.version for batch in batches for one in batch if one.model.id == f"d{name}")
        head = edge_world.index.heads([f"note/d{name}"])[f"note/d{name}"]
        assert [entry.version for entry in head.entries] == versions
        points = edge_world.index.points([point for entry in head.entries for point in entry.points(head.document)])
        assert [one.version for one, _ in points.values() if one.until is None] == [versions[-1]]
