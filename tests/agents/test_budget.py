"""The budget: what is spent is counted once, per UTC day, over crashes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.budget import DAY, Budget, Purse, Spent, later
from headwater.lineage.errors import Misused


def take(purse, now):
    found = purse.look(now)
    if found == "free":
        purse.take()
    return found


spent = st.builds(Spent, day=st.integers(0, 3), tokens=st.integers(0, 50).map(float), cost=st.integers(0, 50).map(float))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["p0", "p1"]), st.integers(0, 3), st.integers(0, 20)), max_size=40), st.data())
def test_no_crash_forgets_or_doubles(attempts, data):
    """Running totals read back in any order, any number of times, beside a snapshot from any moment, give what was spent."""
    budget, purse, journal, snapshot = Budget(tokens=10**9), Purse(Budget(tokens=10**9)), {"p0": [], "p1": []}, {}
    now = 0
    for name, days, tokens in attempts:
        now += days * DAY // 2
        assert take(purse, now) == "free"
        journal[name].append(purse.end(name, now, {"input_tokens": tokens}))
        if data.draw(st.booleans()):
            snapshot[name] = purse.total(name)
    revived = Purse(budget)
    for name, entries in journal.items():
        kept = data.draw(st.integers(0, len(entries)))
        tail = entries[len(entries) - kept :]
        if name not in snapshot or (tail and entries.index(tail[0]) > 0 and snapshot[name] == Spent()):
            tail = entries
        elif entries and later(snapshot[name], entries[-1]) != snapshot[name]:
            tail = [*tail, entries[-1]]  # what is newer than the snapshot is always read
        revived.learn(name, [snapshot.get(name, Spent()), *data.draw(st.permutations(tail * 2))])
    assert revived.spent("tokens", now) == purse.spent("tokens", now)


@given(st.lists(spent, min_size=1), st.data())
def test_the_later_total_is_the_same_in_any_order(totals, data):
    """Merging running totals is idempotent, commutative and associative."""

    def merged(each):
        found = Spent()
        for one in each:
            found = later(found, one)
        return found

    assert merged(totals) == merged(data.draw(st.permutations(totals + totals)))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10)), max_size=60))
def test_many_at_once_do_not_break_it(moves):
    """However many are on their way, the budget is passed by no more than one decision, where none takes more than a hundredth of it."""
    purse, out, now = Purse(Budget(tokens=1000)), 0, 0
    for ends, tokens in moves:
        while take(purse, now) == "free":
            out += 1
        for _ in range(min(out, ends)):
            purse.end("p", now, {"output_tokens": tokens})
            out -= 1
    assert purse.spent("tokens", now) + out * 10 <= 1000 + 10


def test_busy_is_not_spent():
    """While what is on its way may use up the rest one is told to ask again; what is spent is spent until the day is over."""
    purse = Purse(Budget(tokens=100))
    assert take(purse, 0) == "free"
    purse.end("p", 0, {"input_tokens": 60})
    assert [take(purse, 0), take(purse, 0)] == ["free", "busy"]
    purse.end("p", 0, {"input_tokens": 10})
    assert take(purse, 0) == "free"
    purse.end("p", 0, {"input_tokens": 60})
    assert take(purse, DAY - 1) == "spent" and take(purse, DAY) == "free"


def test_prices_make_cost():
    """Cost is what a decision says itself, and its amounts at the declared prices."""
    budget = Budget(cost=1.0, prices={"input_tokens": 0.25, "calls": 2.0})
    assert budget.amounts({"input_tokens": 4.0, "output_tokens": 1.0, "cost": 0.5}) == {"tokens": 5.0, "cost": 1.5}
    assert budget.amounts({}) == {"tokens": 0.0, "cost": 0.0}


@pytest.mark.parametrize("wrong", [{}, {"tokens": 0}, {"cost": -1}, {"cost": 1, "prices": {"x": -1}}])
def test_a_budget_that_means_nothing_is_refused(wrong):
    """A budget names a limit above nothing, and prices not below."""
    with pytest.raises(Misused):
        Budget(**wrong)
