import threading
from functools import partial

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lineage.ahead import Ahead
from headwater.lineage.event import Position
from headwater.lineage.landing import Landing
from headwater.lineage.record import outcomes, run_of
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, document, sample_records
from headwater.lineage.verify import verify

TABLES = ("records", "chain", "offsets", "replays", "contents", "names_new")


def opened(path):
    return Store(path, clock=lambda: 1, random=bytes)


def all_of(store):
    with store.cursor() as cursor:
        return [sorted(cursor.execute(f"SELECT COLUMNS(*)::VARCHAR FROM {table}").fetchall(), key=repr) for table in TABLES]


def message(n):
    places = [Position(BROKER, "flights", 0, offset) for offset in range(n * 3, n * 3 + 3)]
    consumed = run_of("consumed", "index", places[0], n * 3 + 3, 3, 1)
    return [consumed, *map(document, places), *outcomes("index", [(place, "indexed") for place in places], 1)]


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_what_lands_ahead_is_what_lands_one_after_the_other(data):
    """Law 8: whatever is said again and in whatever batches, both ways leave the same rows, numbers, replays and heads."""
    said = [*map(message, range(4)), sample_records(), sample_records("approved")]
    order = data.draw(st.lists(st.sampled_from(said), min_size=1, max_size=9))
    queue = [Landing(BROKER, 0, offset, records) for offset, records in enumerate(order)]
    found, batches = [], []
    with opened(":memory:") as store, opened(":memory:") as plain:
        while queue:
            size = data.draw(st.integers(1, 3))
            batches.append(plain.land(queue[:size]))
            store.land_ahead(queue[:size], found.append)
            queue = queue[data.draw(st.integers(1, size)) :]  # the end of a batch may be delivered again
        assert store.head() == plain.head()
        assert all_of(store) == all_of(plain)
        assert found == batches
        assert verify(store, in_flight_ok=True) == verify(plain, in_flight_ok=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=8), st.integers(0, 20))
def test_what_is_ahead_fits_into_the_room_or_is_alone(sizes, room):
    """Law 6: acts are done in their order, and no more of them wait than fit together."""
    ahead, gates, released, done = Ahead(room), [threading.Event() for _ in sizes], 0, list[int]()

    def act(number):
        gates[number].wait()
        done.append(number)

    for number, size in enumerate(sizes):
        if sum(sizes[released:number]) + size > room:  # then it waits for others, which nothing may keep
            for gate in gates[released:number]:
                gate.set()
            released = number
        ahead.begin(partial(act, number), size)
        undone = sizes[len(done) : number + 1]
        assert len(undone) <= 1 or sum(undone) <= room
    for gate in gates:
        gate.set()
    ahead.settle()
    ahead.close()
    assert done == list(range(len(sizes)))


@pytest.mark.parametrize("room", [0, 2, 9])
def test_no_act_is_done_after_one_that_failed(room):
    """Law 1: what was to come after an act that failed is not done, whether it waited already or not, and each asker is told why."""
    ahead, done = Ahead(room), list[int]()

    def act(number):
        if number == 2:
            raise ZeroDivisionError
        done.append(number)

    def all_of_them():
        for number in range(5):
            ahead.begin(partial(act, number), 1)
        ahead.settle()

    for ask in (all_of_them, ahead.settle, partial(ahead.begin, partial(act, 5), 1)):
        with pytest.raises(ZeroDivisionError):
            ask()
    ahead.wait()
    ahead.close()
    assert done == [0, 1]


def test_a_batch_that_fails_takes_those_behind_it_along(tmp_path):
    """Law 1: nothing lands after what did not; the head is of what did; whoever opens the file next goes on where that ended."""
    path, done = tmp_path / "lineage.duckdb", []
    with opened(path) as store:
        store.land_ahead([Landing(BROKER, 0, 0, message(0))], done.append)
        store.settle()
        head = store.head()
        with store.cursor() as other:
            other.execute("ALTER TABLE contents RENAME TO elsewhere")
        store.land_ahead([Landing(BROKER, 0, 1, message(1))], done.append)
        behind = partial(store.land_ahead, [Landing(BROKER, 0, 2, message(2))], done.append)
        with pytest.raises(duckdb.CatalogException):
            any(ask() for ask in (behind, store.settle))
        with store.cursor() as other:
            other.execute("ALTER TABLE elsewhere RENAME TO contents")
        for act in (lambda: store.land([Landing(BROKER, 0, 2, message(2))]), store.settle, lambda: store.lost_with_broker("next")):
            with pytest.raises(duckdb.CatalogException):
                act()
        assert store.head() == head and len(done) == 1
    with opened(path) as store:
        assert store.offsets(BROKER) == {0: 1} and store.head() == head
        for n in (1, 2):
            store.land_ahead([Landing(BROKER, 0, n, message(n))], done.append)
    with opened(path) as store:
        verdict = verify(store, in_flight_ok=False)
        assert verdict.ok and verdict.totals == {"index": {"indexed": 9}}, verdict.offences
        assert len(done) == 3
