import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lineage import name_pages
from headwater.lineage.event import Position
from headwater.lineage.names import Thing, lying_at, mentioning, names_of, number, things
from headwater.lineage.near import near
from headwater.lineage.numbering import FEW, numbers
from headwater.lineage.record import fact
from headwater.lineage.records import known_to, question
from headwater.lineage.store import Store, open_database
from headwater.lineage.testing import document, landings


def test_a_verdict_is_found_by_its_review_and_its_decision():
    """A verdict is no thing of its own: who asks for the review or the decision finds it."""
    data = {"review": "r", "decision": "d", "verdict": "approved", "by": "Ada", "reason": "", "accepted": True}
    record = fact("verdict", "decide/warn", "verdict", "r", logged=1, parents=("r", "d"), data=data)
    assert list(things(record)) == [Thing("review", "r"), Thing("decision", "d")]
    assert sorted(names_of(record)) == ["d", "r"]


@pytest.mark.parametrize(("least", "levels"), [(20, {2, 3, 4}), (40, {1, 2, 3}), (200, {1}), (10_000, set())])
def test_names_are_found_one_by_one_and_many_at_once_in_runs_and_before(monkeypatch, least, levels):
    """However many names are asked for, in long runs, short ones or none: what names one is found, in landing order."""
    _short(monkeypatch, least)
    said = [document(Position("b", "flights", 0, offset)) for offset in range(100)]
    with _store(said) as store, store.cursor() as cursor:
        assert {level for (level,) in cursor.execute("SELECT DISTINCT level FROM name_pages").fetchall()} == levels
        for many in (1, 2, 13, name_pages.SINGLY, name_pages.SINGLY + 1, 100):
            wanted = said[-many:]
            asked = [name for record in reversed(wanted) for name in names_of(record)] + ["nobody"]
            assert [record.id for record in mentioning(cursor, asked)] == [record.id for record in wanted]
            assert [record.id for record in mentioning(cursor, [record.ref for record in wanted])] == [record.id for record in wanted]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_pages_hold_every_name_at_its_places_and_what_is_forgotten_is_gone(data):
    """Whatever names land, also many alike or at places beyond 32 bits: a range of them gives its places, but forgotten ones."""
    numbers, far = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 3).map(lambda n: n << 40)), st.integers(0, 2**34)
    pairs = data.draw(st.lists(st.tuples(numbers, far), min_size=1, max_size=80, unique_by=lambda pair: pair[1]))
    gone = data.draw(st.lists(st.sampled_from([place for _, place in pairs]), unique=True))
    low, high = sorted((data.draw(numbers), data.draw(numbers)))
    with pytest.MonkeyPatch.context() as patch, Store(":memory:", clock=lambda: 1) as store, store.cursor() as cursor:
        _short(patch, 8)
        for name, place in pairs:
            cursor.execute("INSERT INTO names_new VALUES (?, ?)", [name, place])
            name_pages.sort_names(cursor)
        assert sorted(np.concatenate(list(name_pages.placed(cursor))).tolist()) == sorted(place for _, place in pairs)
        name_pages.forget(cursor, gone)
        cursor.execute("DELETE FROM names_new WHERE list_contains(?, seq)", [gone])
        exact = name_pages.places(cursor, {(name, name): None for name, _ in pairs})
        for (name, _), found in exact.items():
            assert {place for other, place in pairs if other == name and place not in gone} <= set(found)
            assert set(found) <= {place for other, place in pairs if other >> 32 == name >> 32 and place not in gone}
        within = set(name_pages.places(cursor, [(low, high)])[low, high])
        least = {place for name, place in pairs if low <= name <= high and place not in gone}
        most = {place for name, place in pairs if low >> 32 <= name >> 32 <= high >> 32 and place not in gone}
        assert least <= within <= most


def test_a_question_reads_each_record_once():
    """Whoever asks twice for a record within one question gets the same, from memory."""
    said = [document(Position("b", "flights", 0, offset)) for offset in range(3)]
    with _store(said) as store, question(store) as cursor:
        (first,) = mentioning(cursor, [said[1].ref])
        assert mentioning(cursor, [said[1].ref])[0] is first
        assert lying_at(cursor, [str(said[1].position), str(said[2].position)])[1].id == said[2].id
        assert set(known_to(cursor)) == {1, 2}


def test_the_names_of_an_older_file_are_carried_into_pages(monkeypatch, tmp_path):
    """A file whose names lie in the runs of form 5 answers as before once it is opened, through pages."""
    _short(monkeypatch, 40)
    said = [document(Position("b", "flights", 0, offset)) for offset in range(30)]
    path = tmp_path / "lineage.duckdb"
    with _store(said, path) as store, store.cursor() as cursor:
        expected = [record.id for record in mentioning(cursor, [record.ref for record in said])]
    with duckdb.connect(path) as old:
        old.execute("DELETE FROM names_new; DELETE FROM migrations WHERE number >= 6; DROP TABLE name_pages")
        old.execute("CREATE TABLE names (name UBIGINT, seq BIGINT)")
        for seq, record in enumerate(said):
            old.executemany("INSERT INTO names VALUES (?, ?)", [(number(name), seq) for name in names_of(record)])
    with open_database(path, read_only=True) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM name_pages").fetchall() == [(True,)]
        assert [record.id for record in mentioning(connection.cursor(), [record.ref for record in said])] == expected


@given(st.sets(st.integers(-50, 500)), st.integers(1, 40))
def test_conditions_near_numbers_hold_for_these_and_each_for_one(numbers, apart):
    """Of a column's values exactly the numbers asked for fulfil a condition, and each of them one only."""
    conditions = list(near("n", numbers, apart=apart))
    arms = " UNION ALL ".join(f"SELECT n FROM range(-60, 510) t(n) WHERE {where}" for where in conditions)
    assert sorted(n for (n,) in duckdb.sql(arms).fetchall()) == sorted(numbers) if conditions else not numbers


def _short(patch, least):
    """Runs of so many names, and of 2, 4 and 8 times as many."""
    patch.setattr(name_pages, "LENGTHS", (least, least * 2, least * 4, least * 8))
    patch.setattr(name_pages, "NAMES_IN_A_PAGE", 8)
    patch.setattr(name_pages, "NAMES_AT_ONCE", 16)


def _store(said, path=":memory:"):
    store = Store(path, clock=lambda: 1)
    for n, landing in enumerate(landings(said, 7)):
        store.land([landing._replace(offset=n)])
    return store


HEX = st.text("0123456789abcdefABCDEF-_ g", min_size=14, max_size=20)
UPPER = st.uuids().map(lambda id: id.hex.upper())
IDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=70) | st.uuids().map(str) | HEX | UPPER


@settings(max_examples=40, deadline=None)
@given(st.lists(IDS, max_size=40))
def test_a_name_does_not_depend_on_how_many_are_made_at_once(some):
    """Many side by side have the numbers that each has alone: what lands in a large batch is found like what landed in a small one."""
    many = [*some, *(f"{n} of {len(some)}" for n in range(FEW + 1))]
    assert numbers(many).tolist() == [number(text) for text in many]
