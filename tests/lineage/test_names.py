import pytest

from headwater.lineage import names
from headwater.lineage.event import Position
from headwater.lineage.names import Thing, mentioning, names_of, things
from headwater.lineage.record import fact
from headwater.lineage.store import Store
from headwater.lineage.testing import document, landings


def test_a_verdict_is_found_by_its_review_and_its_decision():
    """A verdict is no thing of its own: who asks for the review or the decision finds it."""
    data = {"review": "r", "decision": "d", "verdict": "approved", "by": "Ada", "reason": "", "accepted": True}
    record = fact("verdict", "decide/warn", "verdict", "r", logged=1, parents=("r", "d"), data=data)
    assert list(things(record)) == [Thing("review", "r"), Thing("decision", "d")]
    assert sorted(names_of(record)) == ["d", "r"]


@pytest.mark.parametrize("in_a_run", [40, 10_000])
def test_names_are_found_one_by_one_and_many_at_once_in_runs_and_before(monkeypatch, in_a_run):
    """However many names are asked for, and whether they lie in sorted runs yet: what names one is found, once, in landing order."""
    monkeypatch.setattr(names, "NAMES_IN_A_RUN", in_a_run)
    said = [document(Position("b", "flights", 0, offset)) for offset in range(100)]
    with Store(":memory:", clock=lambda: 1) as store:
        for n, landing in enumerate(landings(said, 7)):
            store.land([landing._replace(offset=n)])
        with store.cursor() as cursor:
            sorted_names = cursor.execute("SELECT count(*) FROM names").fetchall()[0][0]
            assert (sorted_names > 0) is (in_a_run == 40)
            for many in (1, 2, 13, names.SINGLY, names.SINGLY + 1, 100):
                wanted = said[-many:]
                asked = [name for record in reversed(wanted) for name in names_of(record)] + ["nobody"]
                assert [record.id for record in mentioning(cursor, asked)] == [record.id for record in wanted]
                assert [record.id for record in mentioning(cursor, [record.ref for record in wanted])] == [record.id for record in wanted]
