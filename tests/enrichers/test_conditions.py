"""Filters: values, ranges, and what is told of a filter that nothing could match."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.condition import scope_of
from headwater.enrichers.document import Document, DocumentType
from headwater.enrichers.index import Indexer
from headwater.enrichers.retrieve import Retriever
from headwater.lineage.errors import Misused

HOUR = 3_600_000_000
FIELDS: dict[str, dict] = {}


@pytest.fixture
def fill(world):
    """Index documents with these fields, one each, called 0, 1, …; a reader over them."""

    def filled(*fields, types=("note",)):
        table = {str(n): each for n, each in enumerate(fields)}
        kind = DocumentType("note", world.topic, lambda note, facts: Document(note.id, note.text, table[note.id]), "version")
        writer = Indexer(world.index, world.embedder, [kind], clock=lambda: 1_000)
        writer.index([world.said(name, 1, f"snow {name}") for name in table])
        return Retriever(world.index, world.embedder, world.progress, types=types)

    return filled


def found(reader, where, **options):
    return sorted(hit.document.rpartition("/")[2] for hit in reader.search("snow", where=where, strict=True, **options).results)


def test_ranges_of_numbers(fill):
    """Integers and floats lie between bounds, both inclusive or not; booleans, text and documents without the field do not."""
    reader = fill({"d": 10}, {"d": 30}, {"d": 30.5}, {"d": -4}, {"d": True}, {"d": "40"}, {"d": None}, {"other": 1})
    assert found(reader, {"d": {"gte": 30}}) == ["1", "2"]
    assert found(reader, {"d": {"gt": 30}}) == ["2"]
    assert found(reader, {"d": {"lt": 30, "gte": -4}}) == ["0", "3"]
    assert found(reader, {"d": {"lte": 30.5, "gt": 10}, "other": {"gte": 0}}) == []
    assert found(reader, {"d": {"gte": 30}}, as_of=HOUR) == ["1", "2"]
    assert found(reader, {"d": {"gte": 99}}) == []


def test_ranges_of_times(fill):
    """Text that says an instant lies between instants, whatever zone either is written in; other text does not."""
    reader = fill({"at": "2013-02-08T11:00:00Z"}, {"at": "2013-02-08T12:00:00+01:00"}, {"at": "2013-02-09T00:00:00Z"}, {"at": "soon"})
    assert found(reader, {"at": {"lte": "2013-02-08T11:00:00Z"}}) == ["0", "1"]
    assert found(reader, {"at": {"gt": "2013-02-08T06:00:00-05:00"}}) == ["2"]


def test_names_with_dots_and_brackets(fill):
    """A field's name is a name, never a path."""
    reader = fill({"a.b": 1, "c[0]": 5}, {"a": 7})
    assert found(reader, {"a.b": {"gte": 1}}) == ["0"]
    assert found(reader, {"c[0]": {"gte": 5}}) == ["0"]
    assert found(reader, {'odd"name': "x"}) == []


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"dealy": 30}, "no document has a field 'dealy'.*delay, place"),
        ({"dealy": {"gte": 30}}, "no document has a field 'dealy'"),
        ({"delay": "long"}, "delay is a number in the documents, and text"),
        ({"delay": ["long", "short"]}, "text is asked for"),
        ({"place": 3}, "place is text .* a number"),
        ({"place": {"gte": 3}}, "place is text"),
        ({"delay": {"gte": "2013-02-08T11:02:00Z"}}, "delay is a number"),
        ({"urgent": 1}, "urgent is true or false"),
    ],
)
def test_a_filter_that_nothing_could_match_is_told(fill, where, told):
    """A field no document has is refused with those there are, a value of another kind with the kind there is; unless one goes on."""
    reader = fill({"delay": 30, "place": "EWR", "urgent": True}, {"delay": 12.5, "place": "JFK"})
    with pytest.raises(Misused, match=told):
        found(reader, where)
    assert reader.search("snow", where=where).results == ()


def test_a_mixed_field_takes_each_kind_it_holds(fill):
    """Of several values one of the right kind is enough; null is any field's; a rare kind that matches is found, not refused."""
    reader = fill(*[{"seat": n, "gone": None} for n in range(120)], {"seat": "12A", "gone": None})
    assert found(reader, {"seat": "12A"}) == ["120"]
    assert found(reader, {"seat": ["x", 3]}) == ["3"]
    assert len(found(reader, {"gone": None}, limit=200)) == 121
    assert found(reader, {"gone": 5}) == []


def test_what_nobody_can_know_yet_is_not_refused(fill, world):
    """While a declared type has no documents, any field may be one of its; the first document makes it known at once."""
    reader = fill(types=("note", "flight"))
    assert found(reader, {"gate": "A1"}) == []
    reader = fill({"place": "EWR"}, types=("note", "flight"))
    assert found(reader, {"gate": "A1"}) == []
    with pytest.raises(Misused, match="gate"):
        found(reader, {"gate": "A1"}, types=["note"])
    reader = Retriever(world.index, world.embedder, world.progress, types=("note",))
    with pytest.raises(Misused, match="gate"):
        found(reader, {"gate": "A1"})
    fill({"place": "EWR"}, {"gate": "A1"})
    assert found(reader, {"gate": "A1"}) == ["1"]


def test_a_document_type_that_there_is_not_is_told(fill, world):
    """With those there are; one of which only the index still knows may be asked for, and one without documents finds nothing."""
    reader = fill({"place": "EWR"}, types=("flight",))
    assert found(reader, {}, types=["note"]) == ["0"]
    assert found(reader, {}, types=["flight"]) == []
    with pytest.raises(Misused, match="no document type 'notes'; there are flight"):
        found(reader, {}, types=["notes"])
    assert reader.search("snow", types=["notes"]).results == ()


def test_conditions_are_bounded():
    """A hundred are looked for, more are refused."""
    many = {f"f{n}": n for n in range(101)}
    with pytest.raises(Misused, match="101 conditions; at most 100"):
        scope_of(many, None, None)
    del many["f0"]
    assert len(scope_of(many, None, None).tags) == 100


@pytest.mark.parametrize("where", [{"delay": "\ud800"}, {"delay": ["a", "x\udfff"]}, {"\ud800": 1}])
def test_half_a_character_is_refused(where):
    """JSON can spell it, the engine cannot take it: Misused, not a failure."""
    with pytest.raises(Misused, match="half a surrogate pair"):
        scope_of(where, None, None)
    with pytest.raises(Misused, match="half a surrogate pair"):
        scope_of({}, None, ["a\ud800"])


@pytest.mark.parametrize(
    "condition",
    [{}, {"over": 3}, {"gte": True}, {"gte": float("nan")}, {"gte": 1, "lt": "2013-01-01T00:00:00Z"}, {"gte": "soon"}, [], float("inf"),
     [object()], list(range(1_001))],
)  # fmt: skip
def test_what_is_no_condition_is_refused(condition):
    """Misused, naming the field."""
    with pytest.raises(Misused, match="delay"):
        scope_of({"delay": condition}, None, None)


@given(st.lists(st.floats(-1e6, 1e6) | st.integers(-1000, 1000), min_size=1, max_size=12), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_range_is_what_arithmetic_says(values, low, high):
    """The bounds that reach the engine are those that were asked for, each under its own sign."""
    [one] = scope_of({"d": {"gte": low, "lt": high}}, None, None).ranges
    assert [v for v in values if low <= v < high] == [v for v in values if one.gte <= v < one.lt] and one.gt is one.lte is None
