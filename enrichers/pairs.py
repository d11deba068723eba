"""Conditions as people type them: `FIELD=VALUE`, `FIELD>=3`. Pure, and light: commands that only ask load no engine for it."""

import re
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from headwater.enrichers.document import Field
from headwater.lineage.errors import Misused

Conditions: TypeAlias = dict[str, Field | list[Field] | dict[str, bool | int | float | str]]
"""Field → a value, several, or bounds; `condition` says what they mean."""

_PAIR = re.compile(r"([^<>=]+)(>=|<=|>|<|=)(.*)", re.S)
_BOUNDS = {">=": "gte", ">": "gt", "<=": "lte", "<": "lt"}


def conditions(pairs: Sequence[str]) -> Conditions:
    """`FIELD=VALUE` conditions, and bounds such as `FIELD>=3`. A value that reads as a number, true, false or null matches both as such
    and as text. Raises Misused."""
    found: Conditions = {}
    for pair in pairs:
        match = _PAIR.fullmatch(pair)
        if match is None:
            raise Misused(f"where={pair!r} is no condition; write FIELD=VALUE, or FIELD>=NUMBER")
        name, sign, value = match.groups()
        known = found.setdefault(name, {} if sign in _BOUNDS else [])
        if isinstance(known, dict) and sign in _BOUNDS:
            known[_BOUNDS[sign]] = _bound(value)
        elif isinstance(known, list) and sign not in _BOUNDS:
            known += [value, *_typed(value)]
        else:
            raise Misused(f"where={pair!r}: {name} cannot have both a value and bounds")
    return found


def _bound(text: str) -> float | str:
    return next((value for value in _typed(text) if isinstance(value, (int, float)) and not isinstance(value, bool)), text)


def _typed(text: str) -> list[Field]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return []
    return [value] if value is None or isinstance(value, (bool, int, float)) else []
