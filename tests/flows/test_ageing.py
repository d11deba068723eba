"""The policy of retention as `audit` keeps it: in a thread, by a clock that is given."""

import threading

import msgspec
import pytest
from structlog.testing import capture_logs

from headwater.flows.ageing import DAY_US, keep_policy
from headwater.flows.settings import Settings
from headwater.lineage.landing import Landing
from headwater.lineage.retention import REASONING
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, WALL, landings, sample_records
from headwater.lineage.verify import verify

LOOKS = 3
KEPT_US = 2 * DAY_US


class Clock:
    """Tells the time that it is set to, and lets who waits know how often it was asked."""

    def __init__(self, now):
        self.now, self._asked = now, threading.Semaphore(0)

    def __call__(self):
        self._asked.release()
        return self.now

    def wait(self, times=LOOKS):
        for _ in range(times):
            assert self._asked.acquire(timeout=60)


@pytest.fixture
def clock():
    return Clock(WALL)


@pytest.fixture
def store(tmp_path, clock):
    with Store(tmp_path / "lineage.duckdb", clock=lambda: clock.now) as opened:
        opened.land(landings(sample_records()))
        yield opened


def count(store, query):
    with store.cursor() as cursor:
        return cursor.execute(query).fetchall()[0][0]


def removals(store):
    return count(store, "SELECT count(*) FROM removals WHERE removed_by = 'headwater' AND why = 'policy'")


def reasoning(store):
    return count(store, f"SELECT count(*) FROM records WHERE kind IN {REASONING}")


def looked(store, settings, clock):
    """The policy is kept while it is looked so many times, and a last look that began has ended."""
    end = keep_policy(store, settings, clock, first_s=0, look_s=0.001)
    clock.wait()
    end()
    for thread in threading.enumerate():
        if thread.name == "retention":
            thread.join(60)


def test_what_is_too_old_goes_once_a_day_and_all_is_proved(store, clock):
    """Nothing before its time; then all of it, in one removal, however often it is looked; what comes later goes a day later."""
    settings = Settings(lineage_keep_texts="2d", lineage_keep_reasoning="2d")
    before = reasoning(store)
    clock.now = WALL + KEPT_US - DAY_US
    looked(store, settings, clock)
    assert (removals(store), reasoning(store)) == (0, before) and before > 0
    clock.now = WALL + KEPT_US + DAY_US
    looked(store, settings, clock)
    assert (removals(store), reasoning(store)) == (1, 0)
    [search] = [record for record in sample_records() if record.kind == "retrieval"]
    store.land([Landing(BROKER, 0, 900, [msgspec.structs.replace(search, id="again")])])
    clock.now += DAY_US - 1
    looked(store, settings, clock)
    assert (removals(store), reasoning(store)) == (1, 1), "the last removal was less than a day ago"
    clock.now += 1
    looked(store, settings, clock)
    assert (removals(store), reasoning(store)) == (2, 0)
    assert verify(store, in_flight_ok=False).offences == ()


def test_without_a_policy_nothing_is_looked_at(store, clock):
    """No thread, no removal."""
    keep_policy(store, Settings(), clock, first_s=0, look_s=0.001)()
    assert not [thread for thread in threading.enumerate() if thread.name == "retention"] and removals(store) == 0


def test_a_policy_that_fails_is_told_of_and_tried_again(store, clock, monkeypatch):
    """Landing goes on; the next look does what this one could not."""
    clock.now = WALL + KEPT_US + DAY_US
    remove, failed = store.remove, []

    def once(*arguments, **options):
        if not failed:
            failed.append(True)
            raise OSError("no room")
        return remove(*arguments, **options)

    monkeypatch.setattr(store, "remove", once)
    with capture_logs() as logs:
        looked(store, Settings(lineage_keep_reasoning="2d"), clock)
    assert [log["error"] for log in logs if log["log_level"] == "error"] == ["no room"]
    assert (removals(store), reasoning(store)) == (1, 0)
