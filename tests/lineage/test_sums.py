"""What is kept of what events and decisions add is what counting everything says."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headwater.lineage import name_pages
from headwater.lineage.erase import plan
from headwater.lineage.errors import NotFound
from headwater.lineage.event import Position
from headwater.lineage.landing import Landing
from headwater.lineage.retention import aged
from headwater.lineage.store import Store
from headwater.lineage.sums import DECISION, EVENT, OTHER, counted, kept
from headwater.lineage.testing import BROKER, WALL, document, landings, sample_records
from headwater.lineage.verify import verify

SUBJECTS = ["2013-02-08-EWR-UA-1500", "2013-02-08-EWR-UA-1503", "procedures/rebooking.md", "EWR"]


def told(store):
    """(as kept, as counted)."""
    with store.cursor() as cursor:
        return kept(cursor), counted(cursor)


def _erase(store, data):
    try:
        removal = plan(store, data.draw(st.sampled_from(SUBJECTS)), by="ann", why="asked", day="2026-11-29")[1]
    except NotFound:
        return
    store.remove(removal, rewrite=False)


def _age(store, data):
    bounds = st.one_of(st.none(), st.sampled_from([WALL + 55_000, WALL + 90_001, WALL + 165_001, WALL + 10**9]))
    removal = aged(store, texts_before=data.draw(bounds), records_before=data.draw(bounds), by="ann", why="policy")[1]
    if not removal.empty:
        store.remove(removal, rewrite=False)


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_whatever_lands_and_goes_the_sums_are_what_counting_says(data):
    """Any batches, with replays, landed at once or ahead, before and after names are sorted, with erasures and retention between them."""
    queue = landings([*sample_records(state=data.draw(st.sampled_from(["acted", "approved"])))], data.draw(st.integers(3, 20)))
    with pytest.MonkeyPatch.context() as patch, Store(":memory:", clock=lambda: WALL + 10**9) as store:
        patch.setattr(name_pages, "LENGTHS", (30, 60, 120, 480))
        at = 0
        while at < len(queue):
            step = data.draw(st.sampled_from(["land", "ahead", "again", "erase", "age"]))
            if step in ("land", "ahead"):
                land = store.land if step == "land" else store.land_ahead
                size = data.draw(st.integers(1, 3))
                land(queue[at : at + size])
                at += size
            elif step == "again":  # what a flow says once more after a crash, under new offsets
                store.land([data.draw(st.sampled_from(queue))._replace(partition=9)])
            else:
                (_erase if step == "erase" else _age)(store, data)
        store.settle()
        as_kept, as_counted = told(store)
        assert as_kept == as_counted
        assert as_kept[EVENT].records >= 19 and as_kept[DECISION].records > 3


def test_what_removal_takes_and_leaves_is_summed(tmp_path):
    """An erasure takes bytes of texts and adds a record that is neither an event's nor a decision's; reasoning goes with its names."""
    with Store(tmp_path / "lineage.duckdb", clock=lambda: WALL + 10**9) as store:
        store.land(landings(sample_records(), 1_000))
        before, _ = told(store)
        store.remove(plan(store, SUBJECTS[0], by="ann", why="asked", day="2026-11-29")[1])
        erased, as_counted = told(store)
        assert erased == as_counted and erased[OTHER].records == before[OTHER].records + 1
        assert erased[EVENT].text_bytes < before[EVENT].text_bytes and erased[DECISION].text_bytes < before[DECISION].text_bytes
        assert erased[EVENT].texts == before[EVENT].texts
        store.remove(aged(store, texts_before=None, records_before=WALL + 10**9, by="ann", why="policy")[1])
        pruned, as_counted = told(store)
        assert pruned == as_counted and pruned[DECISION].records == before[DECISION].records - 4
        assert pruned[DECISION].names < before[DECISION].names and pruned[EVENT].names == erased[EVENT].names


def test_a_batch_that_fails_adds_nothing(monkeypatch):
    """The sums change in the batch's own transaction: what is rolled back was not counted."""
    with Store(":memory:", clock=lambda: 1) as store:
        first, second = landings(sample_records(), 20)[:2]
        store.land([first])
        before, _ = told(store)
        monkeypatch.setattr("headwater.lineage.store.enough", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.land([second])
        assert told(store) == (before, before)


def test_an_older_file_is_counted_when_it_is_opened(tmp_path):
    """Brought to this form, a file has the sums and tells texts as if it had landed in it; the log says what takes so long."""
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        shown = document(Position(BROKER, "flights", 0, 99))
        store.land([*landings(sample_records(), 1_000), Landing(BROKER, 1, 0, [shown])])
        expected, _ = told(store)
        with store.cursor() as cursor:
            whose = cursor.execute("SELECT n, decided FROM contents ORDER BY n").fetchall()
            assert {decided for _, decided in whose} == {True, False}
            cursor.execute("DROP TABLE sums; ALTER TABLE contents DROP COLUMN decided; DELETE FROM migrations WHERE number >= 9")
    with capture_logs() as said, Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store, store.cursor() as cursor:
        assert cursor.execute("SELECT n, decided FROM contents ORDER BY n").fetchall() == whose
        assert kept(cursor) == counted(cursor) == expected
        [record] = cursor.execute("SELECT count(*) FROM records").fetchall()
        assert [(each["form"], each["records"]) for each in said] == [(8, *record)]  # whoever waits is told why


def test_a_file_that_says_hashes_twice_says_them_once_when_it_is_opened(tmp_path):
    """The hashes beside texts go, texts are known again, and the file proves what it did."""
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        store.land(landings(sample_records(), 1_000))
        with store.cursor() as cursor:
            texts = cursor.execute("SELECT n, salt, body FROM contents ORDER BY n").fetchall()
            cursor.execute("ALTER TABLE contents ADD COLUMN hash VARCHAR; UPDATE contents SET hash = sha256(salt || body)")
            cursor.execute("UPDATE sums SET text_bytes = text_bytes + 64 * texts; DELETE FROM migrations WHERE number >= 14")
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store, store.cursor() as cursor:
        again = [msgspec.structs.replace(record, id=f"{record.id}+") for record in sample_records() if record.first < 0]
        store.land([Landing(BROKER, 1, 0, again)])
        assert cursor.execute("FROM contents").description[2][0] == "salt"
        assert cursor.execute("SELECT n, salt, body FROM contents ORDER BY n").fetchall() == texts
        assert kept(cursor) == counted(cursor)
        assert verify(store, in_flight_ok=False).ok


def test_a_documents_texts_fall_to_events_whoever_tells_of_them_first():
    """Whether a search told of a document's text before the document landed or after, the sums are the same."""
    records = sample_records()
    documents = [record for record in records if record.kind == "document"]
    rest = [record for record in records if record.kind != "document"]
    found = []
    for said in ([*documents, *rest], [*rest, *documents]):
        with Store(":memory:", clock=lambda: 1) as store:
            for landing in landings(said, 9):
                store.land([landing])
            found.append({what: (each.records, each.texts) for what, each in told(store)[0].items()})
            assert told(store)[0] == told(store)[1]
    assert found[0] == found[1]
