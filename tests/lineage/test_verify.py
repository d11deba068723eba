import duckdb
import pytest

from headwater.lineage.event import Position
from headwater.lineage.record import run_of
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import BROKER, landings, sample_records
from headwater.lineage.verify import verify

LANDED = sample_records()
RANGED = [n for n, record in enumerate(LANDED) if record.kind in ("consumed", "outcome")]


def landed(records, size=100):
    store = Store(":memory:", clock=lambda: 1)
    store.land(landings(records, size))
    return store


def offences(records, **options):
    with landed(records) as store:
        verdict = verify(store, **{"in_flight_ok": False, **options})
        assert verdict.ok is (not verdict.offences)
        return verdict.offences


def test_the_sample_is_conserved():
    """Law 1 holds for the sample walk, acted or waiting, with totals by flow and outcome."""
    assert offences(LANDED) == () and offences(sample_records(state="waiting")) == ()
    with landed(LANDED) as store:
        assert verify(store, in_flight_ok=False).totals["index"] == {"indexed": 12, "dead_lettered": 1}
    with landed(sample_records(state="waiting")) as store:
        assert verify(store, in_flight_ok=False).totals["decide/recover"] == {"waiting": 1}


@pytest.mark.parametrize("n", RANGED)
def test_a_dropped_run_is_named(n):
    """Law 1: any consumed or outcome record dropped is named with flow, topic, partition and offset."""
    record = LANDED[n]
    found = offences([*LANDED[:n], *LANDED[n + 1 :]])
    assert found and f"flow {record.flow}, {record.topic}/{record.partition}@{record.first}" in found[0]


@pytest.mark.parametrize("n", RANGED)
def test_a_doubled_run_is_named(n):
    """Law 1: any consumed or outcome record said twice in one message is named."""
    record = LANDED[n]
    found = offences([*LANDED[: n + 1], *LANDED[n:]])
    assert found and f"flow {record.flow}, {record.topic}/{record.partition}@{record.first}" in found[0] and "twice" in found[0]


@pytest.mark.parametrize("kind", ["consumed", "outcome"])
@pytest.mark.parametrize("offset", [0, 5, 12])
def test_one_position_cut_out_or_counted_twice_is_named(kind, offset):
    """Law 1: one event dropped or doubled inside a run is found by ranges and by counts."""
    record = next(r for r in LANDED if r.kind == kind and r.flow == "index" and r.first <= offset < r.next)
    rest = [r for r in LANDED if r is not record]
    place = Position(BROKER, "flights", 0, record.first)
    parts = [(a, b) for a, b in ((record.first, offset), (offset + 1, record.next)) if a < b]
    cut = [run_of(kind, "index", place._replace(offset=a), b, b - a, 1, record.outcome) for a, b in parts]
    assert f"flow index, flights/0@{offset}" in offences([*cut, *rest])[0]
    doubled = run_of(kind, "index", place, record.next, record.count + 1, 1, record.outcome)
    assert "reported twice" in offences([doubled, *rest])[0]
    lost = run_of(kind, "index", place, record.next, record.count - 1, 1, record.outcome)
    assert "is missing" in offences([lost, *rest])[0]


def test_a_hole_is_named_unless_it_is_absent():
    """Law 1: offsets between consumed ones that are neither consumed nor absent are named; absent ones are accounted for."""
    def runs(*spans):
        for first, following in spans:
            place = Position(BROKER, "t", 0, first)
            yield run_of("consumed", "index", place, following, following - first, 1)
            yield run_of("outcome", "index", place, following, following - first, 1, "passed")

    assert offences([*runs((0, 3), (5, 8))]) == ("flow index, t/0@3 to 4: neither consumed nor absent, between offsets that are",)
    absent = run_of("absent", "index", Position(BROKER, "t", 0, 3), 5, 0, 1)
    assert offences([*runs((0, 3), (5, 8)), absent]) == ()
    wrong = run_of("outcome", "index", Position(BROKER, "t", 0, 3), 4, 1, 1, "passed")
    assert "holds no message" in offences([*runs((0, 3), (5, 8)), absent, wrong])[0]


def test_what_is_on_its_way_is_no_offence_while_flows_run():
    """While flows run a consumed position without outcome is in flight, and an outcome may land ahead of its run, but never inside it."""
    place = Position(BROKER, "t", 0, 0)
    consumed, ended = run_of("consumed", "index", place, 5, 5, 1), run_of("outcome", "index", place, 3, 3, 1, "passed")
    with landed([consumed, ended]) as store:
        assert verify(store, in_flight_ok=True).ok
        assert verify(store, in_flight_ok=True).totals == {"index": {"passed": 3, "in_flight": 2}}
        assert verify(store, in_flight_ok=False).offences == ("flow index, t/0@3 to 4: consumed, but without an outcome",)
    ahead = run_of("outcome", "index", place._replace(offset=5), 7, 2, 1, "passed")
    assert offences([consumed, ahead], in_flight_ok=True) == ()
    assert any("never consumed" in offence for offence in offences([consumed, ended, ahead]))


def test_moved_names_one_successor():
    """Law 1: a moved position names where it went, and no two go to one place."""
    def moved(offset, ref):
        return run_of("outcome", "index", Position(BROKER, "t", 0, offset), offset + 1, 1, 1, "moved", ref)

    consumed = run_of("consumed", "index", Position(BROKER, "t", 0, 0), 2, 2, 1)
    assert offences([consumed, moved(0, "b/r/0/0"), moved(1, "b/r/0/1")]) == ()
    assert "no successor" in offences([consumed, moved(0, "b/r/0/0"), moved(1, "")])[0]
    assert "two positions name b/r/0/0" in offences([consumed, moved(0, "b/r/0/0"), moved(1, "b/r/0/0")])[0]


def test_an_outcome_without_its_decision_is_named():
    """Law 1: an (activation, agent) that ended acted or waiting has its decision on record."""
    rest = [record for record in LANDED if record.kind != "decision"]
    assert any("which has no record" in offence for offence in offences(rest))


EDITS = {
    "change": "UPDATE records SET data = replace(data::VARCHAR, '0.81', '0.91') WHERE kind = 'decision'",
    "change a time": "UPDATE records SET logged = logged + INTERVAL 1 SECOND WHERE seq = 3",
    "change and hide": "UPDATE records SET outcome = 'stale', leaf = (SELECT leaf FROM records WHERE seq = 4) WHERE seq = 3",
    "drop": "DELETE FROM records WHERE seq = 5",
    "drop the last": "DELETE FROM records WHERE seq = (SELECT max(seq) FROM records)",
    "drop a batch": "DELETE FROM records WHERE batch = 2",
    "drop a batch and its link": "DELETE FROM records WHERE batch = 2; DELETE FROM chain WHERE batch = 2",
    "insert": "INSERT INTO records SELECT * REPLACE (1000 AS seq) FROM records WHERE seq = 5",
    "insert in no batch": "INSERT INTO records SELECT * REPLACE (77 AS batch) FROM records WHERE seq = 5",
    "reorder": "UPDATE records SET seq = 9 - seq WHERE seq IN (4, 5)",
    "rewrite a root": "UPDATE chain SET root = repeat('a', 64) WHERE batch = 2",
    "rewrite a head": "UPDATE chain SET head = repeat('a', 64) WHERE batch = (SELECT max(batch) FROM chain)",
}


@pytest.mark.parametrize("edit", EDITS)
def test_tampering_is_found(edit, tmp_path):
    """Law 8: changing, dropping, inserting or reordering landed records is found."""
    path = tmp_path / "lineage.duckdb"
    with Store(path, clock=lambda: 1) as store:
        for landing in landings(LANDED, 9):
            store.land([landing])
    with duckdb.connect(str(path)) as connection:
        connection.execute(EDITS[edit])
    with Store(path, clock=lambda: 1) as store:
        verdict = verify(store, in_flight_ok=True)
        assert not verdict.ok
        assert any(word in verdict.offences[0] for word in ("record", "batch", "chain"))


def test_cutting_the_end_is_found_with_a_kept_head(tmp_path):
    """Law 8: records and links dropped from the end together are found by a head kept outside the database."""
    path = tmp_path / "lineage.duckdb"
    with Store(path, clock=lambda: 1) as store:
        for landing in landings(LANDED, 9):
            store.land([landing])
        kept = store.head()
        assert verify(store, in_flight_ok=True, kept=kept).ok
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM records WHERE batch = 3; DELETE FROM chain WHERE batch = 3")
    with Store(path, clock=lambda: 1) as store:
        assert verify(store, in_flight_ok=True).ok
        assert "kept head" in verify(store, in_flight_ok=True, kept=kept).offences[0]


def test_an_overlap_slipped_into_the_table_is_named(tmp_path):
    """Law 1 as SQL needs no landing: an overlap written straight into the table is named as well."""
    path = tmp_path / "lineage.duckdb"
    with Store(path, clock=lambda: 1) as store:
        store.land([Landing(BROKER, 0, 0, LANDED)])
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO records SELECT * FROM records WHERE kind = 'outcome' AND flow = 'index' AND outcome = 'indexed'")
    with Store(path, clock=lambda: 1) as store:
        assert any("flights/0@0 to 11: two outcomes" in offence for offence in verify(store, in_flight_ok=True).offences)
