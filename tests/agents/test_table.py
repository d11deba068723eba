"""by_rules: the first row that holds, and nothing else, decides."""

import asyncio
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.agents.agent import Publish, agent
from headwater.agents.context import Ports
from headwater.agents.decide import decide
from headwater.agents.table import by_rules
from headwater.agents.testing import MemorySearch, ScriptedModel, activation
from headwater.lineage.errors import AgentFailed, Misused
from headwater.lineage.topic import Topic


class Plan(BaseModel):
    response: str


PLANS = Topic("plans", Plan)
RULE = SimpleNamespace(name="cancellations")
REBOOK, HOLD = Plan(response="rebook"), Plan(response="hold")
ROWS = [
    (pl.col("value") >= 0.2, REBOOK, "A fifth or more are cancelled."),
    (lambda woken: woken.key == "EWR", HOLD, "Newark holds early."),
]
PORTS = Ports(MemorySearch(), ScriptedModel(RuntimeError("a table asks no model")), clock=lambda: 7, broker="B")


def decided(function, **woken):
    made = agent(wakes_on=[RULE], publishes=[PLANS], attempts=1)(function)
    return asyncio.run(decide(made, activation(**{"key": "JFK", **woken}), PORTS))


@given(st.lists(st.booleans(), max_size=6))
def test_the_first_row_that_holds_decides(holds):
    """Against the plain reading of a table, for every pattern of rows that hold; none: nothing to do."""
    rows = [(lambda woken, held=held: held, Plan(response=str(n)), f"row {n}") for n, held in enumerate(holds)]
    found = decided(by_rules("table", rows, publish=PLANS))
    first = next((n for n, held in enumerate(holds) if held), None)
    assert (found.state, found.choice) == (("no_action", None) if first is None else ("acted", {"response": str(first)}))
    assert len(found.effects) == (first is not None)


def test_a_decision_by_rules_is_accounted_for():
    """Rationale, the options with the chosen one at 1, the event under the activation's key, and a note that names the row."""
    found = decided(by_rules("by_the_book", ROWS, otherwise=(Plan(response="watch"), "Nothing stands out."), publish=PLANS), value=0.3)
    assert (found.agent, found.rationale, found.confidence) == ("by_the_book", "A fifth or more are cancelled.", 1.0)
    assert [(option.name, option.confidence) for option in found.options] == [("rebook", 1.0), ("hold", 0.0), ("watch", 0.0)]
    assert [(effect.topic, effect.key) for effect in found.effects] == [("plans", "JFK")]
    assert [record.data["row"] for record in found.records if record.kind == "note"] == [0]


@pytest.mark.parametrize(("woken", "response"), [({"value": 0.1, "key": "EWR"}, "hold"), ({"value": 0.1}, "watch")])
def test_functions_and_otherwise(woken, response):
    """A predicate may be a function; where no row holds, `otherwise` is chosen."""
    assert decided(by_rules("t", ROWS, otherwise=(Plan(response="watch"), "")), **woken).choice == {"response": response}


def test_more_than_one_effect():
    """`effects` adds to what is published."""
    more = by_rules("t", ROWS, publish=PLANS, effects=lambda plan, woken: [Publish(PLANS, plan, key=f"{woken.key}-again")])
    assert [effect.key for effect in decided(more, value=1.0).effects] == ["JFK", "JFK-again"]


@pytest.mark.parametrize("predicate", [lambda woken: 1 / 0, lambda woken: "yes", pl.col("value") + 1, pl.col("key").str.to_integer() > 1])
def test_a_row_that_cannot_be_told_fails_by_its_number(predicate):
    """Such a decision goes to a person; the error names the row."""
    found = decided(by_rules("t", [ROWS[1], (predicate, HOLD, "")]))
    assert found.state == "waiting" and "row 1" in found.error and AgentFailed.__name__ in found.error


@pytest.mark.parametrize("row", [("always", HOLD, ""), (ROWS[0][0], HOLD), (pl.col("delay") > 1, HOLD, "")])
def test_a_row_that_is_none_is_refused_at_once(row):
    """At declaration, with its number."""
    with pytest.raises(Misused, match="row 1"):
        by_rules("t", [ROWS[0], row])


def test_a_changed_table_has_another_digest():
    """So that a change under an unchanged version is warned of."""
    declare = agent(wakes_on=[RULE])
    digests = {declare(by_rules("t", rows)).digest for rows in (ROWS, ROWS[:1], [(pl.col("value") >= 0.3, REBOOK, ROWS[0][2]), ROWS[1]])}
    assert len(digests) == 3 and declare(by_rules("t", ROWS)).digest in digests
