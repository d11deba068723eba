"""How points lie in the embedded engine: the form of today, and the one before it."""

from hypothesis import given
from hypothesis import strategies as st
from qdrant_edge import Point as EdgePoint
from qdrant_edge import SparseVector, UpdateOperation

from headwater.enrichers.document import head_id
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.engine import Half, Point, Range, Scope, State, tag_of
from headwater.enrichers.head import Entry, Head
from headwater.enrichers.packed import Belonging, belonging, pack_head, pack_point, unpack_head, unpack_point, unpack_state
from headwater.enrichers.point import DENSE, SPARSE
from headwater.enrichers.sparse import of_document, of_query
from headwater.enrichers.testing import HashEmbedder

NUMBERS = st.integers(-(2**53), 2**53)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FIELDS = st.dictionaries(TEXTS, st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS, max_size=3)
POINTS = st.builds(
    Point, document=TEXTS, type=TEXTS, version=NUMBERS, event=TEXTS, time=NUMBERS, n=st.integers(0, 9), hash=TEXTS, text=TEXTS,
    section=TEXTS, position=TEXTS, fields=FIELDS, until=st.none() | NUMBERS,
)  # fmt: skip
ENTRIES = st.builds(Entry, version=NUMBERS, event=TEXTS, time=NUMBERS, chunks=st.integers(0, 9), digest=TEXTS, deleted=st.booleans())
MANY = st.lists(ENTRIES, min_size=1, max_size=3).map(tuple)
HEADS = st.builds(
    Head, document=TEXTS, type=TEXTS, version=NUMBERS, event=TEXTS, time=NUMBERS, entries=MANY, floor=NUMBERS, rev=st.integers(1, 99),
    hashes=st.lists(TEXTS, max_size=2).map(tuple), gone=st.lists(ENTRIES, max_size=2).map(tuple),
)  # fmt: skip


@given(POINTS)
def test_a_point_comes_out_as_it_went_in(point):
    """Packed or in the form before, a payload gives the same point, and says alike whose it is and whether it is live."""
    whose = Belonging(point.document, point.version, point.event)
    for payload in (pack_point(point), point.payload()):
        assert unpack_point(payload) == point
        assert belonging(payload) == whose
        assert unpack_state("7", payload) == State("7", point, point.until is None)


@given(POINTS, NUMBERS)
def test_what_superseded_a_point_counts_before_its_body(point, until):
    """The engine sets `until` beside the body: a point read afterwards says that one."""
    assert unpack_point({**pack_point(point), "until": until}).until == until


@given(HEADS)
def test_a_head_comes_out_as_it_went_in(head):
    """Packed or in the form before, a payload gives the same head."""
    assert unpack_head(pack_head(head)) == unpack_head(head.payload()) == head


def test_an_index_of_the_form_before_is_read_and_gone_on_with(tmp_path):
    """Points that an older headwater wrote are found by words, meaning and fields, are counted, superseded and flipped like our own."""
    embedder = HashEmbedder(64)
    index = EdgeIndex(tmp_path / "index", embedder.size)
    point = Point(document="note/a", type="note", version=1, event="e1", time=5, n=0, hash="h", text="snow at noon", fields={"depth": 3})
    [dense] = embedder.embed([point.text])
    words = of_document(point.text)
    head = Head("note/a", "note", 1, "e1", 5, (Entry(1, "e1", 5, 1, "d"),), ("h",))
    vectors = {DENSE: dense.tolist(), SPARSE: SparseVector(list(words.indices), list(words.values))}
    former = [EdgePoint(point.id, vectors, point.payload()), EdgePoint(head_id("note/a"), {}, head.payload())]
    index._shard.update(UpdateOperation.upsert_points(former))
    halves = [Half(dense, 5), Half(of_query("snow"), 5)]
    for scope in (Scope(), Scope(tags=((tag_of("depth", 3),),)), Scope(types=("note",), ranges=(Range("depth", gte=2),))):
        assert [[one.id for one in found] for found in index.find(halves, scope)] == [[point.id], [point.id]]
    assert (index.heads(["note/a"]), index.count().documents, index.count().chunks) == ({"note/a": head}, 1, 1)
    index.supersede({9: [point.id]})
    assert index.states([point.id])[point.id].point.until == 9
    assert index.find(halves, Scope()) == [[], []]
    following = Head("note/a", "note", 2, "e2", 9, (*head.entries, Entry(2, "e2", 9, 0, "f", deleted=True)), rev=2)
    index.flip([following])
    assert index.heads(["note/a"]) == {"note/a": following}
    assert index.count().documents == 0
    index.close()
