"""PROV-JSON: valid by its schema, read back by the reference library, and nothing of the path lost on the way."""

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prov.model import ProvActivity, ProvAgent, ProvDocument, ProvEntity

from headwater.lineage.errors import Misused
from headwater.lineage.prov import prov_of
from headwater.lineage.record import fact
from headwater.lineage.seen import Why
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import BROKER, landings, name, sample_records
from headwater.lineage.why import why

SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "prov-json.json").read_text())
DECISION = name("decision")


@pytest.fixture(scope="module")
def path():
    """The sample decision, asked about and approved by a person, and a tool that it called."""
    decision = DECISION
    asked = {"question": "May it?", "reason": "unsure", "decision": decision}
    said = {"verdict": "approved", "by": "ann", "accepted": True, "decision": decision}
    called = {"tool": "tide", "arguments": {}, "answer": {"tide": "ebb"}}
    more = [
        fact("review", "decide/a", "decide", "R", logged=5, parents=(decision,), data=asked),
        fact("verdict", "decide/a", "verdict", "R", logged=6, parents=("R", decision), data=said),
        fact("tool", "decide/a", "call", f"{decision}:t0", logged=4, data=called),
    ]
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings(sample_records()))
        store.land([Landing(BROKER, 0, 10**6, more)])
        yield why(store, decision)


def read(told):
    """The document, if its schema takes it and the library reads the same out of it as it writes again."""
    jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER).validate(told)
    document = ProvDocument.deserialize(content=json.dumps(told), format="json")
    assert ProvDocument.deserialize(content=document.serialize(format="json"), format="json") == document
    return document


def names(document, kind):
    return {str(record.identifier) for record in document.get_records(kind)}


def test_the_path_of_a_decision_is_valid_prov(path):
    """Schema and library take it; what there was are entities, who did it are agents."""
    document = read(prov_of(path))
    decision = path.decisions[0]
    entities, activities, agents = (names(document, kind) for kind in (ProvEntity, ProvActivity, ProvAgent))
    assert f"hw:decision/{decision.id}" in entities and f"hw:activation/{decision.activation.id}" in entities
    chunks = {chunk.id for retrieval in decision.retrievals for chunk in retrieval.results}
    assert len([each for each in entities if each.startswith("hw:chunk/")]) == len(chunks) > 0
    assert {f"hw:decide/{decision.id}", "hw:judge/R"} <= activities
    assert {f"hw:agent/{decision.agent}%40{decision.version}", f"hw:rule/{decision.activation.rule}", "hw:person/ann"} <= agents


def test_from_the_effect_every_event_and_evidence_is_reached(path):
    """Following wasDerivedFrom backwards from what was done leads to all that woke the agent and all that it named as evidence."""
    told, decision = prov_of(path), path.decisions[0]
    came = [(each["prov:generatedEntity"], each["prov:usedEntity"]) for each in told["wasDerivedFrom"].values()]
    effects = {each["prov:entity"] for each in told["wasGeneratedBy"].values() if each["prov:activity"].startswith("hw:perform/")}
    reached, pending = set(), list(effects)
    while pending:
        here = pending.pop()
        new = {source for made, source in came if made == here} - reached
        reached |= new
        pending += new
    labels = {told["entity"][each].get("prov:label") for each in reached}
    assert effects and {event.short for event in decision.activation.events} <= labels
    used = {chunk.id for retrieval in decision.retrievals for chunk in retrieval.results if chunk.used}
    assert used and {f"hw:chunk/{each}" for each in used} <= reached


def test_every_end_of_every_relation_is_told(path):
    """No relation names a thing that the document does not hold."""
    told = prov_of(path)
    things = {each for kind in ("entity", "activity", "agent") for each in told[kind]}
    ends = {
        value for kind, relations in told.items() if kind not in ("prefix", "entity", "activity", "agent")
        for each in relations.values() for end, value in each.items() if end not in ("prov:role", "prov:time")
    }  # fmt: skip
    assert ends and ends <= things


@given(st.text(min_size=1, max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_whatever_ids_and_texts_hold_the_document_is_valid(path, key, text, person):
    """Names from outside are encoded; what they hold is told as it was."""
    decision = path.decisions[0]
    event = msgspec.structs.replace(decision.activation.events[0], position=key, id=key, text=text)
    odd = msgspec.structs.replace(
        decision, rationale=text, activation=msgspec.structs.replace(decision.activation, key=key, events=(event,)),
        reviews=({"id": key, "question": text, "verdict": "approved", "by": person},),
    )  # fmt: skip
    read(prov_of(Why(id=odd.id, kind="decision", decisions=(odd,))))


def test_what_nothing_was_decided_over_is_refused():
    """A path without a decision has no provenance to tell, and says so."""
    with pytest.raises(Misused, match="no decision hangs on"):
        prov_of(Why(id="e", kind="event"))
