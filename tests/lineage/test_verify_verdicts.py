"""What verify says of reviews: every verdict dropped, doubled or passed over is named."""

import msgspec
import pytest

from headwater.lineage.record import fact
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, WALL, landings, name, sample_records, verdict
from headwater.lineage.verify import verify

APPROVED = sample_records(state="approved")
REVIEW, DECISION, EFFECT = name("review"), name("decision"), name("effect")


def offences(records, **options):
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings(records, 100))
        return verify(store, **{"in_flight_ok": False, **options}).offences


def without(kind):
    return [record for record in APPROVED if record.kind != kind]


def changed(kind, **data):
    """The sample with other data in its records of a kind."""
    return [
        msgspec.structs.replace(record, data={**record.data, **data}) if record.kind == kind else record for record in APPROVED
    ]


def test_a_review_that_was_approved_is_no_offence():
    """Asked, approved once, done after that: nothing to say, whether flows run or not."""
    assert offences(APPROVED) == () and offences(APPROVED, in_flight_ok=True) == ()


def test_a_dropped_verdict_is_named():
    """Law 7: what a review held back happened without an approval; both the effect and the outcome are named."""
    found = offences(without("verdict"))
    assert any(f"review {REVIEW}: effect {EFFECT} (plans) happened, but no verdict approved it" in told for told in found)
    assert any(f"ended approved by decision {DECISION}, but no verdict" in told for told in found)
    assert offences(without("verdict"), in_flight_ok=True) == ()


def test_a_doubled_verdict_is_named():
    """A review is judged once: two verdicts that both counted are named, whatever they say; the same one told twice is one."""
    second = verdict("declined", f"{BROKER}/headwater.reviews/0/2")
    assert any(f"review {REVIEW}: verdicts both counted" in told and "declined" in told for told in offences([*APPROVED, second]))
    assert offences([*APPROVED, verdict("approved")]) == ()


def test_a_verdict_that_was_refused_counts_for_nothing():
    """A second verdict that did not count is no offence, and approves nothing."""
    refused = msgspec.structs.replace(verdict("approved", "elsewhere"), data={**verdict("approved").data, "accepted": False})
    assert offences([*APPROVED, refused]) == ()
    assert any("no verdict approved it" in told for told in offences([*without("verdict"), refused]))


def test_a_verdict_without_its_review_is_named():
    """A verdict on a review that is not recorded is named once nothing is on its way."""
    assert any(f"review {REVIEW}: was approved, but no such review is recorded" in told for told in offences(without("review")))
    assert offences(without("review"), in_flight_ok=True) == ()


def test_an_effect_before_its_approval_is_named():
    """An effect that was sent before its approval counted is named, also while flows run."""
    early = changed("effect", sent=WALL + 174_999)
    for running in (True, False):
        assert offences(early, in_flight_ok=running) == (
            f"agent recover, review {REVIEW}: effect {EFFECT} (plans) happened before it was approved",
        )


@pytest.mark.parametrize("said", ["declined", "expired"])
def test_what_was_declined_must_not_happen(said):
    """Nothing that a review held back happens after it was declined or has expired."""
    records = [*without("verdict"), verdict(said)]
    assert any(f"effect {EFFECT} (plans) happened, but no verdict approved it" in told for told in offences(records))


def test_the_fate_of_a_call_holds_back_only_what_follows_it():
    """Nobody knows what became of a call: the call itself and what came before it stand, what comes after it waits for a verdict."""
    kept = [record for record in APPROVED if record.kind not in ("effect", "review", "verdict", "outcome")]
    kept += [record for record in sample_records() if record.kind == "outcome"]

    def done(ordinal, state="done"):
        data = {"ordinal": ordinal, "effect": "call", "target": f"tool-{ordinal}", "state": state, "sent": WALL}
        return fact("effect", "decide/recover", "effects", f"effect-{ordinal}", logged=1, parents=(DECISION,), ordinal=ordinal, data=data)

    data = {"decision": DECISION, "agent": "recover", "effect": "effect-1"}
    asked = fact("review", "decide/recover", "effects", REVIEW, logged=1, parents=(DECISION,), data=data)
    assert offences([*kept, done(0), done(1, "unknown"), asked]) == ()
    assert offences([*kept, done(0), asked]) == ()  # what is said of the call may land later
    assert offences([*kept, done(0), done(1, "unknown"), asked, done(2)]) == (
        f"agent recover, review {REVIEW}: effect effect-2 (tool-2) happened, but no verdict approved it",
    )


@pytest.mark.parametrize("said", ["waiting", "approved", "declined", "expired"])
def test_the_view_of_reviews_tells_their_state(said):
    """Each review has one row: `waiting` until a verdict counts, whatever was refused before and comes after."""
    refused = msgspec.structs.replace(verdict("declined", "elsewhere"), data={**verdict("declined").data, "accepted": False})
    judged = [] if said == "waiting" else [verdict(said), verdict("approved", "later")]
    asked = without("verdict")
    again = [msgspec.structs.replace(record, id=f"{record.id[:-1]}!") for record in asked if record.kind == "review"]
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings([*asked, *again, refused, *judged], 100))
        with store.cursor() as cursor:
            rows = cursor.execute('SELECT id, state, judged_by, judged IS NULL FROM reviews').fetchall()
    assert rows == [(REVIEW, said, None if said == "waiting" else "ada", said == "waiting")]


def test_the_view_of_activations_tells_the_version_of_the_rule():
    """An activation's row has its rule's version; one recorded before versions were has the first."""
    (fired,) = [record for record in APPROVED if record.kind == "activation"]
    newer = msgspec.structs.replace(fired, id="f" * 32, ref="another", data={**fired.data, "version": "7"})
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings([fired, newer], 100))
        with store.cursor() as cursor:
            assert sorted(cursor.execute("SELECT version FROM activations").fetchall()) == [("1",), ("7",)]
