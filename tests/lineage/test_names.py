from headwater.lineage.names import Thing, names_of, things
from headwater.lineage.record import fact


def test_a_verdict_is_found_by_its_review_and_its_decision():
    """A verdict is no thing of its own: who asks for the review or the decision finds it."""
    data = {"review": "r", "decision": "d", "verdict": "approved", "by": "Ada", "reason": "", "accepted": True}
    record = fact("verdict", "decide/warn", "verdict", "r", logged=1, parents=("r", "d"), data=data)
    assert list(things(record)) == [Thing("review", "r"), Thing("decision", "d")]
    assert sorted(names_of(record)) == ["d", "r"]
