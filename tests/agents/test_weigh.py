import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.weigh import Passage, best_of, described, sentences, stated, weigh
from headwater.enrichers.testing import HashEmbedder

PLANS = {"hold departures": "", "rebook passengers": "", "keep watching": ""}
RULES = Passage("rules", "Rebook passengers when a fifth or more of the flights are cancelled.\nAt one mile or less, hold departures.")
FLIGHT = Passage("flight", "Flight UA 1545 from Newark to Houston is late.")
embed = HashEmbedder(256).embed
said = ("flights", "cancelled", "snow", "hold", "departures", "rebook", "passengers", "late", "7 of the 25", "half a mile", "not", ".")
words = st.sampled_from(said)
texts = st.lists(words, max_size=12).map(" ".join)


def test_a_rule_in_the_evidence_decides():
    """Options without a word of description are told apart by what the evidence states, quantities included."""
    cancelled = weigh("7 of the 25 flights were cancelled.", PLANS, [RULES], embed)
    foggy = weigh("The view is half a mile in fog.", PLANS, [RULES], embed)
    assert cancelled.choice == "rebook passengers" and foggy.choice == "hold departures"
    assert cancelled.spoken["rebook passengers"].source == "rules"


def test_a_changed_procedure_changes_the_choice():
    """The same case under another rule is another choice: what decides is the evidence and not the model."""
    case = "7 of the 25 flights were cancelled."
    text = "Rebook passengers when half or more of the flights are cancelled. Below a third of the flights cancelled, keep watching."
    strict = Passage("rules", text)
    assert weigh(case, PLANS, [RULES], embed).choice == "rebook passengers"
    assert weigh(case, PLANS, [strict], embed).choice == "keep watching"


def test_without_is_the_choice_without_that_chunk():
    """`without` says exactly what weighing gives when the chunk is not there, facts' and rules' alike."""
    case = "7 of the 25 flights were cancelled."
    more = Passage("more", "Keep watching while the flights are late.")
    outcome = weigh(case, PLANS, [RULES, more, FLIGHT], embed)
    assert set(outcome.without) == {"rules", "more", "flight"}
    assert outcome.without["rules"]["rebook passengers"] < outcome.probabilities["rebook passengers"]
    assert outcome.without["flight"] != outcome.probabilities


def test_only_unmistakable_sentences_speak():
    """A sentence speaks for an option if it names it, does not negate it, and names no other."""
    text = "Hold the departures. Do not rebook passengers yet. Hold departures or rebook passengers. Nothing is named here at all."
    assert [(spoken.text, spoken.option) for spoken in stated(Passage("p", text), PLANS)] == [("Hold the departures.", "hold departures")]


def test_an_option_speaks_for_itself():
    """A description's clauses are statements, and the option's name is one."""
    assert [(s.text, s.option) for s in described({"hold": "fog, snow on the runway; late."})] == [
        ("hold", "hold"), ("fog", "hold"), ("snow on the runway", "hold"), ("late", "hold")
    ]  # fmt: skip


def test_list_items_are_sentences():
    """Numbers and dashes of lists are no part of a sentence, short scraps are none."""
    assert sentences("1. Hold departures at the gate. Ask again later.\n- keep watching it all\nNo.") == [
        "Hold departures at the gate.", "Ask again later.", "keep watching it all"
    ]  # fmt: skip


@pytest.mark.parametrize(("situation", "likely"), [("the server room is on fire", "yes"), ("lunch was served at noon", "no")])
def test_a_lone_option_must_fit(situation, likely):
    """Against an option for which nothing speaks, the other wins only if it fits."""
    outcome = weigh(situation, {"yes": "the server room is on fire"}, [], embed, otherwise="no")
    assert outcome.choice == likely


@given(texts, st.lists(texts, max_size=3), st.dictionaries(st.sampled_from(list(PLANS)), texts, min_size=1))
def test_probabilities_add_up(situation, passages, options):
    """Whatever is said, every option has a probability, they add up to one, and so do those without each chunk."""
    evidence = [Passage(str(n), text) for n, text in enumerate(passages)]
    outcome = weigh(situation, options, evidence, embed)
    for shares in (outcome.probabilities, *outcome.without.values()):
        assert list(shares) == list(options) and all(0 <= share <= 1 for share in shares.values())
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert outcome.choice == best_of(outcome.probabilities) and set(outcome.without) == {passage.id for passage in evidence}
    assert weigh(situation, options, evidence, embed) == outcome
