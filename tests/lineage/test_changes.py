"""Two schemas of one topic: what breaks is named, and what is called compatible decodes."""

import datetime
import enum
from typing import Annotated, Any, Literal, Optional

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from headwater.lineage.changes import breaking, changes
from headwater.lineage.errors import Invalid
from headwater.lineage.schema import schema_of
from headwater.lineage.topic import Topic


class Colour(enum.StrEnum):
    red = "red"
    blue = "blue"


class Red(enum.StrEnum):
    red = "red"


class Inner(BaseModel):
    n: int


class InnerWide(BaseModel):
    n: float
    more: str = ""


class InnerNarrow(BaseModel):
    n: int = Field(ge=3)


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


def one(annotation: Any, default: Any = ...) -> type[BaseModel]:
    """A model with the field `f`."""
    return pydantic.create_model("M", f=(annotation, default))


def fields(**given: Any) -> type[BaseModel]:
    return pydantic.create_model("M", **{name: each if isinstance(each, tuple) else (each, ...) for name, each in given.items()})


def strict(**given: Any) -> type[BaseModel]:
    return pydantic.create_model("M", __config__=ConfigDict(extra="forbid"), **{name: (each, ...) for name, each in given.items()})


BREAKING = [
    ("a new field that is required", fields(a=int), fields(a=int, b=str), "b: is new and required", {"a": 1}),
    ("an optional one made required", one(int, 0), one(int), "f: could be missing, is required now", {}),
    ("a narrower type", one(float), one(int), "f: was a number, must be an integer now", {"f": 1.5}),
    ("another type", one(str), one(int), "f: was a string, must be an integer now", {"f": "x"}),
    ("null no longer", one(Optional[int]), one(int), "f: was null, must be an integer now", {"f": None}),  # noqa: UP045
    ("one kind of several", one(int | str), one(int), "f: was a string, must be an integer now", {"f": "x"}),
    ("a value less", one(Literal["a", "b"]), one(Literal["a"]), "f: may no longer be 'b'", {"f": "b"}),
    ("a member less", one(Colour), one(Red), "f: may no longer be 'blue'", {"f": "blue"}),
    ("any text, now a choice", one(str), one(Literal["a", "b"]), "f: took a string, now only 'a', 'b'", {"f": "z"}),
    ("a choice, now a number", one(Literal["a"]), one(int), "f: may no longer be 'a'", {"f": "a"}),
    ("anything, now something", one(Any), one(int), "f: was anything, must be an integer now", {"f": "x"}),
    ("a higher floor", one(Annotated[int, Field(ge=1)]), one(Annotated[int, Field(ge=2)]), "f: minimum was 1, is 2 now", {"f": 1}),
    ("a floor", one(int), one(Annotated[int, Field(gt=2)]), "f: exclusiveMinimum is 2 now, and there was none", {"f": 2}),
    ("a ceiling", one(int), one(Annotated[int, Field(le=2)]), "f: maximum is 2 now, and there was none", {"f": 3}),
    ("a length", one(str), one(Annotated[str, Field(max_length=2)]), "f: maxLength is 2 now, and there was none", {"f": "abc"}),
    ("a pattern", one(str), one(Annotated[str, Field(pattern="^a")]), "f: pattern is ^a now, and there was none", {"f": "b"}),
    ("a format", one(str), one(datetime.datetime), "f: format is date-time now, and there was none", {"f": "b"}),
    ("steps", one(int), one(Annotated[int, Field(multiple_of=2)]), "f: multipleOf is 2 now, and there was none", {"f": 3}),
    ("inside", one(Inner), one(InnerNarrow), "f.n: minimum is 3 now, and there was none", {"f": {"n": 1}}),
    ("inside a list", one(list[Inner]), one(list[InnerNarrow]), "f[].n: minimum is 3 now, and there was none", {"f": [{"n": 1}]}),
    ("inside a mapping", one(dict[str, int]), one(dict[str, str]), "f{}: was an integer, must be a string now", {"f": {"x": 1}}),
    ("a mapping's names", one(dict[str, int]), one(dict[Colour, int]), "f{}: took a string, now only 'red', 'blue'", {"f": {"x": 1}}),
    ("a pair made three", one(tuple[int, int]), one(tuple[int, int, int]), "f: minItems was 2, is 3 now", {"f": [1, 2]}),
    ("a pair turned round", one(tuple[int, str]), one(tuple[str, int]), "f[0]: was an integer, must be a string now", {"f": [1, "a"]}),
    ("a list, now a pair", one(list[int]), one(tuple[int, int]), "f: minItems is 2 now, and there was none", {"f": [1]}),
    ("a field gone, others forbidden", strict(a=int, b=int), Strict, "b: is gone, and other fields are forbidden", {"a": 1, "b": 2}),
    ("others forbidden", fields(a=int), Strict, "the event: other fields were taken, are forbidden now", {"a": 1, "z": 1}),
    ("a member of a union gone", one(Cat | Dog), one(Cat), "f.kind: may no longer be 'dog'", {"f": {"kind": "dog"}}),
]  # fmt: skip

COMPATIBLE = [
    ("nothing", one(Tree), one(Tree), []),
    ("a new field that may be missing", fields(a=int), fields(a=int, b=(str, "")), ["b: is new and may be missing"]),
    ("a wider type", one(int), one(float), ["f: was an integer, may be a number now"]),
    ("null as well", one(int), one(int | None), ["f: may be null now"]),
    ("a further value", one(Literal["a"]), one(Literal["a", "b"]), ["f: may be 'b' now"]),
    ("a choice, now any text", one(Literal["a"]), one(str), []),
    ("values of a choice may go different ways", one(Literal["a", 1]), one(int | str), []),
    ("a removed field that is ignored", fields(a=int, b=int), fields(a=int), ["b: is gone"]),
    ("no longer required", one(int), one(int, 0), ["f: may be missing now"]),
    ("a lower floor", one(Annotated[int, Field(ge=2)]), one(Annotated[int, Field(gt=1)]), ["f: minimum 2 is gone"]),
    ("anything", one(int), one(Any), ["f: may be anything now"]),
    ("inside", one(list[Inner]), one(list[InnerWide]), ["f[].more: is new and may be missing"]),
    ("a member more", one(Cat), one(Cat | Dog), []),
    ("a pair, now a list", one(tuple[int, int]), one(list[int]), ["f: minItems 2 is gone", "f: maxItems 2 is gone"]),
    ("others allowed", Strict, fields(a=int), []),
    ("a model's fields, now a mapping", one(Inner), one(dict[str, Any]), ["f.n: is gone"]),
]  # fmt: skip


def said(found: list[Any]) -> list[str]:
    return [str(change) for change in found]


def decodes(model: type[Any], value: Any) -> bool:
    try:
        Topic("t", model).decode(msgspec.json.encode(value))
    except Invalid:
        return False
    return True


@pytest.mark.parametrize(("old", "new", "told", "witness"), [row[1:] for row in BREAKING], ids=[row[0] for row in BREAKING])
def test_what_breaks_is_named(old, new, told, witness):
    """The field and what changed are named, and there is an event that the old model takes and the new one does not."""
    assert told in said(breaking(schema_of(old), schema_of(new)))
    assert decodes(old, witness) and not decodes(new, witness)


@pytest.mark.parametrize(("old", "new", "told"), [row[1:] for row in COMPATIBLE], ids=[row[0] for row in COMPATIBLE])
def test_what_does_not_break_is_told_too(old, new, told):
    """A compatible change is no refusal, and what it is can be read."""
    found = changes(schema_of(old), schema_of(new))
    assert [change for change in found if change.breaking] == []
    assert set(told) <= set(said(found)) and bool(told) <= bool(found)


def test_a_recursive_model_agrees_with_itself_and_is_read_to_its_leaves():
    """A reference to itself ends the comparison; a change below it is still found."""

    class Branch(BaseModel):
        name: int
        children: list["Branch"] = []

    assert changes(schema_of(Tree), schema_of(Tree)) == []
    assert said(breaking(schema_of(Tree), schema_of(Branch))) == ["name: was a string, must be an integer now"]


def test_a_recursive_model_against_a_finite_one():
    """A tree of any depth does not fit into two levels."""
    finite = pydantic.create_model(
        "Two", name=(str, ...), children=(list[pydantic.create_model("Leaf", __config__=ConfigDict(extra="forbid"), name=(str, ...))], [])
    )
    assert any("other fields" in each or "is gone" in each for each in said(breaking(schema_of(Tree), schema_of(finite))))


def test_what_cannot_be_compared_breaks():
    """Words that are not understood are let through only where they say the same."""
    old = {"type": "object", "properties": {"a": {"type": "integer", "not": {"const": 3}}}}
    new = {"type": "object", "properties": {"a": {"type": "integer", "not": {"const": 4}}}}
    assert changes(old, old) == []
    assert said(breaking(old, new)) == ["a: cannot be compared: its schema says not"]
    assert said(breaking({"type": "object"}, {"anyOf": [{"type": "object"}], "minProperties": 1})) == [
        "the event: cannot be compared: its schema says anyOf, minProperties"
    ]


def test_a_wide_model_is_compared_quickly():
    """Nested unions do not multiply: forty levels are compared in an instant."""
    model: Any = int
    for depth in range(40):
        model = pydantic.create_model(f"Level{depth}", a=(model | None, None), b=(list[model], []))
    assert changes(schema_of(model), schema_of(model)) == []


SCALARS = st.sampled_from(
    [int, float, str, bool, None, Literal["a", "b"], Literal["a"], Literal[1, "a"], Annotated[int, Field(ge=0)],
     Annotated[str, Field(max_length=2)], Colour, Red, Any]
)  # fmt: skip


@st.composite
def shapes(draw: Any, depth: int = 2) -> Any:
    """A field's type: a scalar, a list, a mapping, a pair, a union, or a model of its own."""
    kind = draw(st.sampled_from(["scalar"] * 3 + (["list", "dict", "tuple", "union", "model"] if depth else [])))
    if kind == "scalar":
        return draw(SCALARS)
    inner = draw(shapes(depth=depth - 1))
    other = draw(shapes(depth=depth - 1))
    return {
        "list": lambda: list[inner], "dict": lambda: dict[str, inner], "tuple": lambda: tuple[inner, other],
        "union": lambda: inner | other if None not in (inner, other) else Optional[other if inner is None else inner],  # noqa: UP045
        "model": lambda: draw(models(depth=depth - 1)),
    }[kind]()  # fmt: skip


@st.composite
def models(draw: Any, depth: int = 2) -> type[BaseModel]:
    """A model of up to three fields, each required or with a default of None (and then taking null)."""
    names = draw(st.lists(st.sampled_from("abc"), unique=True, min_size=1))
    given = {}
    for name in names:
        shape = draw(shapes(depth=depth))
        given[name] = (shape, ...) if draw(st.booleans()) else (Optional[shape], None)  # noqa: UP045
    forbid = draw(st.booleans())
    return pydantic.create_model("M", __config__=ConfigDict(extra="forbid" if forbid else "ignore"), **given)


def values(schema: Any, definitions: Any) -> st.SearchStrategy[Any]:
    """What a schema takes: the oracle reads JSON schemas by itself."""
    if schema is True or not schema or schema.keys() <= {"title", "default"}:
        return st.sampled_from([None, 1, "x", [], {}])
    if "$ref" in schema:
        return values(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    if "anyOf" in schema:
        return st.one_of([values(each, definitions) for each in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if kind == "object" and "properties" in schema:
        sure = schema.get("required", [])
        each = {name: values(inner, definitions) for name, inner in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: one for name, one in each.items() if name in sure}, optional={n: o for n, o in each.items() if n not in sure}
        )
    if kind == "object":
        return st.dictionaries(st.sampled_from("abxy"), values(schema.get("additionalProperties", True), definitions), max_size=2)
    if kind == "array" and "prefixItems" in schema:
        return st.tuples(*(values(each, definitions) for each in schema["prefixItems"])).map(list)
    if kind == "array":
        return st.lists(values(schema["items"], definitions), max_size=2)
    return {
        "integer": st.integers(schema.get("minimum", -5), 5), "number": st.sampled_from([0.5, -1.5, 2]), "boolean": st.booleans(),
        "null": st.none(), "string": st.text("ab", max_size=schema.get("maxLength", 3)),
    }[kind]  # fmt: skip


@settings(max_examples=300)
@given(st.data())
def test_what_is_called_compatible_decodes(data):
    """Whatever an old model takes, a new one takes to which no breaking change leads."""
    old, new = data.draw(models()), data.draw(models())
    schema = schema_of(old)
    event = data.draw(values(schema, schema.get("$defs", {})))
    if not breaking(schema, schema_of(new)):
        assert decodes(old, event)
        assert decodes(new, event)


@st.composite
def loosened(draw: Any, shape: Any) -> Any:
    """A type that takes at least what the given one takes."""
    return draw(st.sampled_from([shape, Any, Optional[shape]]))  # noqa: UP045


@given(st.data())
def test_a_model_that_only_grew_is_compatible(data):
    """Fields that may be missing, looser types, fields no longer required: never a refusal; and what the old one takes decodes."""
    shapes_of = {name: data.draw(shapes()) for name in data.draw(st.lists(st.sampled_from("abc"), unique=True, min_size=1))}
    old = fields(**{name: (shape, ...) for name, shape in shapes_of.items()})
    new = fields(
        **{name: (data.draw(loosened(shape)), data.draw(st.sampled_from([..., None]))) for name, shape in shapes_of.items()},
        z=(Optional[int], None),  # noqa: UP045
    )
    schema = schema_of(old)
    assert breaking(schema, schema_of(new)) == []
    assert decodes(new, data.draw(values(schema, schema.get("$defs", {}))))


def test_structs_are_compared_as_models_are():
    """msgspec's schemas say the same things: tags, unions, arrays, forbidden fields."""
    struct = msgspec.defstruct
    old = struct("S", [("a", int), ("b", Literal["x", "y"])])
    assert changes(schema_of(old), schema_of(old)) == []
    assert breaking(schema_of(old), schema_of(struct("S", [("a", float), ("b", str), ("c", int, 0)]))) == []
    assert said(breaking(schema_of(old), schema_of(struct("S", [("a", int), ("b", Literal["x"]), ("c", int)])))) == [
        "b: may no longer be 'y'", "c: is new and required",
    ]  # fmt: skip
    forbidding = struct("S", [("a", int)], forbid_unknown_fields=True)
    assert "b: is gone, and other fields are forbidden" in said(breaking(schema_of(old), schema_of(forbidding)))
    flat = struct("S", [("a", int), ("b", str)], array_like=True)
    assert said(breaking(schema_of(flat), schema_of(struct("S", [("a", int), ("b", int)], array_like=True)))) == [
        "[1]: was a string, must be an integer now"
    ]


def test_both_languages_of_models_agree():
    """A pydantic model exchanged for an equal Struct breaks nothing, and the other way round."""
    model, other = fields(a=int, b=(Literal["x"], "x")), msgspec.defstruct("M", [("a", int), ("b", Literal["x"], "x")])
    assert breaking(schema_of(model), schema_of(other)) == breaking(schema_of(other), schema_of(model)) == []
