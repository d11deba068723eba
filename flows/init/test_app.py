"""Tests of the application: the whole walk in memory, no broker, a fixed clock.   pytest"""

from app import Alarm, Reading, alarms, app, readings

from headwater import Decision, Option
from headwater.agents.testing import ScriptedModel
from headwater.testing import walk

LOW, HIGH = Reading(id="1", gauge="pier", metres=0.4), Reading(id="2", gauge="pier", metres=2.1)


def test_the_newest_reading_is_what_the_index_says():
    """Of two readings of one gauge the later one counts."""
    result = walk(app, [(readings, LOW), (readings, HIGH)])
    assert result.documents["level/pier"] == "The gauge at pier stands at 2.1 metres."


def test_high_water_wakes_the_agent_once():
    """One episode, however often the gauge says so."""
    result = walk(app, [(readings, LOW), (readings, HIGH), (readings, HIGH)])
    assert [(a.rule, a.key, a.phase) for a in result.activations] == [("high_water", "pier", "opened")]


def test_a_sure_decision_publishes_an_alarm_and_an_unsure_one_asks():
    """Above act_above the alarm goes out; below it a person is asked."""
    alarm = Alarm(response="warn residents")
    sure = walk(app, [(readings, HIGH)], model=ScriptedModel(Decision(alarm, options=(Option("warn residents", 0.9),), confidence=0.9)))
    assert [effect.topic for effect in sure.effects] == [alarms.name]
    unsure = walk(app, [(readings, HIGH)], model=ScriptedModel(Decision(alarm, confidence=0.5)))
    assert unsure.effects == []
    assert unsure.decisions[0].state == "waiting"
