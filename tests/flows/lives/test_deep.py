"""`audit verify --deep`: nothing to say of a lake that is whole; what lies on a topic is compared with what is recorded of it."""

import json

import msgspec
import pytest
from typer.testing import CliRunner

from headwater.flows import deep
from headwater.flows.attempt import FROM, ID, RUN
from headwater.flows.cli import cli
from headwater.lineage.deep import Ids, Lane, Rungs, Seen
from headwater.lineage.event import Message
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import BROKER, landings, name, sample_records

LANDED = sample_records()
FLIGHTS = [Seen(n, f"2013-02-08-EWR-UA-{1500 + n}/cancelled") for n in range(12)] + [Seen(12, None)]


@pytest.fixture
def cursor():
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings(LANDED, 100))
        with store.cursor() as cursor:
            yield cursor


def compared(cursor, seen, low=0, size=5, **more):
    lane = Lane(cursor, BROKER, "flights", 0, low, **more)
    return [o for start in range(0, len(seen), size) for o in lane.compare(seen[start : start + size])] + list(lane.finish())


@pytest.mark.parametrize("size", [1, 5, 100])
def test_a_topic_as_recorded_has_no_offence(cursor, size):
    """However it is cut into pieces; nor what retention took, nor what came after."""
    assert compared(cursor, FLIGHTS, size=size) == []
    assert compared(cursor, FLIGHTS[4:], low=4, size=size) == []
    assert compared(cursor, [*FLIGHTS, Seen(13, "new")], size=size) == []


@pytest.mark.parametrize("n", range(13))
def test_a_message_that_is_gone_is_named(cursor, n):
    """A position consumed where no message lies; of a compacted topic that is no offence."""
    rest = [seen for seen in FLIGHTS if seen.offset != n]
    assert any(f"flights/0@{n}: consumed, but no message lies there" in offence for offence in compared(cursor, rest))
    assert compared(cursor, rest, compacted=True) == []


def test_another_event_in_its_place_is_named(cursor):
    """The document tells which event it is of."""
    [offence] = compared(cursor, [*FLIGHTS[:3], Seen(3, "another"), *FLIGHTS[4:]])
    assert offence.startswith("flights/0@3: the document recorded is of event 2013-02-08-EWR-UA-1503/cancelled, but event another")


def test_a_message_that_lineage_passed_over_is_named():
    """Between consumed offsets, told absent or not told at all."""
    cut = [msgspec.structs.replace(r, next=5, count=5) if r.kind == "consumed" and r.flow == "index" else r for r in LANDED]
    rest = [msgspec.structs.replace(r, id="r", first=6, next=13, count=7) for r in LANDED if r.kind == "consumed" and r.flow == "index"]
    absent = [msgspec.structs.replace(each, id="a", kind="absent", first=5, next=6) for each in rest]
    for more, said in ((absent, "says that no message is there"), ([], "knows nothing of it")):
        with Store(":memory:", clock=lambda: 1) as store:
            store.land([Landing(BROKER, 0, 0, [*cut, *rest, *more])])
            with store.cursor() as cursor:
                assert compared(cursor, FLIGHTS) == [f"flow index, flights/0@5: a message lies there, but lineage {said}"]


@pytest.mark.parametrize(("seen", "word"), [
    ([], "is recorded, but its message lies nowhere"),
    ([Seen(0, name("activation"), run="r"), Seen(1, name("activation"), run="s")], None),
    ([Seen(0, name("activation"), run="r"), Seen(1, name("activation"), run="r")], "one run wrote activation"),
    ([Seen(0, name("activation")), Seen(1, "stranger")], "stranger lies there, but is not recorded"),
])  # fmt: skip
def test_activations_are_compared_by_id(cursor, seen, word):
    """Each record has its message, each message its record; two runs may write one after a crash, one run writes it once."""
    ids = Ids(cursor, BROKER, "activation")
    ids.compare("headwater.activations", 0, seen)
    found = list(ids.finish(whole=True, limit=10))
    assert (found == []) if word is None else (len(found) == 1 and word in found[0])


def test_rungs_are_compared_with_what_moved(cursor):
    """A message on the ladder stands for one position that moved, once per run."""
    rungs = Rungs(cursor, BROKER)
    rungs.compare("headwater.retry.1", 0, [Seen(n, "e", f"{BROKER}/flights/0/{kin}", "r") for n, kin in enumerate((3, 3, 99))])
    found = list(rungs.finish(whole=True, limit=10))
    assert len(found) == 2 and "one run moved" in found[0] and "flights/0/99 was moved here, but lineage knows no end" in found[1]


def test_a_lake_that_is_whole(lake, monkeypatch):
    """With retries, dead letters and redrives behind it: no offence, by command and by HTTP; a message that was exchanged is named."""
    good, bad = lake.gauge(), lake.gauge()
    lake.flaky.failing[good] = 2
    lake.flaky.refused.add(bad)
    first, _ = lake.publish(good, bad)
    lake.settled()
    result = CliRunner().invoke(cli, ["audit", "verify", "--deep", "--url", lake.up.address, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["ok"], result.stdout
    assert lake.http.get("/v1/verify", params={"deep": True}, timeout=120).json()["ok"]
    seen = deep._seen
    monkeypatch.setattr(deep, "AGAIN_S", 0)
    monkeypatch.setattr(
        deep, "_seen", lambda m: seen(m)._replace(id="exchanged") if (m.topic, m.partition, m.offset) == first[1:] else seen(m)
    )
    verdict = deep.whole(deep.deep_verdict(lake.run))
    assert not verdict.ok and all(offence.startswith(f"{first.short}: the d") for offence in verdict.offences)
    assert [offence for offence in verdict.offences if f"{first.short}: the document recorded is of event" in offence]


def test_what_a_message_says_it_is():
    """An event by `ce_id`, a dead letter by its own id; one on the ladder tells what it was moved from."""
    headers = [("ce_id", b"e"), (ID, b"d"), (FROM, b"b/t/0/1"), (RUN, b"r")]
    assert deep._seen(Message("t", 0, 4, 0, None, None, headers)) == Seen(4, "e", "", "r")
    assert deep._seen(Message("headwater.dead", 0, 4, 0, None, None, headers)) == Seen(4, "d", "", "r")
    assert deep._seen(Message("headwater.retry.1", 0, 4, 0, None, None, headers)) == Seen(4, "e", "b/t/0/1", "r")
