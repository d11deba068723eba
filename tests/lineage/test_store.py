import threading
from collections import Counter

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.record import fact, outcomes, run_of
from headwater.lineage.store import Landing, Store, open_database
from headwater.lineage.testing import BROKER, document, landings, name, sample_records
from headwater.lineage.verify import verify

OUTCOMES = ("indexed", "unchanged", "stale", "passed")


@pytest.fixture
def store():
    with Store(":memory:", clock=lambda: 1) as opened:
        yield opened


def column(store, query):
    with store.cursor() as cursor:
        return [row[0] for row in cursor.execute(query).fetchall()]


def message(first, following, outcome):
    """What a flow reports about one run of offsets: consumed, a document each, outcomes."""
    places = [Position(BROKER, "flights", 0, offset) for offset in range(first, following)]
    return [
        run_of("consumed", "index", places[0], following, following - first, 1),
        *(document(place) for place in places),
        *outcomes("index", [(place, outcome) for place in places], 1),
    ]


@st.composite
def reports(draw):
    """A flow that goes on, crashes and repeats itself from an earlier offset with other boundaries, as messages; and how far it came."""
    messages, at, reached = [], 0, 0
    for _ in range(draw(st.integers(1, 8))):
        length = draw(st.integers(1, 6))
        messages.append(message(at, at + length, draw(st.sampled_from(OUTCOMES))))
        reached = max(reached, at + length)
        at = draw(st.integers(max(0, at - 6), at + length)) if draw(st.booleans()) else at + length
    if at < reached:
        messages.append(message(at, reached, "indexed"))
    return messages, reached


@settings(max_examples=15, deadline=None)
@given(reports(), st.data())
def test_whatever_is_repeated_lands_once(reported, data):
    """Law 1: any replays, in any batches, with messages delivered twice: each position ends once, each fact is there once, verify is ok."""
    messages, reached = reported
    queue = [Landing(BROKER, 0, offset, records) for offset, records in enumerate(messages)]
    with Store(":memory:", clock=lambda: 1) as store:
        at = 0
        while at < len(queue):
            size = data.draw(st.integers(1, 4))
            again = data.draw(st.integers(0, at))
            store.land(queue[again : at + size])
            at += size
        verdict = verify(store, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        assert verdict.consumed == {"index": reached}
        assert sum(verdict.totals["index"].values()) == reached
        ids = column(store, "SELECT id FROM records WHERE kind = 'document'")
        assert len(ids) == len(set(ids)) == reached


def test_first_outcome_landed_stands(store):
    """Law 1: a replay that ends a position otherwise changes nothing; it is cut to what is new and counted as replayed."""
    store.land([Landing(BROKER, 0, 0, message(0, 4, "indexed"))])
    landed = store.land([Landing(BROKER, 0, 1, message(2, 6, "unchanged"))])
    assert landed.replayed == 2 and landed.duplicates == 2
    ended = column(store, "SELECT outcome FROM events ORDER BY log_offset")
    assert ended == ["indexed"] * 4 + ["unchanged"] * 2
    assert verify(store, in_flight_ok=False).replayed == 2


def test_a_decision_that_waited_is_closed_once(store):
    """An open outcome does not stand against a later one; a closed one does, and a repeated open one is cut off."""
    place = Position(BROKER, "headwater.activations", 0, 0)
    said = [run_of("consumed", "decide/a", place, 1, 1, 1)]
    ends = ("waiting", "waiting", "approved", "expired", "waiting")
    said += [run_of("outcome", "decide/a", place, 1, 1, 1, outcome, "d") for outcome in ends]
    for offset, record in enumerate(said):
        store.land([Landing(BROKER, 0, offset, [record])])
    assert column(store, "SELECT outcome FROM outcomes ORDER BY ALL") == ["approved", "waiting"]
    verdict = verify(store, in_flight_ok=True)
    assert verdict.ok and verdict.totals == {"decide/a": {"approved": 1}}


def test_an_activation_that_came_twice_says_nothing_of_its_decision(store):
    """The second position of an activation is passed by; its decision is told by how the first ended."""
    again = Position(BROKER, "headwater.activations", 0, 1)
    passed = run_of("outcome", "decide/recover", again, 2, 1, 1, "passed", name("decision"))
    for landing in landings([*sample_records(), run_of("consumed", "decide/recover", again, 2, 1, 1), passed]):
        store.land([landing])
    assert column(store, "SELECT outcome FROM decisions") == ["acted"]


def test_counts_of_runs_with_holes_survive_cutting(store):
    """A consumed run that spans absent offsets keeps the right count when a replay is cut."""
    def run(first, following, count):
        return run_of("consumed", "index", Position(BROKER, "flights", 0, first), following, count, 1)

    absent = run_of("absent", "index", Position(BROKER, "flights", 0, 5), 7, 0, 1)
    ended = outcomes("index", [(Position(BROKER, "flights", 0, offset), "passed") for offset in (0, 1, 2, 3, 4, 7, 8, 9)], 1)
    store.land([Landing(BROKER, 0, 0, [run(0, 4, 4)]), Landing(BROKER, 0, 1, [run(2, 10, 6), absent, *ended])])
    verdict = verify(store, in_flight_ok=False)
    assert verdict.ok, verdict.offences
    assert verdict.consumed == {"index": 8}


def test_reopening_goes_on_where_it_stopped(tmp_path):
    """All that landing must know is in the file: after reopening, what landed before is still cut off, and the chain goes on."""
    queue = landings(sample_records(), 5)
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        store.land(queue[:3])
        head = store.head()
        assert store.offsets(BROKER) == {0: 3} and store.offsets("another") == {}
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        assert store.head() == head
        again = [Landing(BROKER, 1, landing.offset, landing.records) for landing in queue]
        store.land(queue)
        rows = store.land(again)
        assert rows.rows == 0 and rows.duplicates > 0
        verdict = verify(store, in_flight_ok=False, kept=[head])
        assert verdict.ok, verdict.offences


def test_facts_without_position_land_once(store):
    """A fact that speaks of no offset is known by its id alone."""
    note = fact("note", "decide/a", "note", "d", logged=1)
    store.land([Landing(BROKER, 0, 0, [note, note])])
    landed = store.land([Landing(BROKER, 0, 1, [note])])
    assert landed.duplicates == 1 and column(store, "SELECT count(*) FROM records") == [1]


def test_a_batch_that_fails_leaves_nothing(store):
    """One transaction: if anything of a batch cannot land, nothing of it does, offsets included, and the next batch lands."""
    good, bad = message(0, 3, "indexed"), fact("note", "index", "n", "x", logged=2**80)
    with pytest.raises(OverflowError):
        store.land([Landing(BROKER, 0, 0, [*good, bad])])
    assert store.offsets(BROKER) == {} and column(store, "SELECT count(*) FROM records") == [0]
    assert store.land([Landing(BROKER, 0, 0, good)]).rows == len(good)
    assert verify(store, in_flight_ok=False).ok


def test_a_new_broker_closes_what_the_old_one_left(store):
    """Events of an earlier broker's life that never ended, waiting decisions included, end as lost_with_broker; others stay."""
    place, other = Position("old", "flights", 0, 0), Position(BROKER, "flights", 0, 0)
    waiting = Position("old", "headwater.activations", 0, 0)
    said = [run_of("consumed", "index", where, 5, 5, 1) for where in (place, other)]
    said += [run_of("outcome", "index", place, 2, 2, 1, "indexed")]
    said += [run_of("consumed", "decide/a", waiting, 1, 1, 1), run_of("outcome", "decide/a", waiting, 1, 1, 1, "waiting", "d")]
    store.land([Landing("old", 0, 0, said)])
    assert store.lost_with_broker(BROKER) == 4
    assert store.lost_with_broker(BROKER) == 0
    totals = verify(store, in_flight_ok=True).totals
    assert totals == {"index": {"lost_with_broker": 3, "indexed": 2, "in_flight": 5}, "decide/a": {"lost_with_broker": 1}}


def test_what_an_old_broker_did_not_live_to_report_is_lost_with_it(store):
    """Positions between others, or before an outcome, that nobody reported: they were passed by, and their fate died with the broker."""
    place = Position("old", "flights", 0, 3)
    said = [run_of("consumed", "index", place, 5, 2, 1), run_of("absent", "index", place._replace(offset=7), 8, 1, 1)]
    said += [run_of("consumed", "index", place._replace(offset=10), 12, 2, 1)]
    said += [run_of("outcome", "index", place._replace(offset=first), first + 1, 1, 1, "passed") for first in (3, 8, 13)]
    store.land([Landing("old", 0, 0, said)])
    assert not verify(store, in_flight_ok=True).ok
    assert store.lost_with_broker(BROKER) == 11 - 1 - 3
    assert store.lost_with_broker(BROKER) == 0
    verdict = verify(store, in_flight_ok=False)
    assert verdict.ok, verdict.offences
    assert verdict.totals == {"index": {"lost_with_broker": 7, "passed": 3}}


def test_what_a_bridge_receives_outlives_our_broker(store):
    """It lies at another region's broker, whose life goes on; what a bridge sends lay at ours."""
    received, sent = Position("eu", "flights", 0, 0), Position("old", "flights", 0, 0)
    said = [run_of("consumed", "bridge/eu/receive", received, 5, 5, 1), run_of("consumed", "bridge/eu/send", sent, 3, 3, 1)]
    store.land([Landing("old", 0, 0, said)])
    assert store.lost_with_broker(BROKER) == 3
    assert verify(store, in_flight_ok=True).totals == {"bridge/eu/receive": {"in_flight": 5}, "bridge/eu/send": {"lost_with_broker": 3}}


def test_readers_beside_the_writer_see_whole_batches(tmp_path):
    """Readers in other threads see each batch whole or not at all, and never disturb the writer."""
    seen, wrong, stop = Counter[int](), list[object](), threading.Event()

    def read(store):
        with store.cursor() as cursor:
            while not stop.is_set():
                try:
                    count = cursor.execute("SELECT count(*) FROM records").fetchall()[0][0]
                    seen[count % 5] += 1
                except duckdb.Error as error:
                    wrong.append(error)

    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        readers = [threading.Thread(target=read, args=(store,)) for _ in range(3)]
        for reader in readers:
            reader.start()
        for n in range(30):
            store.land([Landing(BROKER, 0, n, message(n * 3, n * 3 + 3, "indexed"))])
        stop.set()
        for reader in readers:
            reader.join()
        assert not wrong and set(seen) == {0}
        assert verify(store, in_flight_ok=False).ok


def test_a_held_file_is_unavailable(tmp_path):
    """A file that cannot be opened says so, and what to do."""
    (tmp_path / "lineage.duckdb").write_bytes(b"no database" * 500)
    with pytest.raises(Unavailable, match="over HTTP"):
        Store(tmp_path / "lineage.duckdb", clock=lambda: 1)


def test_a_newer_file_is_refused(tmp_path):
    """A file written by a newer headwater is not touched."""
    path = tmp_path / "lineage.duckdb"
    Store(path, clock=lambda: 1).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'later', now())")
    with pytest.raises(Misused, match="upgrade headwater"):
        Store(path, clock=lambda: 1)


def test_the_writers_database_leaves_half_of_the_processors_to_flows(tmp_path):
    """Also once its file was exchanged; one that is opened by itself has them all."""

    def threads(database):
        with database.cursor() as cursor:
            return cursor.execute("SELECT current_setting('threads')").fetchall()[0][0]

    with duckdb.connect() as usual:
        all_of_them = threads(usual)
    with Store(tmp_path / "l.duckdb", clock=lambda: 0) as store:
        assert threads(store) == max(1, all_of_them // 2)
        store._connection.execute("INSERT INTO unscrubbed VALUES ('removal')")
        store._scrub()
        assert threads(store) == max(1, all_of_them // 2)
    with open_database(tmp_path / "l.duckdb", read_only=True) as alone:
        assert threads(alone) == all_of_them
