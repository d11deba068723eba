"""What lineage tells agents of former broker lives: totals summed over journals, the newest memory of each place."""

import msgspec

from headwater.lineage.former import Spending, remembered_before, spent_before
from headwater.lineage.record import fact
from headwater.lineage.store import Store
from headwater.lineage.testing import WALL, landings, sample_records

(SAMPLE,) = [record for record in sample_records() if record.kind == "decision"]
TODAY = WALL // 86_400_000_000


def decision(n, broker, partition=0, *, agent="recover", **data):
    """A decision of an agent in a life and partition, with other data."""
    told = {**SAMPLE.data, "agent": agent, "position": f"{broker}/headwater.activations/{partition}/{n}", **data}
    return msgspec.structs.replace(SAMPLE, id=f"{n:032x}", ref=f"decision-{n}", logged=WALL, data=told)


def spent(day=TODAY, **tokens):
    return {"spent": {agent: {"day": day, "tokens": many, "cost": many / 2} for agent, many in tokens.items()}}


def kept(values, *, key="k", until=WALL + 10, **more):
    return {"remembered": values, "kept": {"correlation": "c", "key": key, "until": until, **more}}


def asked(records, look, *given):
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings(records, 100))
        return list(look(store, *given))


def test_spending_is_the_sum_over_journals_of_their_last_totals():
    """Totals of one journal grow and are not added; other journals, other agents that asked it, and other lives are; this life is not."""
    records = [
        decision(1, "A", **spent(recover=10)), decision(2, "A", **spent(recover=30)), decision(3, "A", 1, **spent(recover=5)),
        decision(4, "B", **spent(recover=100)), decision(5, "C", agent="other", **spent(recover=7, third=1)),
        decision(6, "C", 1, **spent(TODAY - 1, recover=1000)), decision(7, "C", 2),
    ]  # fmt: skip
    assert asked(records, spent_before, "B", TODAY) == [Spending("recover", 42, 21), Spending("third", 1, 0.5)]
    assert asked(records, spent_before, "A", TODAY + 1) == []


def test_the_newest_memory_of_a_place_counts():
    """Per agent, correlation and key the newest; none that this life wrote, that was forgotten, that is over, or that was cut."""
    records = [
        decision(1, "A", **kept({"a": 1})), decision(2, "A", **kept({"a": 2})), decision(3, "A", **kept({"a": 1}, key="forgotten")),
        decision(4, "A", **kept({}, key="forgotten")), decision(5, "A", **kept({"a": 1}, key="changed since")),
        decision(6, "B", **kept({"a": 2}, key="changed since")), decision(7, "A", **kept({"a": 1}, key="over", until=WALL)),
        decision(8, "A", agent="other", **kept({"b": 1})), decision(9, "A", **kept({"a": 1}, key="cut"), cut=["remembered"]),
    ]  # fmt: skip
    found = asked(records, remembered_before, "B", WALL)
    assert [(each.agent, msgspec.json.decode(each.kept)["key"], each.values) for each in found] == [
        ("recover", "k", '{"a":2}'), ("other", "k", '{"b":1}'),
    ]  # fmt: skip


def test_a_suspension_that_lapsed_is_told_as_such():
    """A suspension is kept though nothing is remembered; whether its end was told before is told."""
    waits = [{"decision": "d1"}, {"decision": "d2"}]
    records = [decision(n, "A", **kept({}, key=f"k{n}", suspended=each)) for n, each in enumerate(waits)]
    lapsed = fact("note", "decide/recover", "suspend", "d2:lapsed", logged=WALL, data={"text": "nothing came"})
    assert [each.lapsed for each in asked([*records, lapsed], remembered_before, "B", WALL)] == [False, True]
