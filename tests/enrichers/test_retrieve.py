import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.engine import Half, Scope
from headwater.enrichers.retrieve import Heads, fuse
from headwater.lineage.errors import Behind, Misused, NotFound
from headwater.lineage.event import Position

HOUR = 3_600_000_000
WORDS = ("snow", "fog", "wind", "rain", "delay", "cancelled", "gate", "runway", "crew", "fuel", "rebook", "hold", "ice", "storm")


def texts(count, seed=0):
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=6)) for _ in range(count)]


def seen(answer):
    return [(hit.id, hit.score, hit.dense) for hit in answer.results]


def test_the_same_content_gives_the_same_answer_whatever_its_order(worlds):
    """Two indexes filled with the same events in other orders and batches, one with a crash in between, answer byte for byte alike."""
    answers = []
    for order in range(3):
        world = worlds()
        events = [world.said(f"d{n}", 1 + n % 3, text) for n, text in enumerate(texts(200) + ["all the same"] * 100)]
        events += [world.said(f"d{n}", 9, f"newer {n}") for n in range(0, 300, 7)]
        random.Random(order).shuffle(events)
        crashed = world.writer().steps(events[:50])
        for _ in range(order):
            next(crashed)
        size = 10 + 50 * order
        for start in range(0, len(events), size):
            world.writer().index(events[start : start + size])
        reader = world.reader()
        queries = ["snow delay at the gate", "all the same", "newer", "crew fuel", "rebook"]
        answers.append([seen(reader.search(query, limit=12, as_of=at)) for query in queries for at in (None, 2 * HOUR, 10 * HOUR)])
    assert answers[0] == answers[1] == answers[2]
    assert all(len(answer) == 12 for answer in answers[0] if answer)


@pytest.mark.parametrize("asked", ["NFC", "NFD"])
@pytest.mark.parametrize("said", ["NFC", "NFD"])
def test_a_word_is_found_however_its_accents_are_written(world, said, asked):
    """As part of the letter or after it: by words it is the same term."""
    world.writer().index([world.said("a", 1, unicodedata.normalize(said, "Überfahrt nach Zürich")), world.said("b", 1, "snow")])
    found = world.reader().search(unicodedata.normalize(asked, "zürich"), mode="sparse")
    assert [hit.document for hit in found.results] == ["note/a"]


def test_texts_of_one_score_are_found_however_many(world):
    """More texts than are fetched at first share a score: a search by words finds them, and says the same once it fetches more at once."""
    world.writer().index([world.said(f"d{n}", 1, "snow at the gate") for n in range(100)])
    reader = world.reader()
    first, again = (seen(reader.search("snow", limit=12, mode="sparse")) for _ in range(2))
    assert len(first) == 12 and again == first


def test_searching_the_past_ignores_what_came_later(world):
    """A search at an event time gives the same answer before and after newer versions, deletions and documents arrive."""
    write = world.writer()
    write.index([world.said(f"d{n}", 1 + n % 4, text) for n, text in enumerate(texts(40))])
    before = seen(world.reader().search("snow and storm at the gate", as_of=4 * HOUR))
    assert len(before) == 10
    write.index([world.said(f"d{n}", 6, None if n % 2 else "snow and storm") for n in range(0, 40, 3)])
    write.index([world.said(f"new{n}", 7, "snow storm gate") for n in range(20)])
    assert seen(world.reader().search("snow and storm at the gate", as_of=4 * HOUR)) == before
    past = world.reader().search("snow", as_of=2 * HOUR, limit=40)
    assert {hit.version for hit in past.results} == {1, 2} and past.too_new == 0


def test_a_version_is_found_from_its_time_until_the_next(world):
    """From each document the latest version not later than the time asked for; before the first and after a deletion none."""
    write = world.writer()
    write.index([world.said("a", 2, "two"), world.said("a", 4, "four"), world.said("a", 6, None), world.said("a", 8, "eight")])
    found = [world.texts("two four eight", as_of=hour * HOUR) for hour in range(1, 10)]
    assert found == [[], ["two"], ["two"], ["four"], ["four"], [], [], ["eight"], ["eight"]]


def test_what_left_the_history_is_told(world):
    """A search further back than the history says of how many documents the version of that time is no longer kept."""
    world.writer(history_us=2 * HOUR).index([world.said("a", hour, f"text {hour}") for hour in (1, 2, 9)] + [world.said("b", 1, "other")])
    answer = world.reader().search("text other", as_of=HOUR)
    assert [hit.text for hit in answer.results] == ["other"] and answer.too_new == 1
    assert world.reader().search("text other", as_of=9 * HOUR).too_new == 0


def test_points_of_an_unfinished_write_are_never_found(world):
    """Chunks put but not yet flipped to, and chunks superseded but not yet marked, do not count, now or in the past."""
    world.writer().index([world.said("a", 1, "oldest")])
    steps = world.writer().steps([world.said("a", 2, "newest")])
    assert [next(steps), next(steps)] == ["read", "put"]
    assert world.texts("oldest newest") == ["oldest"]
    assert world.texts("oldest newest", as_of=9 * HOUR) == ["oldest"]
    assert next(steps) == "flip"
    assert world.texts("oldest newest") == ["newest"]
    assert world.texts("oldest newest", as_of=9 * HOUR) == ["newest"]
    assert world.texts("oldest newest", as_of=HOUR) == ["oldest"]


def test_a_document_replaced_during_the_search_is_still_found(edge_world):
    """A writer between the search and the reading of the heads does not make a document vanish from the answer."""
    edge_world.writer().index([edge_world.said("a", 1, "snow one")])
    index, once = edge_world.index, []

    class Racing:
        def __getattr__(self, name):
            return getattr(index, name)

        def heads(self, documents):
            if not once:
                once.append(edge_world.writer().index([edge_world.said("a", 2, "snow two")]))
            return index.heads(documents)

    reader = edge_world.reader()
    reader.index = Racing()
    assert [hit.text for hit in reader.search("snow").results] == ["snow two"]


def test_filters_on_every_kind_of_value_and_on_types(world):
    """`where` matches text and booleans, one value or one of several; `types` chooses document types."""
    world.writer().index([
        world.said("a", 1, "snow a", place="EWR", urgent=True),
        world.said("b", 1, "snow b", place="JFK"),
        world.said("c", 1, "snow c", place="LGA"),
    ])
    assert world.texts("snow", where={"place": "EWR"}) == ["snow a"]
    assert sorted(world.texts("snow", where={"place": ["EWR", "LGA"]})) == ["snow a", "snow c"]
    assert world.texts("snow", where={"urgent": True}) == ["snow a"]
    assert world.texts("snow", where={"place": "JFK", "urgent": True}) == []
    assert world.texts("snow", where={"place": "JFK"}, types=["note"], as_of=HOUR) == ["snow b"]
    assert world.texts("snow", types=["other"]) == []


def test_words_find_what_meaning_misses_and_a_hit_says_where_it_came_from(world):
    """A rare word ranks its chunk first; the hit carries cosine, fields, version, position."""
    others = [world.said(f"d{n}", 1, text) for n, text in enumerate(texts(60))]
    world.writer().index([*others, world.said("q", 3, "gate flight UA1545 snow")])
    hit = world.reader().search("snow at the gate UA1545").results[0]
    assert (hit.document, hit.type, hit.version, hit.time, hit.position) == ("note/q", "note", 3, 3 * HOUR, "b/notes/0/60")
    assert hit.fields == {"place": "EWR", "urgent": False}
    query, text = world.embedder.embed(["snow at the gate UA1545", hit.text])
    assert hit.dense == pytest.approx(float(np.dot(query, text)), abs=1e-4)


def test_documents_and_chunks_by_id(world):
    """A document is given with its kept versions, newest first; unknown ids are NotFound."""
    world.writer().index([world.said("a", 1, "one"), world.said("a", 2, "two"), world.said("a", 3, None)])
    reader = world.reader()
    document = reader.document("note/a")
    assert document["deleted"] and [version["version"] for version in document["versions"]] == [3, 2, 1]
    assert [chunk["text"] for version in document["versions"] for chunk in version["chunks"]] == ["two", "one"]
    assert document["versions"][1]["until"] == "1970-01-01T03:00:00Z"
    assert reader.chunk(document["versions"][2]["chunks"][0]["id"]).text == "one"
    for missing in (lambda: reader.document("note/x"), lambda: reader.chunk("00000000-0000-0000-0000-000000000000")):
        with pytest.raises(NotFound):
            missing()


def test_progress_is_read_before_the_search_and_waited_for(edge_world):
    """An answer's `as_of` covers what it found; a position not settled in time is Behind."""
    edge_world.progress.start("notes", 0, 0)
    with pytest.raises(Behind):
        edge_world.reader().search("x", after=[Position("b", "notes", 0, 0)], wait_s=0)
    edge_world.writer().index([edge_world.said("a", 1, "snow")])
    edge_world.progress.settle("notes", 0, 1)
    answer = edge_world.reader().search("snow", after=[Position("b", "notes", 0, 0)], wait_s=0)
    assert answer.as_of == {"notes/0": 1} and answer.broker == "b" and len(answer.results) == 1


@pytest.mark.parametrize(("text", "limit"), [(" ", 10), ("x", 0), ("x", 1_001)])
def test_senseless_searches_are_refused(edge_world, text, limit):
    """An empty text and a limit out of bounds are Misused."""
    with pytest.raises(Misused):
        edge_world.reader().search(text, limit=limit)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4, unique=True), max_size=3), st.randoms())
def test_fusion_depends_on_ranks_alone(groups, source):
    """Shuffling a group of equal scores changes nothing; a better rank never scores lower."""
    shuffled = [source.sample(ids, len(ids)) for ids in groups]
    assert fuse([groups, groups], 8) == fuse([shuffled, shuffled], 8)
    alone = dict(fuse([[[f"{n}{id}" for id in ids] for n, ids in enumerate(groups)]], 99))
    scores = [alone[f"{n}{ids[0]}"] for n, ids in enumerate(groups)]
    assert scores == sorted(scores, reverse=True)


def test_each_head_is_read_once(edge_world):
    """However many chunks of a document are found, its head is read once."""
    edge_world.writer().index([edge_world.said("a", 1, "# A\n\nsnow\n\n# B\n\nsnow snow")])
    heads = Heads(edge_world.index, None)
    reads, index = [], edge_world.index
    read = {"heads": lambda self, ids: reads.append(ids) or index.heads(ids), "belongings": lambda self, ids: index.belongings(ids)}
    heads._index = type("Counting", (), read)()
    vector = edge_world.embedder.embed(["snow"])[0]
    [found] = index.find([Half(vector, 10)], Scope())
    ids = [one.id for one in found]
    assert len(heads.counting(ids)) == len(heads.counting(ids)) == 2
    assert reads == [["note/a"]]
