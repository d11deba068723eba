import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lineage import parting
from headwater.lineage.contents import filled
from headwater.lineage.event import Position
from headwater.lineage.message import decode_batch, decode_columns
from headwater.lineage.names import names_of, records
from headwater.lineage.opening import held_of, open_document
from headwater.lineage.record import Record, encode_rows, fact
from headwater.lineage.row import Row, decode_rows, record_of, row_of
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import BROKER, document, landings, sample_records
from headwater.lineage.texts import RECENT, Texts

PLACE = Position(BROKER, "flights", 0, 0)
TEXTS = st.text(max_size=8)
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=4)
CHUNKS = st.fixed_dictionaries(
    {"id": TEXTS}, optional={"n": st.integers(0, 9), "section": TEXTS, "text": TEXTS | st.none(), "hash": TEXTS, "score": VALUES}
)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "type": TEXTS, "document": TEXTS, "version": st.integers(0, 9), "event": TEXTS | st.none(),
        "fields": st.dictionaries(TEXTS, VALUES),
        "chunks": st.lists(CHUNKS, max_size=3), "reads": st.dictionaries(TEXTS, VALUES), "settled": st.integers(0, 9), "more": VALUES,
    },
)  # fmt: skip


def told(data):
    return fact("document", "index", "upsert", "flight/UA 1", logged=1, where=PLACE, data=data)


@settings(max_examples=150, deadline=None)
@given(DATA)
def test_the_short_way_of_documents_comes_to_what_the_long_one_does(data):
    """A document's data, what it holds, its contents and its names are the same whether or not its form is known beforehand."""
    short, long = {}, {}

    def refer(scope, body, contents=long):
        said = (scope, msgspec.json.decode(body))
        reference = hashlib.md5(repr(said).encode()).hexdigest()
        contents[reference] = said
        return reference

    row, part = row_of(told(data)), parting.part(row_of(told(data)), refer)
    assert sorted(part.names) == sorted(names_of(told(data)))
    opened = open_document(row)
    if opened is None:  # of a form that only the long way knows
        return
    references = tuple(refer(b"flight/UA 1\x1f", text, short) for text in opened.texts)
    assert msgspec.json.decode(opened.data) == msgspec.json.decode(part.data)
    assert (msgspec.json.decode(held_of(*opened.form[:3]) % references)) == msgspec.json.decode(part.held or "{}")
    assert short == long
    assert {"flight/UA 1", "UA 1", *opened.names} == part.names
    assert (opened.form.texts, opened.form.names) == (len(opened.texts), len(opened.names))


@settings(max_examples=20, deadline=None)
@given(st.lists(DATA, max_size=4))
def test_what_was_said_is_read_as_it_was_said(said):
    """Whatever a document's data is, it comes back whole; only a chunk's hash is the store's own."""
    with Store(":memory:", clock=lambda: 1) as store:
        wanted = [msgspec.structs.replace(told(data), id=str(n)) for n, data in enumerate(said)]
        store.land([Landing(BROKER, 0, 0, decode_columns(encode_rows(wanted)))])
        with store.cursor() as cursor:
            found = list(records(cursor, ["kind = 'document'"]).values())
    assert [_bare(record.data) for record in found] == [_bare(record.data) for record in wanted]


def _bare(data):
    chunks = [{**chunk, "hash": "", "text": chunk.get("text") or ""} for chunk in data.get("chunks") or ()]
    return {**data, "chunks": chunks}


def test_a_record_is_the_same_by_either_decoding():
    """Rows are records: what one message holds does not depend on who reads it."""
    body = encode_rows(sample_records(state="approved"))
    assert [record_of(row) for row in decode_rows(body)] == decode_batch(body)


@pytest.mark.parametrize("data", ["[]", '"a"', "7", "null", '{"a":tru}', '{"a":"\\x"}', '{"a":"\xff"}'])
def test_what_is_no_record_is_refused_before_it_lands(data):
    """A message whose data is no JSON object, or no UTF-8, is refused as a whole, where it is read."""
    body = encode_rows([told({"k": 1})]).replace(b'{"k":1}', data.encode("latin-1"))
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_rows(body)


def test_a_text_said_before_the_store_was_opened_is_known(tmp_path):
    """What was stored lately is stored once, also by the next process; what an agent is shown is looked for in all that there is."""
    for n in range(2):
        with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
            again = [msgspec.structs.replace(record, id=f"{record.id}{n}") for record in sample_records() if record.first < 0]
            doubled = msgspec.structs.replace(document(PLACE), id=f"d{n}", first=n, next=n + 1)
            store.land([Landing(BROKER, 1, n, [*again, doubled])])
            with store.cursor() as cursor:
                count, distinct = cursor.execute("SELECT count(*), count(DISTINCT sha256(salt || body)) FROM contents").fetchall()[0]
            assert count == distinct > 0


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=4))
@settings(max_examples=100, deadline=None)
def test_contents_are_numbered_in_the_order_they_were_first_said(said):
    """Whatever is said again, in one batch or in another: numbers follow each other, and each text is stored once under its own."""
    texts, expected = Texts(b"k" * 32, 7, {}), dict[int, int]()
    for batch in said:
        bodies = [b"%d" % one for one in batch]
        numbers = [int(each.partition(":")[0]) for each in texts.references(bodies, bodies).to_pylist()]
        new = [one for one in dict.fromkeys(batch) if one not in expected]
        expected.update(zip(new, range(7 + len(expected), 7 + len(expected) + len(new)), strict=True))
        stored = texts.take()
        assert numbers == [expected[one] for one in batch] and texts.next == 7 + len(expected)
        rows = [] if stored is None else [(row["n"], row["body"]) for row in stored.to_pylist()]
        assert rows == [(expected[one], str(one)) for one in new]


def test_contents_are_forgotten_in_the_order_they_came(monkeypatch):
    """What was said long ago is stored again, under a number of its own, and both are read."""
    monkeypatch.setattr("headwater.lineage.texts.RECENT", 2)
    with Store(":memory:", clock=lambda: 1) as store:
        said = [msgspec.structs.replace(document(PLACE), id=f"d{n}", data={"fields": {"n": n % 8}}) for n in range(9)]
        store.land(landings(said, 1)[:8])
        store.land([Landing(BROKER, 0, 8, said[8:])])
        with store.cursor() as cursor:
            rows = cursor.execute("SELECT data, held FROM records ORDER BY seq").fetchall()
            assert [data["fields"]["n"] for data in filled(cursor, rows)] == [n % 8 for n in range(9)]
            assert cursor.execute("SELECT count(*) FROM contents").fetchall() == [(9,)]


def test_a_row_has_every_field_of_a_record():
    """What a record says lands: no field is known to one and not to the other."""
    assert Row.__struct_fields__ == Record.__struct_fields__


def test_what_is_remembered_of_contents_is_bounded():
    """Texts that the database has already are forgotten again too, also where nothing new ever comes; the newest are known longest."""
    known = Texts(b"k" * 32, 3 * RECENT, {})
    for start in range(0, 3 * RECENT, RECENT):
        known.learn({f"{n:064x}": n for n in range(start, start + RECENT)})
        assert known.take() is None
    assert known.unknown([f"{0:064x}", f"{3 * RECENT - 1:064x}"]) == [f"{0:064x}"]
