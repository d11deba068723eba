"""Columns: models and facts as polars sees them, and whether an expression over them can be a rule's.

A model's field is a column of its name; an enricher's facts are a struct column of the enricher's name. Where both are called
alike the field wins. Types come from the model's annotations, so that a batch of nulls has the same type as any other.
"""

import datetime
import enum
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl
import pydantic

from headwater.lineage.errors import Misused
from headwater.lineage.topic import Topic, fields_of

ROW = "headwater row"
"""A column that every frame has, so that its height is known where a rule names no column."""
UTC_TIME = pl.Datetime("us", "UTC")
_PLAIN: dict[Any, Any] = {
    str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean, bytes: pl.Binary,
    datetime.datetime: UTC_TIME, datetime.date: pl.Date, datetime.time: pl.Time, datetime.timedelta: pl.Duration("us"),
}  # fmt: skip


def columns_of(model: Any) -> Mapping[str, Any]:
    """Field → polars type, None where only the values can tell (nested models, lists). Raises Misused."""
    hints = typing.get_type_hints(model)
    return {name: _type(hints.get(name)) for name in fields_of(model)}


def facts_type(enricher: Any) -> Any:
    """The struct type of an enricher's facts if it tells: by `schema` (column → polars type), or by the `topic` it mirrors; else None."""
    schema = getattr(enricher, "schema", None)
    if schema is None and isinstance(mirrored := getattr(enricher, "topic", None), Topic):
        schema = columns_of(mirrored.model)
    if not isinstance(schema, Mapping) or not schema or None in schema.values():
        return None
    return pl.Struct(dict(schema))


def check(what: str, expression: pl.Expr, topic: Topic[Any], wanted: Any) -> None:
    """Refuse an expression that no rule could use. `wanted`: Boolean, Float64 (any number), or None (anything).

    Raises Misused: unknown columns, more than one column, an answer that hangs on other rows, a wrong type.
    """
    if not isinstance(expression, pl.Expr):
        raise Misused(f'{what} is a {type(expression).__name__}; write a polars expression such as pl.col("status") == "cancelled"')
    if any(part.meta.is_column_selection() and not part.meta.is_column() for part in _parts(expression)):
        raise Misused(f"{what} selects columns by a pattern ({expression}); name each with pl.col")
    fields = columns_of(topic.model)
    for name in expression.meta.root_names():
        if name not in fields and name not in topic.enrich:
            known = ", ".join((*fields, *(f"{name} (facts)" for name in topic.enrich)))
            raise Misused(f"{what} names the column {name!r}, which topic {topic.name} does not have; it has {known}")
    if not all(_alone(part) for part in _parts(expression)):
        raise Misused(f"{what} looks beyond its row ({expression}); a rule reads each event alone: use no aggregates, shifts or windows")
    _check_type(what, expression, topic, wanted)


def series(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    """A column of Python values; `kind=None` takes the type from the values."""
    if kind is None or kind == UTC_TIME or isinstance(kind, pl.Struct):
        values = [plain(value) for value in values]
    elif kind == pl.String:
        values = [value.value if isinstance(value, enum.Enum) else value for value in values]
    return pl.Series(name, values, dtype=kind, strict=False)


def plain(value: Any) -> Any:
    """A value that polars understands: models as dictionaries, enums by value, times in UTC."""
    if isinstance(value, pydantic.BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)
    return value


def _type(hint: Any) -> Any:
    """The polars type of an annotation, None if only the values can tell."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _type(typing.get_args(hint)[0])
    if origin is typing.Literal:
        return _one({_PLAIN.get(type(value)) for value in typing.get_args(hint)})
    if origin is typing.Union or origin is types.UnionType:
        return _one({_type(part) for part in typing.get_args(hint) if part is not types.NoneType})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _one({_PLAIN.get(type(member.value)) for member in hint})
    return _PLAIN.get(hint) if isinstance(hint, type) else None


def _one(kinds: set[Any]) -> Any:
    if kinds == {pl.Int64, pl.Float64}:
        return pl.Float64
    return kinds.pop() if len(kinds) == 1 else None


def _parts(expression: pl.Expr) -> Iterator[pl.Expr]:
    """The expression and everything in it; what polars cannot take apart (a Python function) stands for itself."""
    yield expression
    try:
        parts = expression.meta.pop()
    except pl.exceptions.PolarsError:
        return
    for part in parts:
        yield from _parts(part)


def _alone(part: pl.Expr) -> bool:
    """Whether this node answers for each row by that row alone."""
    meta = part.meta
    try:
        return bool(meta.is_literal() or (meta.is_row_separable() and (meta.is_length_preserving() or meta.is_scalar())))
    except pl.exceptions.PolarsError:
        return True  # a Python function: its author answers for it


def _check_type(what: str, expression: pl.Expr, topic: Topic[Any], wanted: Any) -> None:
    """Run the expression over no rows, if all its columns' types are known."""
    fields = columns_of(topic.model)
    known = {name: fields[name] if name in fields else facts_type(topic.enrich[name]) for name in expression.meta.root_names()}
    if None in known.values():
        return
    with_rows: Callable[..., pl.DataFrame] = pl.DataFrame(schema={ROW: pl.Boolean, **known}).select
    try:
        got = with_rows(expression.alias("answer"))["answer"].dtype
    except pl.exceptions.PolarsError as error:
        raise Misused(f"{what} does not fit topic {topic.name}: {str(error).splitlines()[0]}") from None
    fits = wanted is None or got == pl.Null or (got == pl.Boolean if wanted == pl.Boolean else got.is_numeric() or got == pl.Boolean)
    if not fits:
        raise Misused(f"{what} gives {got}, where a {'condition' if wanted == pl.Boolean else 'number'} is needed")
