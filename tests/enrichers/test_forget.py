import pytest

from headwater.enrichers.forget import forget
from headwater.enrichers.head import Head


def everything(world):
    """All points of documents, live or kept as history."""
    found, cursor = world.index.states_from(None, 1000)
    assert cursor is None
    return found


def test_a_forgotten_document_leaves_nothing_but_a_head_that_refuses_its_past(world):
    """Its chunks and their kept history go, at every time; another document stays; an older event is stale, a newer one begins anew."""
    writer = world.writer()
    old = world.said("a", 2, "rain at Newark")
    writer.index([old, world.said("a", 3, "snow at Newark"), world.said("b", 1, "sun at Newark")])
    assert forget(world.index, ["note/a", "note/none"]) == 2
    assert world.texts("Newark") == ["sun at Newark"] and len(everything(world)) == 1
    head: Head = world.index.heads(["note/a"])["note/a"]
    assert (head.hashes, head.gone, [entry.digest for entry in head.entries]) == ((), (), [""])
    again = writer.index([old, world.said("a", 1, "hail at Newark"), world.said("a", 4, "fog at Newark")])
    assert [outcome for _, outcome in again.outcomes] == ["stale", "stale", "indexed"]
    assert sorted(world.texts("Newark")) == ["fog at Newark", "sun at Newark"]


@pytest.mark.parametrize("step", ["delete", "second flip"])
def test_forgetting_goes_on_after_a_kill(world, step, monkeypatch):
    """Killed between any two steps and done again, nothing is left: the head tells what is to go until it is gone."""
    world.writer().index([world.said("a", 2, "rain at Newark"), world.said("a", 3, "snow at Newark")])
    flip, flips = world.index.flip, []

    def killed(*_):
        raise KeyboardInterrupt

    def once(heads):
        flips.append(heads)
        if step == "second flip" and len(flips) == 2:
            raise KeyboardInterrupt
        flip(heads)

    with monkeypatch.context() as patch:
        patch.setattr(world.index, "flip", once)
        if step == "delete":
            patch.setattr(world.index, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(world.index, ["note/a"])
    forget(world.index, ["note/a"])
    assert not everything(world) and not world.texts("Newark") and not world.index.heads(["note/a"])["note/a"].gone
