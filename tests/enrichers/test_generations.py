"""Generations of an index, on both engines: which one answers, and how that changes under readers and writers."""

import threading

import pytest
from qdrant_client import QdrantClient

from headwater.enrichers.aliases import QdrantGenerations
from headwater.enrichers.engine import Row
from headwater.enrichers.generations import EdgeGenerations
from headwater.enrichers.index import Indexer
from headwater.enrichers.indexing import Indexing
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.switch import switch
from headwater.enrichers.testing import HashEmbedder
from headwater.lineage.errors import Misused


class Shared(QdrantClient):
    """A local client that several indexes share: none of them closes it."""

    def close(self, **options):
        pass


@pytest.fixture(params=["edge", "memory"])
def generations(request, tmp_path):
    if request.param == "edge":
        return EdgeGenerations(tmp_path / "index")
    client = Shared(":memory:")
    return QdrantGenerations(lambda: client, "notes")


def test_the_one_beside_answers_only_after_the_turn_and_keeps_its_size(generations):
    """What is in either is in neither the other; a start opens the one that answers, with the vectors it was made with."""
    index = generations.current(16)
    index.save_progress([Row("b", "t", 0, 1, 1)])
    assert not generations.begun()
    beside = generations.beside(24)
    beside.save_progress([Row("b", "t", 0, 2, 2)])
    assert generations.begun() and index.load_progress()[0].next == 1
    for one in (index, beside):
        one.close()
    assert generations.current(24).size == 16, "made with 16, whatever is asked"
    if isinstance(generations, QdrantGenerations):
        generations.turn(24)
        again = generations.current(99)
        assert again.size == 24 and again.load_progress()[0].next == 2 and not generations.begun()


def test_a_turn_outlives_the_process_and_what_was_beside_it_is_dropped(generations):
    """After the turn a new start opens the other one; `drop` leaves only that."""
    generations.current(16).close()
    beside = generations.beside(24)
    beside.keep("name", {"number": 2})
    beside.close()
    generations.turn(24)
    generations.drop()
    index = generations.current(16)
    assert index.kept("name") == {"number": 2} and index.size == 24 and not generations.begun()
    index.close()
    generations.beside(8).close()
    generations.drop()
    assert not generations.begun()


def test_an_index_from_before_there_were_generations_is_the_first(tmp_path):
    """A folder or a collection without pointer or alias goes on as it is."""
    from headwater.enrichers.edge import EdgeIndex
    from headwater.enrichers.qdrant import QdrantIndex

    client = Shared(":memory:")
    for index, generations in (
        (EdgeIndex(tmp_path / "index", 16), EdgeGenerations(tmp_path / "index")),
        (QdrantIndex(client, "notes", 16), QdrantGenerations(lambda: client, "notes")),
    ):
        index.keep("name", {"number": 1})
        index.close()
        again = generations.current(16)
        assert again.kept("name") == {"number": 1}
        again.close()


def test_a_damaged_pointer_is_told_of(tmp_path):
    """It is not guessed which folder is the index."""
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(Misused, match=r"index\.json"):
        EdgeGenerations(tmp_path / "index").current(16)


def test_readers_and_writers_never_notice_the_turn(edge_world, worlds):
    """While one index after another answers, each search finds all that was settled before it, and no call meets a closed index."""
    index, turner = switch(edge_world.index)
    embedder = HashEmbedder(16)
    indexing = Indexing(edge_world.writer())
    reader = Retriever(index, embedder, edge_world.progress)
    settled, stop, wrong = [0], threading.Event(), []

    def write() -> None:
        for number in range(60):
            indexing.index([edge_world.said(f"d{number}", 1, f"snow {number}")])
            settled[0] = number + 1

    def read() -> None:
        while not stop.is_set():
            before = settled[0]
            try:
                found = {hit.document for hit in reader.search("snow", limit=100).results}
            except Exception as error:
                wrong.append(error)
                return
            wrong.extend(f"note/d{n}" for n in range(before) if f"note/d{n}" not in found)

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        beside = worlds()
        following = beside.writer()
        indexing.begin(following)
        history, _ = turner.index.heads_from(None, 1_000)
        following.index([edge_world.said(head.document[5:], 1, f"snow {head.document[6:]}") for head in history])
        former = turner.index
        indexing.turn(lambda beside=beside: turner.turn(beside.index, lambda former: None) and None)
        assert turner.index is not former
    threads[0].join()
    stop.set()
    threads[1].join()
    assert wrong == []
    assert len(index.heads_from(None, 1_000)[0]) == 60


def test_vectors_of_unchanged_texts_come_from_the_former_index_in_any_version(edge_world, worlds):
    """Also those of superseded versions: a rebuild embeds nothing that the former index holds."""
    events = [edge_world.said("a", 1, "one"), edge_world.said("a", 2, "two"), edge_world.said("b", 1, "three")]
    edge_world.writer().index(events)
    beside, embedder = worlds(), HashEmbedder(16)
    kinds = edge_world.writer()._types["notes"]
    Indexer(beside.index, embedder, kinds, clock=lambda: 1, former=edge_world.index).index(events)
    assert embedder.embedded == []
    ids = [id for head in beside.index.heads(["note/a"]).values() for entry in head.entries for id in entry.points("note/a")]
    assert sorted(point.text for point, _ in beside.index.points(ids).values()) == ["one", "two"]
