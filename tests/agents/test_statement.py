import pytest

from headwater.agents.clause import clauses, sentences, state
from headwater.agents.quantity import MILES, MINUTES, SHARE, Range
from headwater.agents.statement import Passage, described, stated

PLANS = {"hold departures": "", "rebook passengers": "", "keep watching": ""}


def ways(text, title=""):
    return [way for spoken in stated(Passage("p", text, title), PLANS) for way in spoken.ways]


def test_only_unmistakable_sentences_speak():
    """A sentence speaks for an option if it names it in its own words, does not negate it, and names no other."""
    text = "Hold the departures. Do not rebook passengers yet. Hold departures or rebook passengers. The desk rebooks single passengers."
    assert [(spoken.text, spoken.option) for spoken in stated(Passage("p", text), PLANS)] == [("Hold the departures.", "hold departures")]


def test_conditions_come_before_the_option_or_after_when():
    """What is said before the option is its condition; after it only what "when" and its like begin; the rest is advice."""
    before, after = ways("At one mile or less, hold departures for ten minutes.") + ways("Hold departures when delays exceed an hour.")
    assert [one.range for one in before.quantities] == [Range(MILES, float("-inf"), 1)]
    assert [one.range for one in after.quantities] == [Range(MINUTES, 60, float("inf"), low_open=True)]


def test_or_when_makes_another_way():
    """Conditions joined by "or when" are separate ways; others must hold together."""
    either = ways("Hold departures when half of the flights are cancelled, or when delays exceed an hour.")
    both = ways("With delays over an hour and half of the flights cancelled, hold departures.")
    assert [[one.range.unit for one in way.quantities] for way in either] == [[SHARE], [MINUTES]]
    assert [[one.range.unit for one in way.quantities] for way in both] == [[MINUTES, SHARE]]


def test_advice_without_a_condition_has_that_before_it():
    """The sentence before is the condition of advice that has none, else the title; a quantity about nothing is about the title."""
    (after,) = ways("When half of the flights are cancelled, it is bad. Rebook passengers.")
    (alone,) = ways("Hold departures.", "Ground stop")
    (mile,) = ways("At one mile or less, hold departures.", "Low visibility")
    assert [one.range.unit for one in after.quantities] == [SHARE] and alone.texts == ("Ground stop",)
    assert [one.about for one in mile.quantities] == ["Low visibility"]


def test_what_follows_from_an_option_is_no_condition_of_it():
    """ "When we hold departures" says what else to do then, not when to."""
    assert ways("When we hold departures: say why to everybody.") == []


def test_an_option_speaks_for_itself():
    """A description's clauses are statements, and the option's name is one; "otherwise" is none."""
    assert [(s.text, s.option) for s in described({"hold": "Otherwise: fog, snow on the runway; late."})] == [
        ("hold", "hold"), ("fog", "hold"), ("snow on the runway", "hold"), ("late", "hold")
    ]  # fmt: skip


def test_list_items_are_sentences():
    """Numbers and dashes of lists are no part of a sentence, short scraps are none."""
    assert sentences("1. Hold departures at the gate. Ask again later.\n- keep watching it all\nNo.") == [
        "Hold departures at the gate.", "Ask again later.", "keep watching it all"
    ]  # fmt: skip


def test_clauses():
    """A sentence is cut at commas, colons and conjunctions, and before what is compared with."""
    assert clauses("Snow falls, but flights go; delays: 40 minutes after 60 the hour before.") == [
        "Snow falls", "but flights go", "delays", "40 minutes", "after 60 the hour before"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("clause", "says"),
    [
        ("a storm stands over the field", "now"),
        ("the storm is over", "not"),
        ("the ground stop was lifted", "not"),
        ("no ground stop is in force", "not"),
        ("rain is forecast", "ahead"),
        ("visibility was half a mile an hour ago", "past"),
    ],
)
def test_whether_a_clause_is_the_case(clause, says):
    """A clause says what is, was, lies ahead, or is not or no longer so."""
    assert state(clause) == says
