from importlib.metadata import version
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

import headwater.enrichers.edge as edge
from headwater.enrichers import sparse
from headwater.enrichers.document import head_id
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.engine import Half, Scope, Storage, tag_of
from headwater.enrichers.head import Head
from headwater.enrichers.qdrant import SERVER, QdrantIndex, _filter, connect
from headwater.lineage.errors import Misused, Unavailable

HOUR = 3_600_000_000


def test_an_index_survives_a_restart_and_goes_on(tmp_path, worlds):
    """Closed and opened again, the engine holds heads, points, history; replays are unchanged."""
    world = worlds()
    events = [world.said("a", 1, "one"), world.said("a", 2, "two")]
    world.writer().index(events)
    world.index.close()
    world.index = EdgeIndex(tmp_path / "0" / "index", 16)
    assert world.texts("one two") == ["two"] and world.texts("one two", as_of=HOUR) == ["one"]
    assert [outcome for _, outcome in world.writer().index(events).outcomes] == ["unchanged", "unchanged"]


def test_a_second_owner_and_another_vector_size_are_refused(tmp_path):
    """A directory belongs to one process; an index made for another embedder says so."""
    index = EdgeIndex(tmp_path / "i", 16)
    with pytest.raises(Unavailable, match="another process"):
        EdgeIndex(tmp_path / "i", 16)
    index.close()
    with pytest.raises(Misused):
        EdgeIndex(tmp_path / "i", 32)
    client = QdrantClient(":memory:")
    QdrantIndex(client, "notes", 16)
    with pytest.raises(Misused, match="size 16"):
        QdrantIndex(client, "notes", 32)


def test_a_server_that_is_not_there_is_unavailable():
    """No answer is Unavailable, which a flow may try again."""
    with pytest.raises(Unavailable, match="does not answer"):
        connect("http://127.0.0.1:9", "notes", size=16)


def test_a_server_that_is_not_there_by_grpc_is_unavailable():
    """By gRPC as well, naming the setting to look at."""
    with pytest.raises(Unavailable, match="HEADWATER_QDRANT__GRPC_PORT"):
        connect("http://127.0.0.1:9", "notes", size=16, grpc_port=10)


def test_conditions_survive_the_way_to_grpc():
    """The conditions on which every guarantee rests, and the scope of a search, are in the message that goes to the server."""
    never = models.Filter(must=[models.FieldCondition(key="rev", match=models.MatchValue(value=-1))])
    points = models.PointsList(points=[models.PointStruct(id=1, vector={}, payload={})], update_filter=never)
    sent = RestToGrpc.convert_update_operation(models.UpsertOperation(upsert=points))
    assert sent.upsert.update_filter == RestToGrpc.convert_filter(never) and sent.upsert.update_filter.must
    scope = _filter(Scope(5, (("a=1", "b=2"),), ("note",)))
    back = GrpcToRest.convert_filter(RestToGrpc.convert_filter(scope))
    assert (back.must, back.must_not) == (scope.must, scope.must_not)
    corpus = models.SearchParams(exact=True, idf=models.IdfCorpusParams(corpus=scope))
    assert GrpcToRest.convert_search_params(RestToGrpc.convert_search_params(corpus)).idf.corpus.must == scope.must


def test_a_flip_computed_from_an_old_head_is_refused(world):
    """A head is replaced only by one computed from it."""
    world.writer().index([world.said("a", 1, "one")])
    head = world.index.heads(["note/a"])["note/a"]
    newer = Head.of(head.payload() | {"version": 5, "rev": 2})
    world.index.flip([newer])
    world.index.flip([Head.of(head.payload() | {"version": 3, "rev": 2})])
    world.index.flip([Head.of(head.payload() | {"version": 9, "rev": 1})])
    assert world.index.heads(["note/a"])["note/a"] == newer


def test_put_points_are_never_overwritten_and_missing_ids_are_passed_over(world):
    """Putting a point again leaves it as it is; superseding and deleting what is not there is no error; `until` only falls."""
    world.writer().index([world.said("a", 1, "one"), world.said("a", 2, "two")])
    (old,) = [entry.points("note/a")[0] for entry in world.index.heads(["note/a"])["note/a"].entries[:1]]
    world.writer().index([world.said("a", 1, "one"), world.said("a", 2, "two")])
    world.index.supersede({HOUR: [old, "00000000-0000-0000-0000-000000000000"], 9 * HOUR: [old]})
    assert world.index.points([old])[old][0].until == HOUR
    world.index.delete(["00000000-0000-0000-0000-000000000000"])
    world.index.delete([old])
    assert world.index.points([old]) == {}


def test_searches_without_words_or_hits_are_empty(world):
    """Stop words alone match nothing by words; an empty index answers."""
    assert world.texts("the of") == []
    world.writer().index([world.said("a", 1, "snow")])
    assert world.texts("the of") == ["snow"]


def test_a_remembered_head_is_the_stored_one(edge_world, monkeypatch):
    """A head is read from the engine once, and again after every flip and deletion of it."""
    index, reads = edge_world.index, []
    retrieve = index._retrieve
    monkeypatch.setattr(index, "_retrieve", lambda ids, **more: reads.extend(ids) or retrieve(ids, **more))
    edge_world.writer().index([edge_world.said("a", 1, "one"), edge_world.said("b", 1, "one")])
    before = index.heads(["note/a", "note/b"])
    reads.clear()
    assert index.heads(["note/a", "note/b"]) == before and reads == []
    index.flip([Head.of(before["note/a"].payload() | {"version": 5, "rev": 2})])
    assert index.heads(["note/a"])["note/a"].version == 5 and index.heads(["note/b"]) == {"note/b": before["note/b"]}
    assert reads == [head_id("note/a")]
    index.delete([head_id("note/b")])
    assert index.heads(["note/b"]) == {}


def test_a_point_removed_during_a_search_is_not_in_it(edge_world, monkeypatch):
    """Between finding points and reading what they are, one is removed: the search begins again and finds the others."""
    index, searches = edge_world.index, 0
    edge_world.writer().index([edge_world.said("a", 1, "snow a"), edge_world.said("b", 1, "snow b")])
    (gone,) = index.heads(["note/a"])["note/a"].current.points("note/a")
    scored = index._scored

    def racing(requests):
        nonlocal searches
        searches += 1
        found = scored(requests)
        index.delete([gone])
        return found

    monkeypatch.setattr(index, "_scored", racing)
    assert edge_world.texts("snow") == ["snow b"] and searches == 2


def test_what_a_point_belongs_to_is_told_of_those_that_are_there(world):
    """Document, version and event of each, remembered or read; of one that was removed or never was, nothing."""
    world.writer().index([world.said("a", 1, "snow a"), world.said("b", 2, "snow b")])
    (a,), (b,) = (world.index.heads([name])[name].current.points(name) for name in ("note/a", "note/b"))
    for _ in range(2):
        told = world.index.belongings([a, b, "00000000-0000-0000-0000-000000000000"])
        assert {id: (whose.document, whose.version) for id, whose in told.items()} == {a: ("note/a", 1), b: ("note/b", 2)}
    [found] = world.index.find([Half(sparse.of_query("snow"), 10)], Scope())
    assert {one.id for one in found} == {a, b}
    world.index.delete([a])
    assert set(world.index.belongings([a, b])) == {b}


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (2**53, float(2**53))])
def test_equal_numbers_are_one_tag(one, other):
    """An integer and the float equal to it are the same tag; a number, its text and a boolean are not."""
    assert tag_of("n", one) == tag_of("n", other)
    assert len({tag_of("n", 1), tag_of("n", "1"), tag_of("n", True), tag_of("n", None), tag_of("m", 1)}) == 5


def test_optimising_loses_nothing(edge_world, monkeypatch):
    """What was optimised is all there, is still searched, and is written on."""
    monkeypatch.setattr(edge, "EXACT_BELOW", 100)
    for start in (0, 200):
        edge_world.writer().index([edge_world.said(f"d{n}", 1, f"snow {n}") for n in range(start, start + 200)])
        edge_world.index.optimise()
    vector = edge_world.embedder.embed(["snow 7"])[0]
    [found] = edge_world.index.find([Half(vector, 1_000)], Scope())
    assert len(found) == 400


def test_kept_values_lie_beside_the_points_and_count_for_nothing(world):
    """The last value kept under a name is there, and is neither a document nor found."""
    assert world.index.kept("fingerprint") is None
    for value in ({"model": "a"}, {"model": "b", "kinds": {"note": 1}}):
        world.index.keep("fingerprint", value)
    assert world.index.kept("fingerprint") == {"model": "b", "kinds": {"note": 1}} and world.index.kept("other") is None
    assert world.index.count()[:2] == (0, 0) and world.texts("a b note") == []


def test_every_head_and_every_point_is_listed_once(world):
    """Pages, whatever their size, hold each head and each chunk point exactly once, with what it says of being live."""
    world.writer().index([world.said(f"d{n}", version, f"text {n} {version}") for n in range(7) for version in (1, 2)])
    for list_from, expected in ((world.index.heads_from, 7), (world.index.states_from, 14)):
        found, cursor = list_from(None, 3)
        while cursor is not None:
            more, cursor = list_from(cursor, 3)
            found += more
        assert len(found) == expected == len({str(one) for one in found})
    states = world.index.states([one.id for one in found] + ["00000000-0000-0000-0000-000000000000"])
    assert len(states) == 14 and all(one.live == (one.point.version == 2) == (one.point.until is None) for one in states.values())


@pytest.mark.parametrize("storage", [Storage("scalar"), Storage("binary", on_disk=True)], ids=str)
@pytest.mark.parametrize("engine", ["edge", "memory"])
def test_quantised_and_on_disk_searches_find_the_same(tmp_path, worlds, engine, storage):
    """However vectors are kept, the nearest is found, and what was written is there after a restart."""
    client = QdrantClient(":memory:")
    index = EdgeIndex(tmp_path / "i", 16, storage) if engine == "edge" else QdrantIndex(client, "notes", 16, storage)
    world = worlds()
    world.index.close()
    world.index = index
    world.writer().index([world.said(f"d{n}", 1, f"snow {n} {n * n}") for n in range(40)])
    assert world.texts("snow 7 49")[0] == "snow 7 49"
    if engine == "edge":
        index.optimise()
        index.close()
        world.index = EdgeIndex(tmp_path / "i", 16, storage)
    assert world.texts("snow 7 49")[0] == "snow 7 49"


class Forgetful(QdrantClient):
    """A client of a server from before conditional upserts: the condition is passed over."""

    def upsert(self, *args, update_filter=None, **more):
        return super().upsert(*args, **more)


def test_a_server_that_knows_no_conditions_is_refused():
    """Misused, naming the version to use; for it would overwrite newer versions with older ones, silently."""
    with pytest.raises(Misused, match=r"overwrites.*v1\.\d+"):
        QdrantIndex(Forgetful(":memory:"), "notes", 16)


def test_the_proof_of_conditions_leaves_nothing_behind():
    """Opened twice, an empty index is empty."""
    client = QdrantClient(":memory:")
    for _ in range(2):
        assert QdrantIndex(client, "notes", 16).count() == (0, 0, 0)


def test_the_composed_server_is_the_one_the_client_belongs_to():
    """docker-compose.yml, the message and the installed client name one version."""
    compose = (Path(__file__).parents[2] / "docker-compose.yml").read_text()
    assert f"image: qdrant/qdrant:{SERVER}." in compose
    assert version("qdrant-client").startswith(SERVER.removeprefix("v") + ".")
