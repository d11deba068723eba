import duckdb
import msgspec
import pytest

from headwater.lineage.event import Position
from headwater.lineage.record import fact, run_of
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


def moved(offset, ref, topic="t"):
    return run_of("outcome", "index", Position(BROKER, topic, 0, offset), offset + 1, 1, 1, "moved", ref)


def rung(number, offset):
    return f"{BROKER}/headwater.retry.{number}/0/{offset}"


def consumed(topic, many, first=0):
    return run_of("consumed", "index", Position(BROKER, topic, 0, first), first + many, many, 1)


def arrived(number, offset, before, outcome="passed", run="r", life=0, ref=""):
    """How a position on a rung ended, as the ladder tells it."""
    place = Position(BROKER, f"headwater.retry.{number}", 0, offset)
    record = run_of("outcome", "index", place, offset + 1, 1, 1, outcome, ref)
    return msgspec.structs.replace(record, parents=(f"{BROKER}/t/0/{life}", before), data={"moved_by": run})


def test_moved_names_one_successor():
    """Law 1: a moved position names where it went, no two go to one place, and where it went is read and ends."""
    whole = [consumed("t", 2), moved(0, rung(1, 0)), moved(1, rung(1, 1)), consumed("headwater.retry.1", 2)]
    whole += [arrived(1, 0, f"{BROKER}/t/0/0"), arrived(1, 1, f"{BROKER}/t/0/1", life=1)]
    assert offences(whole) == ()
    assert "no successor" in offences([consumed("t", 2), moved(0, rung(1, 0)), moved(1, "")])[-1]
    both = offences([consumed("t", 2), moved(0, rung(1, 0)), moved(1, rung(1, 0))])
    assert any(f"two positions name {rung(1, 0)}" in each for each in both)
    assert "t/0@0: it moved to headwater.retry.1/0@0, which was never read" in offences([consumed("t", 1), moved(0, rung(1, 0))])[0]
    lost = offences([each for each in whole if each.first != 1 or each.topic != "t"])
    assert any("headwater.retry.1/0@1: t/0@1 was moved here, but never ended there" in each for each in lost)


def test_who_moves_climbs():
    """Law 1: from a topic to the first rung, from a rung to the next: so no event goes round for ever."""
    assert "not the next rung" in offences([consumed("t", 1), moved(0, rung(2, 0))], in_flight_ok=True)[0]
    on_second = consumed("headwater.retry.2", 1)
    assert "not the next rung" in offences([on_second, moved(0, rung(1, 7), "headwater.retry.2")], in_flight_ok=True)[0]
    assert offences([on_second, moved(0, rung(3, 7), "headwater.retry.2")], in_flight_ok=True) == ()


@pytest.mark.parametrize(("runs", "named"), [(("a", "a"), True), (("a", "b"), False)])
def test_one_run_moves_a_position_once(runs, named):
    """Law 1: a crash may have the next run move a position again; moved twice by one run, an event was doubled."""
    before = f"{BROKER}/t/0/0"
    records = [consumed("t", 1), moved(0, rung(1, 0)), consumed("headwater.retry.1", 2)]
    records += [arrived(1, n, before, run=run) for n, run in enumerate(runs)]
    assert any("one run moved t/0@0 twice" in each for each in offences(records)) is named
    assert named or offences(records) == ()


@pytest.mark.parametrize(("runs", "named"), [(("a", "a"), True), (("a", "b"), False)])
def test_what_one_run_says_twice_is_named(runs, named):
    """Law 1: said again by another run it is a replay after a crash; in messages of one run it was done twice."""
    ended = run_of("outcome", "index", Position(BROKER, "t", 0, 0), 3, 3, 1, "passed")
    with Store(":memory:", clock=lambda: 1) as store:
        for offset, (records, run) in enumerate((([consumed("t", 3), ended], runs[0]), ([ended], runs[1]))):
            store.land([Landing(BROKER, 0, offset, records, run)])
        found = verify(store, in_flight_ok=False).offences
    assert bool(found) is named
    assert not named or "flow index, t/0@0 to 2: one run of the flow reports an outcome twice" in found[0]


def closing(kind, id="d", position="", place=Position(BROKER, "t", 0, 0)):
    return fact(kind, "dead", kind, id, logged=1, parents=(str(place),), ordinal=position, data={"position": position})


def test_a_dead_letter_is_closed_once_and_its_next_life_is_read():
    """Law 1: redriven or dropped at most once, never what is none, and a redriven event is read again."""
    place = Position(BROKER, "t", 0, 0)
    buried = [consumed("t", 1), run_of("outcome", "index", place, 1, 1, 1, "dead_lettered")]
    buried.append(fact("dead_letter", "index", "bury", "d", logged=1, parents=(str(place),), where=place, data={"cause": "invalid"}))
    life = [consumed("t", 1, 1), run_of("outcome", "index", place._replace(offset=1), 2, 1, 1, "passed")]
    redriven = closing("redrive", position=f"{BROKER}/t/0/1")
    assert offences(buried) == () and offences([*buried, redriven, *life]) == ()
    assert "its next life at t/0@1 was never read" in offences([*buried, redriven])[0]
    assert "dead letter d of t/0@0: redriven or dropped 2 times" in offences([*buried, redriven, *life, closing("drop")])[0]
    assert "drop of e: there is no such dead letter" in offences([*buried, closing("drop", "e")])[0]


def test_what_is_promised_is_recorded():
    """Law 1: what the index says it took has its document, what was buried its dead letter, what fired came to every agent."""
    for kind, word in (("document", "no document"), ("dead_letter", "no dead letter")):
        record = next(each for each in LANDED if each.kind == kind)
        found = offences([each for each in LANDED if each is not record])
        assert f"flights/0@{record.first}: ended" in found[0] and word in found[0]
    fired = next(each for each in LANDED if each.kind == "activation")
    other = msgspec.structs.replace(fired, id="other", ref="other")
    assert "flow decide/recover: activation other (cancellations/EWR) fired, but never came to it" in offences([*LANDED, other])[0]


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
        assert verify(store, in_flight_ok=True, kept=[kept]).ok
    with duckdb.connect(str(path)) as connection:
        for table in ("records", "chain"):
            connection.execute(f"DELETE FROM {table} WHERE batch = (SELECT max(batch) FROM {table})")
    with Store(path, clock=lambda: 1) as store:
        assert verify(store, in_flight_ok=True).ok
        assert "kept head" in verify(store, in_flight_ok=True, kept=[kept]).offences[0]


def test_an_overlap_slipped_into_the_table_is_named(tmp_path):
    """Law 1 as SQL needs no landing: an overlap written straight into the table is named as well."""
    path = tmp_path / "lineage.duckdb"
    with Store(path, clock=lambda: 1) as store:
        store.land([Landing(BROKER, 0, 0, LANDED)])
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO records SELECT * FROM records WHERE kind = 'outcome' AND flow = 'index' AND outcome = 'indexed'")
    with Store(path, clock=lambda: 1) as store:
        assert any("flights/0@0 to 11: two outcomes" in offence for offence in verify(store, in_flight_ok=True).offences)
