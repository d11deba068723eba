import itertools
from typing import Any

import pytest

from headwater.enrichers.document import Document, DocumentType
from headwater.enrichers.head import ENTRIES_KEPT
from headwater.enrichers.index import Indexer
from headwater.enrichers.testing import HashEmbedder
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import DocumentUnavailable, IndexFailed, Misused, Unavailable
from headwater.lineage.event import Event, Position

HOUR = 3_600_000_000


def outcomes(indexed: Any) -> list[str]:
    return [outcome for _, outcome in indexed.outcomes]


def test_outcomes_say_what_became_of_each_event_in_order(world):
    """A batch gives exactly one outcome per position, in order: indexed, unchanged, stale, deleted, passed."""
    batch = [
        world.said("a", 2, "snow at Newark"),
        world.said("a", 3, "snow at Newark"),
        world.said("a", 1, "rain at Newark"),
        world.said("b", 1, None),
        world.said("c", 1, "nothing to say"),
        world.said("a", 4, None),
        world.said("a", 5, "sun at Newark"),
    ]
    indexed = world.writer().index(batch)
    assert outcomes(indexed) == ["indexed", "unchanged", "stale", "deleted", "passed", "deleted", "indexed"]
    assert [position for position, _ in indexed.outcomes] == [one.position for one in batch]
    assert world.texts("Newark") == ["sun at Newark"]
    assert world.index.count()[:2] == (1, 1)


def test_replays_are_unchanged_and_embed_nothing(world):
    """Events that come again after a restart change nothing and cost no embedding, and new events with old content neither."""
    batch = [world.said("a", 1, "one"), world.said("a", 2, "two"), world.said("b", 1, "three")]
    world.writer().index(batch)
    before = list(world.embedder.embedded)
    again = world.writer().index([*batch, world.said("b", 9, "three")])
    assert outcomes(again) == ["unchanged"] * 4
    assert world.embedder.embedded == before
    assert outcomes(world.writer().index([world.said("b", 5, "late")])) == ["stale"]
    assert sorted(world.texts("late three")) == ["three", "two"]


def test_what_left_the_history_is_removed_though_two_writers_in_a_row_died_before_it(world):
    """Killed between flip and sweep, and its successor as well: the third removes what both left behind, to the point."""
    events = [world.said("a", version, f"text {version}") for version in (1, 2, 3, 4)]
    options = {"history_us": HOUR}
    world.writer(**options).index(events[:2])
    for batch in (events[2:3], events[2:]):
        assert "flip" in itertools.takewhile(lambda step: step != "reread", world.writer(**options).steps(batch))
    world.writer(**options).index(events[2:])
    states, _ = world.index.states_from(None, 100)
    assert sorted((state.point.text, state.live) for state in states) == [("text 3", False), ("text 4", True)]


def test_a_changed_field_alone_is_a_new_version_without_embedding(world):
    """Fields are content: changing one indexes a version, whose vector is the one already there."""
    world.writer().index([world.said("a", 1, "snow", place="EWR")])
    before = len(world.embedder.embedded)
    assert outcomes(world.writer().index([world.said("a", 2, "snow", place="JFK")])) == ["indexed"]
    assert len(world.embedder.embedded) == before
    assert world.texts("snow", where={"place": "EWR"}) == []
    assert world.texts("snow", where={"place": "JFK"}) == ["snow"]


def test_only_changed_chunks_are_embedded(world):
    """Of a document with sections only those that changed are embedded."""
    world.writer().index([world.said("a", 1, "# T\n\n## A\n\nfirst\n\n## B\n\nsecond")])
    world.embedder.embedded.clear()
    world.writer().index([world.said("a", 2, "# T\n\n## A\n\nfirst\n\n## B\n\nchanged")])
    assert world.embedder.embedded == ["T › B\nchanged"]


def test_deleted_stays_deleted_for_older_versions_and_returns_for_newer(world):
    """A late older version never brings a deleted document back, a newer one does."""
    write = world.writer()
    write.index([world.said("a", 3, None)])
    assert outcomes(write.index([world.said("a", 2, "late")])) == ["stale"]
    assert world.texts("late") == []
    assert outcomes(write.index([world.said("a", 4, None)])) == ["unchanged"]
    assert outcomes(write.index([world.said("a", 5, "back")])) == ["indexed"]
    assert world.texts("back late") == ["back"]


def test_equal_versions_are_ordered_by_event_id_whatever_comes_first(world):
    """Two events of one version: the same one wins in both orders of arrival."""
    for name, order in (("x", "AB"), ("y", "BA")):
        for event in order:
            world.writer().index([world.said(name, 1, f"text {event}", event=event)])
    heads = world.index.heads(["note/x", "note/y"])
    assert heads["note/x"].event == heads["note/y"].event


def test_failures_are_told_and_are_in_no_outcome(world):
    """An event whose document function raises is a failure of its own, the rest of the batch is indexed."""
    batch = [world.said("a", 1, "fine"), world.said("b", 1, "boom"), world.said("c", -1, "negative")]
    indexed = world.writer().index(batch)
    assert [(one.position.offset, type(error)) for one, error in indexed.failures] == [(1, IndexFailed), (2, IndexFailed)]
    assert [position.offset for position, _ in indexed.outcomes] == [0]
    assert "note" in str(indexed.failures[0][1]) and "boom" in str(indexed.failures[0][1])


def test_a_text_that_cannot_be_embedded_fails_alone(world):
    """The embedder refusing one text of a batch dead-letters the event that brought it, no other."""

    class Picky(HashEmbedder):
        def embed(self, texts):
            if any("bad" in text for text in texts):
                raise ValueError("bad text")
            return super().embed(texts)

    world.embedder = Picky(16)
    batch = [world.said("a", 1, "good"), world.said("a", 2, "bad"), world.said("b", 1, "fine")]
    indexed = world.writer().index(batch)
    assert [one.position.offset for one, _ in indexed.failures] == [1]
    assert indexed.outcomes == [(batch[0].position, "indexed"), (batch[2].position, "indexed")]
    assert sorted(world.texts("good")) == ["fine", "good"]


@pytest.mark.parametrize("texts", [["bad"], ["good", "bad", "fine"], ["bad", "bad too"]])
def test_an_embedder_that_has_no_answer_for_one_text_may_have_it_later(world, texts):
    """While it answers for any other, that text alone failed, in a way that may pass: for its event, and no other."""

    class Slow(HashEmbedder):
        def embed(self, texts):
            if any("bad" in text for text in texts):
                raise TimeoutError("no answer in 5 s")
            return super().embed(texts)

    world.embedder = Slow(16)
    indexed = world.writer().index([world.said(f"d{n}", 1, text) for n, text in enumerate(texts)])
    assert [type(error) for _, error in indexed.failures] == [DocumentUnavailable] * sum("bad" in text for text in texts)
    assert outcomes(indexed) == ["indexed"] * sum("bad" not in text for text in texts)


@pytest.mark.parametrize("many", [1, 3])
def test_an_embedder_that_answers_nothing_at_all_is_unavailable(world, many):
    """Then the batch may be given again, whole: no event is at fault."""

    class Dead(HashEmbedder):
        def embed(self, texts):
            raise ConnectionRefusedError("no route")

    world.embedder = Dead(16)
    with pytest.raises(Unavailable, match="does not answer"):
        world.writer().index([world.said(f"d{n}", 1, f"text {n}") for n in range(many)])


@pytest.mark.parametrize(("error", "kind"), [(ConnectionResetError("gone"), DocumentUnavailable), (ValueError("wrong"), IndexFailed)])
def test_a_document_function_may_fail_for_now_or_for_good(world, error, kind):
    """By what it raises: tried again, or a dead letter."""

    def said(note, facts):
        raise error

    types = [DocumentType("note", world.topic, said, "version")]
    indexed = Indexer(world.index, world.embedder, types, clock=lambda: 1).index([world.said("a", 1, "x")])
    assert [type(refusal) for _, refusal in indexed.failures] == [kind]


def test_an_id_and_fields_that_every_chunk_would_bear_are_bounded_together(world):
    """One event fills no memory: what stands beside each of many chunks may be so large together; beside few, larger."""

    def said(note, facts):
        return Document(note.id, note.text, {"whole": "w" * 100_000})

    indexed = Indexer(world.index, world.embedder, [DocumentType("note", world.topic, said, "version")], clock=lambda: 1).index([
        world.said("few", 1, "# a\n\nsnow\n\n" * 100), world.said("many", 1, "# a\n\nsnow\n\n" * 200),
        world.said("i" * 200_000, 1, "# a\n\nsnow\n\n" * 100),
    ])  # fmt: skip
    assert [position.offset for position, _ in indexed.outcomes] == [0]
    assert [type(error) for _, error in indexed.failures] == [IndexFailed] * 2
    assert "beside each of its 200 chunks" in str(indexed.failures[0][1])
    assert "begins 'note/" + "i" * 35 + "'" in str(indexed.failures[1][1])


def test_marks_and_unknown_topics_pass(world):
    """Time marks and topics without a document type end as passed."""
    mark = Received(Position("b", "notes", 0, 7), Event(id="m", source="s", type=MARK, time=1), None, 5)
    other = Received(Position("b", "other", 0, 0), Event(id="o", source="s", type="t", time=1), object(), 5)
    assert outcomes(world.writer().index([mark, other])) == ["passed", "passed"]


def test_the_gravest_outcome_of_several_documents_wins(edge_world):
    """One event, two documents: indexed outweighs passed and unchanged."""
    types = [
        DocumentType("one", edge_world.topic, lambda note, _: Document(note.id, "same"), "version"),
        DocumentType("two", edge_world.topic, lambda note, _: Document(note.id, note.text or ""), "version"),
        DocumentType("three", edge_world.topic, lambda note, _: None, "version"),
    ]
    write = Indexer(edge_world.index, edge_world.embedder, types, clock=lambda: 1)
    assert outcomes(write.index([edge_world.said("a", 1, "x")])) == ["indexed"]
    assert outcomes(write.index([edge_world.said("a", 2, "y")])) == ["indexed"]
    assert outcomes(write.index([edge_world.said("a", 3, "y")])) == ["unchanged"]


def test_two_types_of_one_name_are_refused(edge_world):
    """Document types need names of their own."""
    kinds = [DocumentType("one", edge_world.topic, lambda note, _: None)] * 2
    with pytest.raises(Misused, match="one"):
        Indexer(edge_world.index, edge_world.embedder, kinds, clock=lambda: 1)


def test_records_name_every_chunk_as_the_index_holds_it(world):
    """A document record lists ids, hashes and texts of its chunks; an unchanged version those that were there already."""
    write = world.writer()
    first = write.index([world.said("a", 1, "snow")]).records[0]
    again = write.index([world.said("a", 2, "snow")]).records[0]
    assert first.ref == "note/a" and first.kind == "document" and first.outcome == "indexed" and first.at == HOUR
    assert first.parents == ("b/notes/0/0",) and first.data["appended"] == 5 and first.data["settled"] == 1_000
    assert first.data["chunks"][0]["text"] == "snow"
    assert again.outcome == "unchanged" and again.data["chunks"] == first.data["chunks"]
    assert world.reader().chunk(first.data["chunks"][0]["id"]).text == "snow"


def test_history_is_bounded_by_event_time_and_by_number(world):
    """Versions superseded longer ago than the history, and those beyond fifty, leave the index with their points."""
    write = world.writer(history_us=10 * HOUR)
    write.index([world.said("a", hour, f"text {hour}") for hour in range(1, 31)])
    head = world.index.heads(["note/a"])["note/a"]
    assert [entry.version for entry in head.entries] == list(range(20, 31)) and head.floor == 20 * HOUR
    assert world.index.count().points == 1 + 11
    write = world.writer(history_us=10**6 * HOUR)
    for start in range(0, 60, 20):
        write.index([world.said("b", 100 + n, f"text {n}") for n in range(start, start + 20)])
    assert len(world.index.heads(["note/b"])["note/b"].entries) == ENTRIES_KEPT
    assert world.index.count().points == 1 + 11 + 1 + ENTRIES_KEPT


def test_every_order_of_arrival_gives_the_same_present_and_past(edge_world):
    """Whatever the order of four versions, deletion included, the index answers alike now and at every past moment."""
    said = [(1, "one"), (2, "two"), (3, None), (4, "four")]
    answers = set()
    for number, order in enumerate(itertools.permutations(said)):
        name = f"d{number}"
        for version, text in order:
            edge_world.writer().index([edge_world.said(name, version, text and f"{text} {name}")])
        head = edge_world.index.heads([f"note/{name}"])[f"note/{name}"]
        seen = [head.at(None), *(head.at(hour * HOUR) for hour in range(6))]
        answers.add(tuple(entry and entry.version for entry in seen))
    assert answers == {(4, None, 1, 2, None, 4, 4)}
