import pytest

from headwater.lineage.contents import NOT_KEPT
from headwater.lineage.landing import Landing
from headwater.lineage.retention import REASONING, aged
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, WALL, landings, name, sample_records
from headwater.lineage.verify import verify
from headwater.lineage.why import why

LATER = WALL + 10_000_000


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "lineage.duckdb", clock=lambda: LATER) as opened:
        for landing in landings(sample_records(), 9):
            opened.land([landing])
        yield opened


def count(store, query):
    with store.cursor() as cursor:
        return cursor.execute(query).fetchall()[0][0]


def test_nothing_is_too_old_unless_it_is_said(store):
    """Without a policy all is kept; a policy that reaches back before the first record takes nothing either."""
    for bound in (None, WALL):
        told, removal = aged(store, texts_before=bound, records_before=bound, by="ann", why="policy")
        assert removal.empty and told.texts == told.records == 0


def test_what_is_pruned_leaves_its_place_in_the_chain(store):
    """Old reasoning goes with its texts, the decision stays, every older head and law 1 prove as before, and so after the next landing."""
    before = store.head()
    told, removal = aged(store, texts_before=None, records_before=LATER, by="ann", why="policy")
    assert told.records == count(store, f"SELECT count(*) FROM records WHERE kind IN {REASONING}") == 4 and told.texts > 0
    store.remove(removal)
    assert count(store, f"SELECT count(*) FROM records WHERE kind IN {REASONING}") == 0 and count(store, "SELECT count(*) FROM pruned") == 4
    assert verify(store, in_flight_ok=False, kept=[before, store.head()]).offences == ()
    decided = why(store, name("decision")).decisions[0]
    assert decided.summary == "rebook passengers" and not decided.retrievals and not decided.models
    store.land([Landing(BROKER, 5, 0, [record for record in sample_records() if record.kind == "effect"])])
    again, _ = aged(store, texts_before=None, records_before=LATER, by="ann", why="policy")
    assert again.records == 0 and verify(store, in_flight_ok=False).ok


def test_a_text_is_kept_as_long_as_a_young_record_refers_to_it(store):
    """Texts go by the newest record that refers to them; what stands in their place says that they are not kept."""
    seen = next(record for record in sample_records() if record.kind == "retrieval")
    _, removal = aged(store, texts_before=seen.logged, records_before=None, by="ann", why="policy")
    store.remove(removal, rewrite=False)
    texts = {row["text"] for row in rows(store, "SELECT text FROM chunks")}
    assert texts == {"United flight UA 1500 is cancelled.", NOT_KEPT}, "the one that the agent was shown later is kept"
    assert why(store, name("decision")).decisions[0].summary == "rebook passengers"
    assert count(store, "SELECT count(*) FROM removals WHERE kind = 'retention'") == 1
    assert verify(store, in_flight_ok=False).ok


def rows(store, query):
    with store.cursor() as cursor:
        return cursor.sql(query).pl().to_dicts()


def test_a_record_taken_out_beyond_the_policy_is_found(store):
    """Law 8: moving one record more among the pruned breaks the root that the retention's own record tells."""
    _, removal = aged(store, texts_before=None, records_before=LATER, by="ann", why="policy")
    id = store.remove(removal).id
    with store.cursor() as cursor:
        cursor.execute("INSERT INTO pruned SELECT seq, batch, leaf, ? FROM records WHERE kind = 'outcome' LIMIT 1", [id])
        cursor.execute("DELETE FROM records WHERE seq IN (SELECT seq FROM pruned)")
    assert any("whose record says that it took 4" in offence for offence in verify(store, in_flight_ok=True).offences)
