"""What agents go by outlives the embedded broker: its journals end with it, lineage does not."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import spender

from headwater.agents.activation import Activation
from headwater.agents.memory import Memories, Memory, Suspended, kept, memory_of

SPENDER = Path(spender.__file__)


def former(home: Path, how: str) -> None:
    """A life that came before."""
    done = subprocess.run([sys.executable, str(SPENDER), str(home), how], capture_output=True, text=True, timeout=500)
    assert done.returncode == (-9 if how == "kill" else 0), done.stderr[-3000:]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_budget_and_a_memory_outlive_the_broker(how, tmp_path):
    """A new broker life begins with what was spent today, what is remembered and who is suspended, stopped or killed; and it is recorded.

    A third life takes it over from both that came before.
    """
    former(tmp_path, how)
    with spender.up(tmp_path) as running:
        third = spender.wake(running, "north", 3)
        assert spender.decided(running, "counting", third)["choice"] == "woken 3 times"
        refused = spender.decided(running, "thrifty", third)
        assert refused["outcome"] == "waiting" and "120 tokens of 100 tokens" in refused["error"]
        resumed = spender.wake(running, "south", 4, rule="granted", correlation="")
        assert spender.decided(running, "clerk", resumed)["choice"] == "goes on after 1"
        query = (
            "SELECT body->>'$' AS text FROM records JOIN contents ON n = number_of(held->>'$.text') "
            "WHERE kind = 'note' AND step = 'recall' ORDER BY ref"
        )
        told = [row["text"] for row in spender.rows(running, query, [], lambda found: len(found) == 3)]
        assert any("120 tokens spent today" in text for text in told) and any("2 memories" in text for text in told)
    with spender.up(tmp_path) as running:
        fourth = spender.wake(running, "north", 5)
        assert spender.decided(running, "counting", fourth)["choice"] == "woken 4 times"
        assert spender.decided(running, "thrifty", fourth)["outcome"] == "waiting"
        again = spender.wake(running, "south", 6, rule="granted", correlation="")
        passed = "SELECT 1 FROM outcomes WHERE outcome = 'passed' AND flow = 'decide/clerk' AND broker = ?"
        spender.rows(running, passed, [running.run.broker], bool)
        with running.run.store.cursor() as cursor:
            assert not cursor.execute("SELECT 1 FROM decisions WHERE activation = ?", [again]).fetchall()  # it went on before


def memory(values: bytes = b'{"a":1}', suspended: Suspended | None = None) -> Memory:
    return Memory(correlation="c", key="k", values=values, until=9, suspended=suspended)


WOKEN = Activation(id="i", rule="r", key="k", phase="opened", at=1, value=1.0, episode="c")


def test_what_a_record_keeps_of_a_memory_is_all_of_it():
    """A memory read from its record is the memory that was written."""
    waits = Suspended(decision="d", activation=WOKEN, awaits=("granted",), until=7)
    for each in (memory(msgspec.Raw(b'{"a":1}')), memory(msgspec.Raw(b"{}"), waits)):
        assert memory_of(msgspec.json.encode(kept(each)).decode(), bytes(each.values).decode()) == each


def test_a_former_memory_yields_to_what_this_life_says():
    """What this life forgot or changed is not brought back by what a former one kept, whichever is asked first."""
    for values, recalled in ((b'{"a":2}', 2), (b"{}", None)):
        memories = Memories()
        memories.learn("agent", [memory(msgspec.Raw(b'{"a":1}'))])
        memories.keep("agent/0", [memory(msgspec.Raw(values))])
        assert memories.draft("agent", "agent/0", WOKEN, 1).recall("a") == recalled
    memories = Memories()
    memories.learn("agent", [memory(msgspec.Raw(b'{"a":1}'))])
    assert memories.draft("other", "other/0", WOKEN, 1).recall("a") is None
    assert memories.draft("agent", "agent/1", WOKEN, 1).recall("a") == 1
    assert [each.key for each in memories.kept("agent/1", 1)] == ["k"]
