"""Gates: a partition is read on as soon as what closed its gate is over, and the others meanwhile."""

from types import SimpleNamespace

import headwater.flows.gates as gates
from headwater.flows.gates import agent_gate, ladder_gate
from headwater.flows.keeping import SAVE_S


def test_a_full_ladder_closes_all_partitions_until_it_empties(monkeypatch):
    """At the bound nothing new is read, below it everything; how many move is counted once in a while, not at every poll."""
    monkeypatch.setattr(gates, "MOST_MOVING", 3)
    asked, now = [], [1.0]
    moving = [2]
    open_now = ladder_gate(SimpleNamespace(moving=lambda: asked.append(now[0]) or moving[0]), lambda: now[0])
    assert open_now("t", 0)
    moving[0] = 3
    assert open_now("t", 0)
    now[0] += 2 * SAVE_S
    assert not open_now("t", 0)
    assert not open_now("u", 1)
    moving[0] = 2
    now[0] += 2 * SAVE_S
    assert open_now("t", 0)
    assert len(asked) == 3


def test_an_agent_at_its_bound_pauses_its_own_partitions_only():
    """A decider without room closes its partition, and so does one whose journal is being opened; all others are read."""
    full, free = (SimpleNamespace(room=lambda room=room: room) for room in (0, 1))
    run = SimpleNamespace(deciders={("a", 0): full, ("a", 1): free}, opening={("a", 2)})
    mine, other = (agent_gate(run, SimpleNamespace(name=name)) for name in "ab")
    assert [mine("t", partition) for partition in range(4)] == [False, True, False, True]
    assert all(other("t", partition) for partition in range(4))
