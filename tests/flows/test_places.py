import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.journal import Decided
from headwater.flows import places
from headwater.flows.places import Places


def decided(n: int) -> Decided:
    return Decided(id=f"d{n}", agent="a", by="a", version="1", digest="", activation=f"a{n}", key="k", at=n, state="acted")


@pytest.fixture(autouse=True, scope="module")
def near():
    """A look back that is soon reached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "LOOK_BACK", 10)
        yield


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=40), st.data())
def test_who_reads_from_since_knows_enough_and_not_too_much(written, data):
    """From `since` on lie all decisions in flight, and before the oldest as many entries, or offsets, as are looked back."""
    known, lies, offset, ended = Places(0), list[int](), 0, 0
    for many, apart in written:
        known.note([decided(len(lies) + each) for each in range(many)], offset)
        lies += [offset] * many
        in_flight = data.draw(st.sets(st.integers(ended, len(lies) - 1), max_size=2))
        ended = min(in_flight, default=len(lies))
        oldest = min((lies[n] for n in in_flight), default=offset + 1)
        since = known.since(f"d{n}" for n in in_flight)
        before = [lie for lie in lies if lie < oldest]
        read = sum(lie >= since for lie in before)
        assert oldest - 10 <= since <= oldest
        assert read >= min(len(before), 10) or since == oldest - 10
        assert read < 10 + 6
        offset += apart


def test_what_is_forgotten_holds_nothing_back():
    """A decision whose outcome is in a snapshot is not asked for, and stands nowhere."""
    known = Places(0)
    for n in range(40):
        known.note([decided(n)], n)
    assert known.since(["d3"]) == 0
    known.forget("d3")
    assert known.since(["d3"]) == known.since([]) == 30
