import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lineage.chain import GENESIS, LEAF, Head, broken, leaf, link, root
from headwater.lineage.columns import columns_of
from headwater.lineage.landing import Landing, table
from headwater.lineage.leaves import leaves
from headwater.lineage.record import Record
from headwater.lineage.records import records as records_of
from headwater.lineage.row import record_of, rows_of
from headwater.lineage.store import Store
from headwater.lineage.testing import sample_records

text = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12)
made = st.builds(
    Record, id=text, kind=st.just("note"), flow=text, step=text, logged=st.integers(0, 2**50), ref=text,
    parents=st.lists(text, max_size=3).map(tuple), broker=text, topic=text, outcome=text,
    at=st.none() | st.integers(-(2**40), 2**50),
    data=st.dictionaries(text | st.just("text"), text | st.floats(allow_nan=False) | st.none(), max_size=3),
)  # fmt: skip


@pytest.fixture(scope="module")
def store():
    with Store(":memory:", clock=lambda: 1) as opened:
        yield opened


@settings(max_examples=40, deadline=None)
@given(st.lists(made, min_size=1, max_size=6))
def test_leaves_in_sql_and_python_are_one(store, records):
    """Law 8: who has no DuckDB computes the same leaves, roots and heads from the records alone."""
    before = store.head()
    new = [msgspec.structs.replace(record, id=f"{before.seq + n}{record.id}") for n, record in enumerate(records)]
    store.land([Landing("b", 0, store.offsets("b").get(0, 0), new)])
    with store.cursor() as cursor:
        rows = cursor.execute(f"SELECT leaf, data, held, {LEAF} FROM records WHERE seq >= ? ORDER BY seq", [before.seq]).fetchall()
        told = [msgspec.json.decode(msgspec.json.encode(record.data)) for record in new]  # JSON knows no infinity
        assert [record.data for record in records_of(cursor, [f"seq >= {before.seq}"]).values()] == told
    wanted = [leaf(seq, record, data, held) for (seq, record), (_, data, held, _) in zip(enumerate(new, before.seq), rows, strict=True)]
    assert [bytes(row[0]) for row in rows] == [bytes(row[3]) for row in rows] == wanted
    assert store.head().head == link(before, before.seq + len(new), root(wanted)).head


@pytest.mark.parametrize("at_once", [1, 1 << 28])
def test_leaves_do_not_depend_on_how_many_are_made_at_once(monkeypatch, at_once):
    """Law 8: a landing too large for one array of texts has the leaves that its records have one by one."""
    monkeypatch.setattr("headwater.lineage.leaves._AT_ONCE", at_once)
    rows = rows_of([*sample_records(), msgspec.structs.replace(sample_records()[0], parents=("a", "", "\u00e9b"))])
    data = [bytes(row.data).decode() for row in rows]
    wanted = [leaf(seq, record_of(row), text) for (seq, row), text in zip(enumerate(rows, 7), data, strict=True)]
    assert leaves(table(columns_of(rows, open=False), 7, 1)) == wanted


def chained(sizes):
    links, last = [], Head(0, 0, GENESIS)
    for size in sizes:
        links.append(link(last, last.seq + size, root([bytes([size])])))
        last = Head(links[-1].batch, links[-1].next_seq, links[-1].head)
    return links, last


@given(st.lists(st.integers(1, 9), min_size=3, max_size=8), st.data())
def test_any_edit_of_the_chain_is_found(sizes, data):
    """Law 8: a link dropped, repeated, swapped or changed breaks the chain; cutting its end breaks it for who kept the head."""
    links, last = chained(sizes)
    assert not broken(links, [last])
    n = data.draw(st.integers(0, len(links) - 2))
    assert broken(links[:n] + links[n + 1 :], [last])
    assert broken([*links[: n + 1], *links[n:]], [last])
    assert broken([*links[:n], links[n + 1], links[n], *links[n + 2 :]], [last])
    assert broken([*links[:n], links[n]._replace(root="0" * 64), *links[n + 1 :]], [last])
    assert not broken(links[:-1]) and "kept head" in broken(links[:-1], [last])


def test_fields_cannot_pass_for_each_other():
    """Law 8: moving text from one field to its neighbour changes the leaf."""
    one = Record(id="1", kind="note", flow="a", step="bc", logged=1)
    assert leaf(0, one, "{}") != leaf(0, msgspec.structs.replace(one, flow="ab", step="c"), "{}")
    assert leaf(0, msgspec.structs.replace(one, parents=("a", "b")), "{}") != leaf(0, msgspec.structs.replace(one, parents=("ab",)), "{}")
