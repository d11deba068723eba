import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.statement import Passage
from headwater.agents.weigh import best_of, weigh
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


@pytest.mark.parametrize(
    ("case", "choice"),
    [
        ("10 of the 50 flights were cancelled.", "rebook passengers"),
        ("9 of the 50 flights were cancelled; visibility is three quarters of a mile.", "hold departures"),
        ("Visibility is exactly one mile, after 3 miles an hour ago; none of the 20 flights were cancelled.", "hold departures"),
        ("A fifth of the 50 flights were cancelled; visibility is a mile and a quarter.", "rebook passengers"),
    ],
)
def test_limits_decide(case, choice):
    """On which side of a rule's limit a quantity lies decides, however alike the words are; what was before does not count."""
    text = "Rebook passengers when a fifth or more of the flights were cancelled.\nWith visibility of a mile or less, hold departures."
    rules = Passage("rules", text)
    assert weigh(case, PLANS, [rules], embed).choice == choice


def test_a_broken_rule_speaks_against_its_option():
    """Less speaks for an option whose rule the case breaks than for one of which nothing is said."""
    near = weigh("6 of the 50 flights were cancelled.", PLANS, [RULES], embed).probabilities
    assert near["rebook passengers"] < min(near["keep watching"], near["hold departures"])


def test_rules_that_disagree_leave_doubt():
    """Two options whose rules the case meets share the probability; and without any rule met, no option is sure."""
    one = weigh("7 of the 25 flights were cancelled; visibility is 5 miles.", PLANS, [RULES], embed)
    both = weigh("7 of the 25 flights were cancelled; visibility is half a mile.", PLANS, [RULES], embed)
    none = weigh("The lounge has new chairs.", PLANS, [RULES], embed)
    assert max(one.probabilities.values()) > max(both.probabilities.values()) and max(none.probabilities.values()) < 0.5


def test_what_is_over_is_no_reason():
    """A cause that has passed speaks less for an option than one that lasts."""
    rules = Passage("rules", "While a ground stop is in force, hold departures.")
    lasts, over = (weigh(case, PLANS, [rules], embed) for case in ("A ground stop is in force.", "The ground stop was lifted."))
    assert lasts.probabilities["hold departures"] > over.probabilities["hold departures"]


def test_otherwise_stands_back():
    """An option for "otherwise" is chosen where no other has a reason, and not where one has."""
    options = {**PLANS, "keep watching": "Otherwise: all is well."}
    quiet, foggy = (weigh(case, options, [RULES], embed) for case in ("The lounge has new chairs.", "The view is half a mile in fog."))
    assert quiet.choice == "keep watching" and foggy.choice == "hold departures"


def test_what_is_not_known_lowers_confidence():
    """If the situation is silent on a quantity that a description requires, the choice is less sure."""
    options = {"hold departures": "Fewer than a fifth of the flights were cancelled.", "rebook passengers": ""}
    known = weigh("The view is half a mile in fog; 1 of the 20 flights were cancelled.", options, [RULES], embed)
    silent = weigh("The view is half a mile in fog.", options, [RULES], embed)
    assert silent.probabilities[silent.choice] < known.probabilities[known.choice]


def test_all_texts_are_embedded_in_one_call():
    """However many chunks are left out in turn, the embedder is asked once, and never twice for a text."""
    asked = []
    weigh("7 of the 25 flights were cancelled.", PLANS, [RULES, FLIGHT], lambda texts: asked.append(list(texts)) or embed(texts))
    assert len(asked) == 1 and len(asked[0]) == len(set(asked[0]))


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
