"""The retry ladder with real parts: what fails for now comes again and arrives; what keeps failing ends; nothing is lost or done twice."""

import pytest

from headwater.flows.attempt import ATTEMPT, CAUSE, FIRST_FAILURE, ORIGIN, POSITION
from headwater.flows.sink import Outgoing
from headwater.lineage.errors import Behind, DeadLettered
from headwater.lineage.store import open_database
from headwater.lineage.topic import DEAD, RETRY
from headwater.lineage.verify import verify


def told(message):
    return {name: value.decode() for name, value in message.headers}


def tries(lake, topic, position):
    """The messages of a topic that are tries of the event at a position."""
    return [m for m in lake.messages(topic) if told(m).get(POSITION) == str(position)]


def test_what_fails_for_now_comes_again_and_arrives(lake, eventually):
    """A retryable failure climbs the ladder, holds nobody, arrives; its headers tell attempt and first failure; every place ends once."""
    slow, quick = lake.gauge(), lake.gauge()
    lake.flaky.failing[slow] = 2  # the rules ask once, and do without
    north, south = lake.publish(slow, quick)
    lake.run.progress.wait([south], 60)
    eventually(lambda: lake.rows(f"from documents where document = 'level/{slow}'"))
    lake.run.progress.wait([north], 60)
    lake.settled()
    [first], [second] = tries(lake, f"{RETRY}1", north), tries(lake, f"{RETRY}2", north)
    assert [told(message)[ATTEMPT] for message in (first, second)] == ["2", "3"]
    assert {told(message)[ORIGIN] for message in (first, second)} == {str(north)}
    assert told(first)[FIRST_FAILURE] == told(second)[FIRST_FAILURE] and "no route" in told(first)[FIRST_FAILURE]
    went = lake.rows(f"from retries where position in ('{north.short}', '{RETRY}1/0@{first.offset}') order by topic <> 'readings'")
    assert [row["moved_to"] for row in went] == [f"{lake.run.broker}/{m.topic}/0/{m.offset}" for m in (first, second)]
    assert lake.rows(f"select position, outcome from documents where document = 'level/{slow}'") == [
        {"position": north.short, "outcome": "indexed"}
    ]
    assert lake.flaky.asked[slow] == 4


def test_what_keeps_failing_is_a_dead_letter_after_the_last_rung(lake, eventually):
    """The budget ends: cause and attempts told, one dead letter of `index` under the life's own id, its token 409, nothing loops."""
    gauge = lake.gauge()
    lake.flaky.failing[gauge] = 100
    [north] = lake.publish(gauge)
    query = f"select cause, attempt, state from dead_letters where position = '{north.short}' and flow = 'index'"
    assert eventually(lambda: lake.rows(query)) == [{"cause": "enricher_failed", "attempt": 3, "state": "waiting"}]
    with pytest.raises(DeadLettered):
        lake.run.progress.wait([north], 0)
    letters = [told(letter) for letter in tries(lake, DEAD, north) if told(letter)["headwater-flow"] == "index"]
    assert [(letter[CAUSE], letter[ATTEMPT], letter[ORIGIN]) for letter in letters] == [("enricher_failed", "3", str(north))]
    lake.settled()
    assert lake.flaky.asked[gauge] == 4


def test_a_terminal_failure_does_not_climb(lake):
    """What trying again cannot mend is a dead letter at once, of `index` alone."""
    gauge = lake.gauge()
    lake.flaky.refused.add(gauge)
    [north] = lake.publish(gauge)
    lake.settled()
    letters = lake.rows(f"select flow, cause, attempt from dead_letters where position = '{north.short}'")
    assert letters == [{"flow": "index", "cause": "enricher_failed", "attempt": 1}]
    assert tries(lake, f"{RETRY}1", north) == []


def test_the_rules_do_not_wait_for_the_ladder(lake, eventually):
    """`detect` buries by itself what its enricher has no answer for, under an id of its own; `index` still gets it in by the ladder."""
    gauge = lake.gauge()
    lake.flaky.failing[gauge] = 1  # for each flow
    [north] = lake.publish(gauge)
    letters = eventually(lambda: lake.rows(f"select flow, cause from dead_letters where position = '{north.short}'"))
    assert letters == [{"flow": "detect", "cause": "enricher_failed"}]
    eventually(lambda: lake.rows(f"from documents where document = 'level/{gauge}'"))
    lake.run.progress.wait([north], 60)
    ended = lake.rows(f"select flow, outcome from events where position = '{north.short}' order by flow")
    assert ended == [{"flow": "detect", "outcome": "dead_lettered"}, {"flow": "index", "outcome": "moved"}]


def test_a_stranger_on_the_ladder_is_buried(lake, eventually):
    """A message on a rung that does not say what it is a retry of: a dead letter, invalid; what follows goes on."""
    gauge = lake.gauge()
    lake.flaky.failing[gauge] = 1
    [stranger] = lake.run.writer.write([Outgoing(f"{RETRY}1", b"k", b"{}", [], 0)])
    lake.publish(gauge)
    eventually(lambda: lake.rows(f"from documents where document = 'level/{gauge}'"))
    lake.settled()
    assert lake.rows(f"select cause from dead_letters where position = '{stranger.short}'") == [{"cause": "invalid"}]


def test_the_end_of_the_embedded_broker_hurries_the_ladder(started, flaky, eventually):
    """What waits an hour on the ladder is tried at once before the broker's memory goes: it arrives, or is a dead letter on record."""
    lake = started(flaky(north=1, south=100), "1h,1h")
    positions = lake.publish("north", "south")
    eventually(lambda: lake.run.progress.moving() == 2)
    for position in positions:
        with pytest.raises(Behind, match="tried again"):
            lake.run.progress.wait([position], 0)
    lake.up.stop()
    assert lake.up.undrained == []
    with open_database(lake.run.home / "lineage.duckdb", read_only=True) as lineage:
        assert verify(lineage, in_flight_ok=False).offences == ()
        assert lineage.execute("select document from documents").fetchall() == [("level/north",)]
        assert lineage.execute("select cause from dead_letters").fetchall() == [("enricher_failed",)]
