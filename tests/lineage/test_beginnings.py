"""What no name begins with is known at once; what one begins with is found as by reading every record."""

import msgspec
import pytest

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


@pytest.mark.parametrize(("least", "most"), [(20, 10_000), (20, 5), (10_000, 10_000)])
def test_beginnings_are_answered_as_by_reading_every_record(monkeypatch, tmp_path, least, most):
    """Whatever is asked for, in runs or before them, with beginnings or too many of them, once more after the file was made anew."""
    monkeypatch.setattr(name_pages, "LENGTHS", (least, 2 * least, 4 * least, 16 * least))
    monkeypatch.setattr(beginnings, "TOO_MANY", tuple(text.replace(f"{beginnings.MOST}", f"{most}") for text in beginnings.TOO_MANY))
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        for landing in landings(sample_records(), 7):
            store.land([landing])
        for number, record in enumerate(said()):
            store.land([Landing(BROKER, 1, number, [record])])
        asked = texts()
        quick = [answer(store, text) for text in asked]
        with store.cursor() as cursor:
            nothing = beginnings.unread(cursor, "zzzzzz")
            assert (nothing > 0) is (least == 20 and most > 5), "in runs, and few enough: all of them are passed by"
        monkeypatch.setattr(names, "unread", lambda *_: 0)
        assert quick == [answer(store, text) for text in asked]
    kinds = {kind for kind, _ in quick}
    assert {"document", "activation", "dead_letter", "event", "NotFound"} <= kinds


def test_a_file_of_the_form_before_has_its_beginnings_gathered(tmp_path):
    """Opened for the first time, all that it holds is gathered: what begins nothing is known at once."""
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        store.land([Landing(BROKER, 1, 0, list(said()))])
        with store.cursor() as cursor:
            assert beginnings.unread(cursor, "zzzzzz") == 0
            cursor.execute("DROP TABLE beginnings; DELETE FROM migrations WHERE number >= 8")
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store, store.cursor() as cursor:
        assert beginnings.unread(cursor, "zzzzzz") == 3 * len(IDS) and beginnings.unread(cursor, "Order-1") == 0
