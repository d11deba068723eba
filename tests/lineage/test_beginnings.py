"""What no name begins with is known at once; what one begins with is found as by reading every record."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.lineage import beginnings, name_pages, names
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.event import Position
from headwater.lineage.landing import Landing
from headwater.lineage.names import names_of
from headwater.lineage.queries import why
from headwater.lineage.record import fact
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, document, landings, sample_records

IDS = ["order-17", "Ordnung 4711", "cafe12-door", "2013-02-08/EWR", "000123456789", "ümläut-Ω", 'quo"te\\back', "x" * 90, "deadbeef"]


def said():
    """Documents and firings of which names are no hex digits, in every place where a name may stand."""
    for number, id in enumerate(IDS):
        told = document(Position(BROKER, "orders", 0, number))
        yield msgspec.structs.replace(told, id=f"d{number}", ref=f"order/{id}", data={**told.data, "event": f"event of {id}"})
        cause = {"topic": "others", "partition": 0, "offset": number, "id": f"cause {id}", "key": id}
        data = {"rule": "r", "key": id, "phase": "opened", "episode": f"episode {id}", "events": [cause]}
        yield fact("activation", "detect", "rules", f"firing {id}", logged=9, parents=(f"other{number}/others/0/{number}",), data=data)
        yield fact("dead_letter", "index", "decode", f"letter {id}", logged=9, data={"event": f"dead {id}", "cause": "c", "error": "e"})


def texts():
    """Beginnings of every name, long and short, in other cases, with something wrong at their end; and what begins nothing."""
    own, others = (sorted({name for record in told for name in names_of(record)}) for told in (said(), sample_records()))
    begun = sorted({name[:length] for name in (*own, *others[::9]) for length in (6, 9, len(name) - 1)})
    return [*begun, *(f"{text}!" for text in begun[::5]), *(text.upper() for text in begun[::7]), "zzzzzz", "cafe13", "%_%_%_"]


def answer(store, text):
    try:
        found = why(store, text)
        return found.kind, found.id
    except HeadwaterError as error:
        return type(error).__name__, str(error)


@pytest.mark.parametrize(("least", "stretch", "most", "arms"), [(20, 4, 10_000, 32), (20, 4, 2, 3), (20, 1, 4, 2), (10_000, 4, 1_024, 32)])
def test_beginnings_are_answered_as_by_reading_every_record(monkeypatch, tmp_path, least, stretch, most, arms):
    """Whatever is asked for, in runs or before them, with long beginnings, short ones or none, read in few parts or many."""
    monkeypatch.setattr(name_pages, "LENGTHS", (least, 2 * least, 4 * least, 16 * least))
    for what, value in (("STRETCH", stretch), ("MOST", most), ("ARMS", arms)):
        monkeypatch.setattr(beginnings, what, value)
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        for landing in landings(sample_records(), 7):
            store.land([landing])
        for number, record in enumerate(said()):
            store.land([Landing(BROKER, 1, number, [record])])
        asked = texts()
        quick = [answer(store, text) for text in asked]
        with store.cursor() as cursor:
            assert len(beginnings.reaching(cursor, "cafe12-d")) <= arms + 1
            if least == 20 and most > 2:
                assert len(beginnings.reaching(cursor, "zzzzzz")) == 1, "of what is in runs nothing is read"
                assert 1 < len(beginnings.reaching(cursor, "cafe12-d")) <= 4
        monkeypatch.setattr(names, "reaching", lambda *_: ["true"])
        assert quick == [answer(store, text) for text in asked]
    kinds = {kind for kind, _ in quick}
    assert {"document", "activation", "dead_letter", "event", "NotFound"} <= kinds


def test_a_file_of_the_form_before_has_its_beginnings_gathered(tmp_path):
    """Opened for the first time, all that it holds is gathered: what begins nothing is known at once."""
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        store.land([Landing(BROKER, 1, 0, list(said()))])
        with store.cursor() as cursor:
            assert beginnings.reaching(cursor, "zzzzzz") == ["seq > -1"]
            cursor.execute("DROP TABLE stretches; DELETE FROM migrations WHERE number >= 11")
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store, store.cursor() as cursor:
        last = 3 * len(IDS) - 1
        assert beginnings.reaching(cursor, "zzzzzz") == [f"seq > {last}"]
        assert beginnings.reaching(cursor, "Order-1") == [f"seq BETWEEN 0 AND {last}", f"seq > {last}"]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 9)), unique_by=lambda pair: pair[0]), st.integers(2, 8))
def test_stretches_are_joined_to_few_and_hold_what_they_held(pairs, arms):
    """However many stretches are to be read, they become so many conditions at most, in order, apart, and none is left out."""
    stretches = sorted((10 * at, 10 * at + length) for at, length in pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beginnings, "ARMS", arms)
        joined = beginnings._joined(stretches)
    assert len(joined) <= max(arms, 1) and all(a[1] < b[0] for a, b in pairwise(joined))
    assert all(any(first <= a and b <= last for first, last in joined) for a, b in stretches)
    assert {first for first, _ in joined} <= {first for first, _ in stretches}
