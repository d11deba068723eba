"""What a search may wish for beyond the best chunks: mode, recency, reranking, groups, neighbours, several at once, the whole past."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.document import point_id
from headwater.enrichers.freshness import Progress
from headwater.enrichers.query import Query
from headwater.enrichers.rank import decayed, grouped
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.testing import Overlap
from headwater.lineage.errors import Behind, Forgotten, Misused, Unavailable
from headwater.lineage.event import Position

HOUR = 3_600_000_000
SECTIONS = "\n\n".join(f"# Part {n}\n\nsnow step {n}" for n in range(5))


def texts(answer):
    return [hit.text for hit in answer.results]


def ids(answer):
    return [hit.id for hit in answer.results]


def test_each_mode_is_its_half(world):
    """Dense orders by cosine, sparse finds only what shares words, hybrid finds what either finds."""
    said = ["snow at the gate", "gate gate gate", "fog", "rain in the morning", "snow snow"]
    world.writer().index([world.said(str(n), 1, text) for n, text in enumerate(said)])
    reader = world.reader()
    dense, sparse, hybrid = (reader.search("snow gate", mode=mode) for mode in ("dense", "sparse", "hybrid"))
    assert [hit.dense for hit in dense.results] == sorted((hit.dense for hit in dense.results), reverse=True)
    assert len(dense.results) == 5 and set(texts(sparse)) == {said[0], said[1], said[4]}
    assert set(ids(hybrid)) == set(ids(dense)) | set(ids(sparse))
    with pytest.raises(Misused, match="hybrid, dense, sparse"):
        reader.search("snow", mode="fuzzy")


def test_recency_halves_with_age(world):
    """Of chunks alike in all but age each half-life halves the score; in the past age counts from there; the clock is injected."""
    world.writer().index([world.said(str(hour), hour, "snow") for hour in (2, 4, 8)])
    reader = Retriever(world.index, world.embedder, Progress("b", lambda: 8 * HOUR, ["notes"]))
    scores = {hit.version: hit.score for hit in reader.search("snow", recency="2h").results}
    assert list(scores) == [8, 4, 2]
    assert [scores[4], scores[2]] == pytest.approx([scores[8] / 4, scores[8] / 8], rel=1e-3)
    assert len({hit.score for hit in reader.search("snow").results}) == 1
    then = reader.search("snow", recency="2h", as_of=5 * HOUR).results
    assert [hit.version for hit in then] == [4, 2] and then[1].score == pytest.approx(then[0].score / 2, rel=1e-3)


def test_of_what_is_all_very_old_the_newer_still_comes_first(world):
    """Data of another decade under a half-life of hours: scores are too small to tell apart, their order is not."""
    world.writer().index([world.said(str(hour), hour, "snow") for hour in random.Random(1).sample(range(1, 30), 12)])
    reader = Retriever(world.index, world.embedder, Progress("b", lambda: 400_000 * HOUR, ["notes"]))
    versions = [hit.version for hit in reader.search("snow", recency="1h", limit=12).results]
    assert versions == sorted(versions, reverse=True) and len(versions) == 12


def test_the_reranker_has_the_last_word_unless_told_off(world):
    """Its order is the answer's, among the candidates only; `rerank=false` skips it."""
    world.writer().index([world.said(str(n), 1, text) for n, text in enumerate(["snow snow snow", "gate", "snow at the gate now", "fog"])])
    judge = Overlap()
    reader = Retriever(world.index, world.embedder, world.progress, reranker=judge)
    assert texts(reader.search("snow gate now", limit=1)) == ["snow at the gate now"]
    [(query, seen)] = judge.asked
    assert query == "snow gate now" and set(seen) <= {"snow snow snow", "gate", "snow at the gate now", "fog"}
    plain = world.reader().search("snow gate now")
    assert reader.search("snow gate now", rerank=False) == plain and len(judge.asked) == 1
    with pytest.raises(Misused, match="no reranker"):
        world.reader().search("snow", rerank=True)


@pytest.mark.parametrize("scores", [[1.0], [math.nan] * 2, ["x"] * 2, None])
def test_a_reranker_that_fails_is_named(edge_world, scores):
    """Too few scores, none, or no numbers: Unavailable, with the way around it."""
    edge_world.writer().index([edge_world.said("a", 1, "snow"), edge_world.said("b", 1, "snow fog")])
    judge = type("Broken", (), {"name": "broken", "rerank": lambda self, query, texts: scores})()
    reader = Retriever(edge_world.index, edge_world.embedder, edge_world.progress, reranker=judge)
    with pytest.raises(Unavailable, match=r"broken.*rerank=false"):
        reader.search("snow")


def test_grouped_by_document(world):
    """At most `limit` documents, each with its best chunks side by side, the document with the best chunk first."""
    world.writer().index([
        world.said("long", 1, "\n\n".join(f"# {n}\n\nsnow gate {n}" for n in range(80))), world.said("a", 1, "snow fog"),
        world.said("b", 1, "snow"), world.said("c", 1, "fog and more fog"),
    ])  # fmt: skip
    reader = world.reader()
    assert {hit.document for hit in reader.search("snow gate", limit=3).results} == {"note/long"}
    one = reader.search("snow gate", limit=3, group_by="document").results
    assert len(one) == len({hit.document for hit in one}) == 3 and one[0] == reader.search("snow gate", limit=1).results[0]
    two = reader.search("snow gate", limit=2, group_by="document", per_document=2).results
    assert [hit.document for hit in two] == ["note/long", "note/long", one[1].document]
    assert two[0].score >= two[1].score
    with pytest.raises(Misused, match="group_by"):
        reader.search("snow", per_document=2)


def test_what_is_asked_beyond_the_best_is_found_in_any_crowd(edge_world):
    """Behind a dozen that the words put first hundreds tie: age, a reranker and groups of documents may choose any of these."""
    names = [f"c{n}" for n in range(300)]
    ids = {name: point_id(f"note/{name}", 1, f"{name}-1-snow {name}", 0) for name in names}
    newest, first = max(names, key=ids.__getitem__), min(names, key=ids.__getitem__)
    said = [edge_world.said(f"best{n}", 1, "snow storm") for n in range(12)]
    said += [edge_world.said(name, 1, f"snow {name}", time=1_000 * HOUR if name == newest else HOUR) for name in names]
    edge_world.writer().index([*said, edge_world.said("long", 1, "\n\n".join(f"# {n}\n\nsnow storm snow storm" for n in range(12)))])
    edge_world.progress.clock = lambda: 1_000 * HOUR
    reader = edge_world.reader()
    assert reader.search("snow storm", mode="sparse", limit=10, recency="1h").results[0].document == f"note/{newest}"
    judge = type("Judge", (), {"name": "judge", "rerank": lambda self, query, texts: [float(text == f"snow {first}") for text in texts]})()
    judged = Retriever(edge_world.index, edge_world.embedder, edge_world.progress, reranker=judge)
    assert judged.search("snow storm", mode="sparse", limit=10).results[0].document == f"note/{first}"
    grouped = reader.search("snow storm", mode="sparse", limit=14, group_by="document").results
    assert len({hit.document for hit in grouped}) == 14


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.001, 1)), max_size=30), st.integers(1, 5), st.integers(1, 3))
def test_groups_are_the_best_of_each(found, limit, per_document):
    """Against the definition: documents in the order of their best chunk, of each its best, no chunk twice."""
    fused = sorted(((f"{n:02}", score) for n, (_, score) in enumerate(found)), key=lambda pair: (-pair[1], pair[0]))
    document = {f"{n:02}": name for n, (name, _) in enumerate(found)}
    names = list(dict.fromkeys(document[id] for id, _ in fused))[:limit]
    expected = [pair for name in names for pair in [pair for pair in fused if document[pair[0]] == name][:per_document]]
    assert grouped(fused, document, limit, per_document) == expected


@given(st.lists(st.tuples(st.floats(0.001, 1), st.integers(0, 10**7)), min_size=1, max_size=20))
def test_decay_is_a_product(pairs):
    """Each score times two to the minus age over half-life; the order is that of the products, wherever they can be told apart."""
    query, ages = Query("x", recency="1h"), {str(n): age * 1_000_000 for n, (_, age) in enumerate(pairs)}
    found = decayed([(str(n), score) for n, (score, _) in enumerate(pairs)], lambda id: query.decay(ages[id]))
    for id, score in found:
        assert score == pytest.approx(pairs[int(id)][0] * 0.5 ** (ages[id] / HOUR), rel=1e-6, abs=1e-300)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_neighbours_are_of_the_same_version(world):
    """The chunks before and after a hit, in order, of the version that was found: also in the past, and none beyond the ends."""
    world.writer().index([world.said("a", 1, SECTIONS), world.said("a", 2, SECTIONS.replace("step", "stage"))])
    reader = world.reader()
    for query, options, word in (("snow step 2", {"as_of": HOUR}, "step"), ("snow stage 2", {}, "stage")):
        hits = {hit.n: hit for hit in reader.search(query, neighbours=2, **options).results}
        assert len(hits) == 5
        for n, hit in hits.items():
            expected = [m for m in range(max(0, n - 2), min(5, n + 3)) if m != n]
            assert [piece.n for piece in hit.neighbours] == expected
            assert [piece.text for piece in hit.neighbours] == [f"snow {word} {m}" for m in expected]
            assert all(reader.chunk(piece.id).text == piece.text for piece in hit.neighbours)
    assert reader.search("snow").results[0].neighbours == ()


def test_several_searches_of_one_state(edge_world):
    """A batch answers each query as if it were asked alone, waits once, embeds all texts at once, and tells one `as_of`."""
    edge_world.writer().index([edge_world.said(str(n), 1, text) for n, text in enumerate(["snow", "fog", "snow fog", "gate"])])
    edge_world.progress.settle("notes", 0, 4)
    calls = []

    class Counting(type(edge_world.embedder)):
        def embed(self, texts):
            calls.append(list(texts))
            return super().embed(texts)

    reader = Retriever(edge_world.index, Counting(16), edge_world.progress)
    queries = [Query("snow"), Query("fog", limit=1, mode="sparse"), Query("snow", where={"place": "EWR"})]
    token = Position("b", "notes", 0, 3)
    answers = reader.batch(queries, after=[token])
    assert calls == [["snow", "fog"]]
    alone = [reader.search("snow"), reader.search("fog", limit=1, mode="sparse"), reader.search("snow", where={"place": "EWR"})]
    assert [answer.results for answer in answers] == [answer.results for answer in alone]
    assert all(answer.as_of == {"notes/0": 4} for answer in answers)
    with pytest.raises(Behind):
        reader.batch(queries, after=[Position("b", "notes", 0, 4)], wait_s=0)
    for many in (0, 101):
        with pytest.raises(Misused, match=f"{many} searches"):
            reader.batch([Query("x")] * many)


def test_beyond_the_history_is_refused_with_the_oldest_time_there_is(world):
    """Not `partial`: when a document of the types in question has let go of its version it is Forgotten; the time it names is not."""
    world.writer(history_us=2 * HOUR).index([world.said("a", hour, f"text {hour}") for hour in (1, 2, 9)] + [world.said("b", 1, "other")])
    reader = world.reader()
    with pytest.raises(Forgotten, match=r"oldest time.*T02:00") as refused:
        reader.search("text other", as_of=HOUR, partial=False)
    assert refused.value.details == {"oldest": "1970-01-01T02:00:00Z", "too_new": 1} and refused.value.status == 410
    with pytest.raises(Forgotten, match="type note"):
        reader.search("text", as_of=2 * HOUR - 1, types=["note"], partial=False)
    assert reader.search("text", as_of=2 * HOUR, partial=False).too_new == 0
    assert reader.search("text", as_of=HOUR, types=["flight"], partial=False).results == ()
    partial = reader.search("text other", as_of=HOUR)
    assert (texts(partial), partial.too_new) == (["other"], 1)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_not_refused_is_whole(worlds, seed):
    """Whatever was said in whatever order: a search of the past either is refused, or finds what it finds where nothing is ever forgotten;
    and asked at the time that a refusal names, it is not refused."""
    source = random.Random(seed)
    said = source.sample([(name, hour) for name in "ab" for hour in range(1, 13)], source.randint(3, 14))
    short, whole = worlds(), worlds()
    for world, hours in ((short, 3), (whole, 99)):
        for name, hour in said:
            world.writer(history_us=hours * HOUR).index([world.said(name, hour, f"snow {name} {hour}")])
    answered = []
    for hour in range(14):
        expected = sorted(texts(whole.reader().search("snow", as_of=hour * HOUR)))
        try:
            answered.append(sorted(texts(short.reader().search("snow", as_of=hour * HOUR, partial=False))) == expected)
        except Forgotten:
            oldest = short.index.floor()
            assert oldest > hour * HOUR
            short.reader().search("snow", as_of=oldest, partial=False)
    assert answered and all(answered)


def test_long_histories_come_in_pages(world):
    """Every kept version once, newest first, whatever arrives between two pages; a cursor that is none is refused."""
    world.writer().index([world.said("a", version, f"text {version}") for version in range(1, 8)])
    reader = world.reader()
    pages, cursor = [], None
    while True:
        page = reader.document("note/a", limit=3, cursor=cursor)
        pages.append([version["version"] for version in page["versions"]])
        assert all(version["chunks"] for version in page["versions"])
        if (cursor := page["next"]) is None:
            break
        world.writer().index([world.said("a", 10 + len(pages), "newer")])
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert reader.document("note/a")["next"] is None
    for wrong in ({"cursor": "x"}, {"cursor": "1-"}, {"limit": 0}):
        with pytest.raises(Misused):
            reader.document("note/a", **wrong)


@pytest.mark.parametrize(
    "wish",
    [{"recency": "soon"}, {"recency": "0s"}, {"neighbours": 21}, {"neighbours": -1}, {"group_by": "type"}, {"per_document": 0},
     {"text": "x" * 100_001}, {"text": ""}, {"limit": 0}, {"text": "snow \ud800"}],
)  # fmt: skip
def test_senseless_wishes_are_refused(wish):
    """Misused when the query is made, before anything is waited for or embedded."""
    with pytest.raises(Misused):
        Query(**({"text": "x"} | wish))
