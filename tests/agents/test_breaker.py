"""The circuit breaker as a state machine, against its laws and a history kept beside it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.breaker import Breaker, Circuit, admit, ended
from headwater.lineage.errors import Misused

S = 1_000_000
moves = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("failed"), st.integers(0, 5)),
        st.tuples(st.just("answered"), st.integers(0, 5)),
        st.tuples(st.just("cut"), st.integers(0, 5)),
        st.tuples(st.just("pass"), st.integers(1, 40)),
    ),
    max_size=80,
)
breakers = st.builds(
    Breaker, failures=st.integers(1, 4), share=st.sampled_from([None, 0.5, 1.0]), at_least=st.integers(1, 4),
    probes=st.integers(1, 3), closes=st.integers(1, 3), rest=st.just("10s"), within=st.just("20s"),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(breakers, moves)
def test_a_circuit_keeps_its_laws(breaker, given_moves):
    """Nobody is admitted while it is open; half-open lets at most `probes` through at once; it opens only by a failure that its
    declaration names, and closes only after `closes` probes of one era; what began in an earlier era changes nothing."""
    circuit, now, out = Circuit(), 0, []
    answered_in_era = 0
    streak = 0
    for move, n in given_moves:
        before = circuit
        if move == "pass":
            now += n * S
        elif move == "ask":
            circuit, era, wait = admit(breaker, circuit, now)
            if before.standing == "open" and now < before.until:
                assert era is None and wait == before.until - now
            if before.standing == "open" and now >= before.until:
                assert circuit.standing == "half_open" and era is not None
                answered_in_era = 0
            if era is not None:
                out.append(era)
        elif out:
            era = out.pop(n % len(out))
            circuit = ended(breaker, circuit, era, now, failed={"failed": True, "answered": False, "cut": None}[move])
            if era != before.era:
                assert circuit == before
                continue
            if before.standing == "half_open":
                answered_in_era += move == "answered"
                expected = "open" if move == "failed" else "closed" if answered_in_era >= breaker.closes else "half_open"
                assert circuit.standing == expected
                streak = 0
            else:
                streak = {"failed": streak + 1, "answered": 0, "cut": streak}[move]
                if streak >= breaker.failures:
                    assert circuit.standing == "open" and circuit.until == now + 10 * S
                if circuit.standing == "open":
                    assert move == "failed" and (streak >= breaker.failures or breaker.share is not None)
                    streak = 0
        if circuit.standing == "half_open":
            probing = sum(era == circuit.era for era in out)
            assert probing == circuit.out <= breaker.probes
        assert circuit.era >= before.era and (circuit.standing == before.standing or circuit.era > before.era)


def attempts(breaker, told, every=S):
    """A circuit after attempts one after another: x failed, o answered."""
    circuit, now = Circuit(), 0
    for each in told:
        circuit, era, _ = admit(breaker, circuit, now)
        assert era is not None
        circuit = ended(breaker, circuit, era, now, failed=each == "x")
        now += every
    return circuit


def test_failures_in_a_row_open_it():
    """The n-th failure in a row opens it; a success between them begins the count anew."""
    assert attempts(Breaker(failures=3), "xxoxx").standing == "closed"
    assert attempts(Breaker(failures=3), "xxoxxx").standing == "open"


def test_a_share_of_a_window_opens_it():
    """With `share`, failures that are not in a row open it too, once there are enough attempts; what left the window is forgotten."""
    breaker = Breaker(failures=9, share=0.5, at_least=6, within="10s")
    assert attempts(breaker, "xoxox").standing == "closed"
    assert attempts(breaker, "xoxoxox").standing == "open"
    assert attempts(breaker, "xxx" + "ooooooooooo" + "xx").standing == "closed"
    assert len(attempts(breaker, "xo" * 2, every=3 * S).recent) <= 10


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"failures": 0}, "failures=0"), ({"share": 1.5}, "share=1.5"), ({"otherwise": "drop"}, "otherwise="), ({"rest": "soon"}, "soon")],
)
def test_a_breaker_that_means_nothing_is_refused(wrong, says):
    """A declaration that cannot hold is refused where it is made, with the value."""
    with pytest.raises(Misused, match=says):
        Breaker(**wrong)
