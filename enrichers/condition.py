"""Conditions on fields, from a reader's words: a value, several values, or a range. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from headwater.enrichers.document import Field
from headwater.enrichers.engine import Range, Scope, tag_of
from headwater.lineage.duration import format_time, parse_time
from headwater.lineage.errors import Misused

Bounds: TypeAlias = Mapping[str, float | str]
"""`{"gte": 30}`, `{"gt": …, "lt": …}`: numbers, or instants in RFC 3339."""

Condition: TypeAlias = Field | Sequence[Field] | Bounds
"""What a field must be: a value, one of several values, or between bounds."""

Where: TypeAlias = Mapping[str, Condition]

MOST_CONDITIONS = 100
MOST_VALUES = 1_000
BOUNDS = ("gte", "gt", "lte", "lt")
KINDS: dict[type, str] = {str: "text", bool: "true or false", int: "a number", float: "a number"}


def scope_of(where: Where | None, at: int | None, types: Sequence[str] | None) -> Scope:
    """A scope from a reader's words: all conditions must hold. Raises Misused for what is no condition."""
    groups: list[tuple[str, ...]] = []
    ranges: list[Range] = []
    if where and len(where) > MOST_CONDITIONS:
        raise Misused(f"where has {len(where):,} conditions; at most {MOST_CONDITIONS} can be asked for at once")
    for one in types or ():
        whole("types", one)
    for name, condition in (where or {}).items():
        whole("where", name)
        if isinstance(condition, Mapping):
            ranges.append(_range(name, condition))
        else:
            groups.append(tuple(tag_of(name, one) for one in values_of(name, condition)))
    return Scope(at, tuple(groups), tuple(types or ()), tuple(ranges))


def values_of(name: str, condition: Field | Sequence[Field]) -> Sequence[Field]:
    """The values of which one must match. Raises Misused."""
    values = condition if isinstance(condition, Sequence) and not isinstance(condition, str) else (condition,)
    if not values:
        raise Misused(f"where: {name} has an empty list of values, which nothing matches; leave the condition out, or name values")
    if len(values) > MOST_VALUES:
        raise Misused(f"where: {name} has {len(values):,} values; at most {MOST_VALUES:,} can be asked for at once")
    for one in values:
        if not (one is None or isinstance(one, (str, int, float, bool))) or (isinstance(one, float) and not math.isfinite(one)):
            raise Misused(f"where: {name}={one!r} is no value of a field; fields are text, finite numbers, true, false or null")
        if isinstance(one, str):
            whole(f"where: {name}", one)
    return values


def whole(what: str, text: str) -> None:
    """Raises Misused for text that no document can hold: JSON can spell half a character, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Misused(f"{what} holds half a surrogate pair at character {error.start}; send whole characters") from None


def kind_of(value: Field) -> str:
    """What a value is, in words; empty for null, which any field may be."""
    return KINDS.get(type(value), "")


def kinds_of(condition: Condition) -> set[str]:
    """What the values or bounds of a condition are; empty if one of them is null."""
    if isinstance(condition, Mapping):
        return {kind_of(bound) for bound in condition.values()}
    values = condition if isinstance(condition, Sequence) and not isinstance(condition, str) else (condition,)
    kinds = {kind_of(one) for one in values}
    return set() if "" in kinds else kinds


def _range(name: str, bounds: Bounds) -> Range:
    unknown = [key for key in bounds if key not in BOUNDS]
    if unknown or not bounds:
        told = f"{unknown[0]!r} is no bound" if unknown else "a range needs a bound"
        raise Misused(f'where: {name}: {told}; write {", ".join(BOUNDS)}, as in {{"{name}": {{"gte": 30}}}}')
    if '"' in name or "\\" in name:
        raise Misused(f"where: {name}: ranges cannot be asked of a field with a quote or a backslash in its name")
    if all(isinstance(bound, str) for bound in bounds.values()):
        return Range(name, **{key: _instant(name, str(bound)) for key, bound in bounds.items()})
    return Range(name, **{key: _number(name, bound) for key, bound in bounds.items()})


def _instant(name: str, text: str) -> str:
    try:
        return format_time(parse_time(text))
    except (ValueError, OverflowError):
        raise Misused(f"where: {name}: {text!r} is no instant; bounds are numbers, or instants as in 2013-02-08T11:02:00Z") from None


def _number(name: str, bound: float | str) -> float:
    if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound):
        raise Misused(f"where: {name}: {bound!r} is no bound; bounds are all numbers, or all instants as in 2013-02-08T11:02:00Z")
    return bound


def names_told(names: Iterable[str]) -> str:
    """Names for a message, a few dozen at most."""
    found = sorted(names)
    return ", ".join(found[:40]) + (f" and {len(found) - 40} more" if len(found) > 40 else "")
