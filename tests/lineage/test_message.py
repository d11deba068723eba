"""Messages of the lineage topic: whatever form they travel in, they say and land the same."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lineage.columns import columns_of
from headwater.lineage.event import Position
from headwater.lineage.message import FEW, decode_batch, decode_columns, encode_batch
from headwater.lineage.record import encode_rows, fact, run_of
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import BROKER, sample_records

TEXTS = st.text("aé\"\\ \x00", max_size=4)
CHUNKS = st.fixed_dictionaries({"n": st.integers(0, 3), "id": TEXTS.filter(bool), "text": TEXTS, "section": TEXTS})
USUAL = st.builds(
    lambda event, fields, chunks, reads: {
        "type": "flight", "document": "UA 1", "version": 2**40, "event": event, "fields": fields, "chunks": chunks, "appended": 1,
        "settled": 2.5, **({"reads": reads} if reads else {}),
    },
    TEXTS, st.dictionaries(TEXTS, TEXTS | st.integers() | st.none(), max_size=2), st.lists(CHUNKS, max_size=3),
    st.dictionaries(TEXTS, TEXTS, max_size=1),
)  # fmt: skip
FIRSTS = st.integers(0, 20)
RANGES = st.builds(
    lambda kind, first, size, outcome: run_of(kind, "index", Position(BROKER, "t", 0, first), first + size, size, 7, outcome),
    st.sampled_from(("consumed", "absent", "outcome")), FIRSTS, st.integers(1, 9), st.sampled_from(("", "indexed", "retrying")),
)  # fmt: skip
DOCUMENTS = st.builds(
    lambda data, ref, first: fact(
        "document", "index", "upsert", ref, logged=9, where=Position(BROKER, "t", 0, first), parents=("p",), data=data
    ),
    USUAL, st.sampled_from(("flight/UA 1", "é", "")), FIRSTS,
)  # fmt: skip
NOTES = st.builds(lambda ref, text: fact("note", "f", "s", ref, logged=-5, at=3, parents=("a", "b"), data={"text": text}), TEXTS, TEXTS)
FORMS = [(2**31, None), (0, [1, 0, 0, 0]), (0, [True, False, -1, 1]), (0, [True, False, 2**63, 0]), (0, [True, False, 1, 1])]
SAID = st.lists(RANGES | DOCUMENTS | NOTES, min_size=FEW, max_size=FEW + 8)


def landed(messages):
    """All that the database holds once these have landed, and how the landings were counted."""
    with Store(":memory:", clock=lambda: 1, random=bytes) as store:
        counted = [store.land([Landing(BROKER, 0, n, message)]) for n, message in enumerate(messages)]
        with store.cursor() as cursor:
            tables = [
                cursor.execute(f"SELECT t::VARCHAR FROM {name} t ORDER BY ALL").fetchall()
                for name in ("records", "chain", "contents", "names_new", "replays", "offsets")
            ]
    return counted, tables


@settings(max_examples=10, deadline=None)
@given(st.lists(SAID, min_size=1, max_size=3))
def test_what_lands_does_not_depend_on_the_form_of_messages(said):
    """Laws 1 and 8: ids, leaves, contents, names and what is cut off are the same from lists and from columns, also where records come
    again."""
    messages = [encode_batch(records) for records in said]
    assert {message[:1] for message in messages} == {b"{"}
    assert landed([decode_columns(message) for message in messages]) == landed([decode_columns(encode_rows(records)) for records in said])


@settings(max_examples=30, deadline=None)
@given(SAID)
def test_columns_say_what_was_said(records):
    """Whoever reads the topic gets the records that were sent."""
    assert decode_batch(encode_batch(records)) == records
    assert decode_batch(encode_batch(records[:3])) == records[:3]


@pytest.mark.parametrize(
    "data",
    [
        {"cut": 7}, {"type": "flight"}, {"fields": [1]}, {"chunks": None}, {"event": None}, {"chunks": [{"id": ""}]},
        {"chunks": [{"id": "a", "more": 1}]},
    ],
)  # fmt: skip
def test_documents_of_other_forms_travel_as_a_list(data):
    """What is not known beforehand comes whole all the same."""
    usual = {"type": "f", "document": "d", "version": 1, "event": "e", "fields": {}, "chunks": [], "appended": 1, "settled": 1}
    for told in (data, usual | data if "type" not in data else data):
        records = [fact("document", "index", "upsert", "d", logged=1, data=told)] * FEW
        assert encode_batch(records) == encode_rows(records) and decode_batch(encode_batch(records)) == records


@pytest.mark.parametrize(
    "change",
    [
        {"of": [9] * FEW}, {"of": [-1] * FEW}, {"id": []}, {"counts": [0]}, {"counts": [2] * FEW}, {"counts": [-1, 3] + [1] * (FEW - 2)},
        {"parents": []}, {"texts": []}, {"names": ["a"]}, {"data": [[]] * FEW}, {"data": [7] * FEW}, {"first": [2**63] * FEW},
        {"common": []}, {"more": 1},
        *({"common": [["document", "f", "s", "", "", partition, "", form]]} for partition, form in FORMS),
        {"logged": ["1"] * FEW}, {"at": 1},
    ],
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused(change):
    """A message in which one column says other than the rest is refused as a whole, where it is read."""
    data = {"type": "f", "document": "d", "version": 1, "event": "e", "fields": {"a": 1}, "chunks": [], "appended": 1, "settled": 1}
    told = msgspec.json.decode(encode_batch([fact("document", "index", "upsert", "d", logged=1, parents=("p",), data=data)] * FEW))
    assert decode_columns(msgspec.json.encode(told)).size == FEW
    with pytest.raises(msgspec.ValidationError):
        decode_columns(msgspec.json.encode(told | change))


@pytest.mark.parametrize("cut", [b"\xff", b"tru", b"\\x"])
def test_columns_that_are_no_json_are_refused(cut):
    """The same holds of a text within."""
    body = encode_batch([fact("note", "f", "s", str(n), logged=1, data={"text": "here"}) for n in range(FEW)])
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_columns(body.replace(b'"here"', b'"here' + cut + b'"' if cut != b"tru" else cut))


def test_a_landing_leaves_what_it_was_given():
    """What lands may be given again: the columns are as they were."""
    columns, same = columns_of(sample_records(state="approved")), columns_of(sample_records(state="approved"))
    assert landed([columns]) == landed([columns])
    assert (columns.data, columns.id, columns.texts) == (same.data, same.id, same.texts)


def test_documents_that_do_not_fit_their_form_are_refused():
    """Who reads the topic hears that it is no message of ours."""
    data = {"type": "f", "document": "d", "version": 1, "event": "e", "fields": {"a": 1}, "chunks": [], "appended": 1, "settled": 1}
    told = msgspec.json.decode(encode_batch([fact("document", "index", "upsert", "d", logged=1, data=data)] * FEW))
    for chunks in (7, [1], [{}]):
        with pytest.raises(msgspec.DecodeError):
            decode_batch(msgspec.json.encode(told | {"data": [{"chunks": chunks}] * FEW}))


def test_numbers_that_the_database_does_not_hold_are_refused():
    """A list with such a number is refused where it is read: the flow goes on."""
    for place in (Position("b", "t", 0, 2**63), Position("b", "t", 2**31, 0)):
        with pytest.raises(msgspec.ValidationError):
            decode_columns(encode_rows([run_of("consumed", "f", place, place.offset + 1, 1, 1)]))
