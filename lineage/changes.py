"""What differs between two JSON schemas of one topic, seen by a reader of the newer one: does every old event still decode?

A change is *breaking* when some event that is right by the old schema is wrong by the new one: a new field that is required, an optional
one that became required, a type or a bound that takes less, a value taken from an enumeration, a removed field where others are forbidden.
It is *compatible* otherwise: a new field that may be missing, a wider type, a further value, a removed field that is ignored.

Where two schemas cannot be compared (`not`, `if`, two patterns), the change counts as breaking: nothing is let through that was not
understood. What only a validator written in Python refuses stands in no schema and is not seen; nor is a field that old events carried
undeclared, and that the new model declares.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from headwater.lineage.schema import DEFINITIONS, Schema


class Change(NamedTuple):
    """One difference. `path` names the field, `a.b` inside `a`, `a[]` an item, `a{}` a value of a mapping; empty: the whole."""

    path: str
    what: str
    breaking: bool

    def __str__(self) -> str:
        return f"{self.path or 'the event'}: {self.what}"


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The differences, breaking ones first. No breaking one: what decodes under `old`, decodes under `new`."""
    found = list(_Comparison(old, new).compare(old, new, ""))
    return sorted(dict.fromkeys(found), key=lambda change: not change.breaking)


def breaking(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Only those that old events do not survive."""
    return [change for change in changes(old, new) if change.breaking]


_TEXT = {"type": "string"}
LARGEST = 100_000
"""Pairs of schemas that are looked at."""

_DESCRIBING = frozenset(
    (
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "discriminator",
        "$defs",
        "$schema",
        "$id",
        "$comment",
    )
)
_FLOORS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_CEILINGS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("pattern", "format", "contentEncoding", "contentMediaType")
_WORDS = frozenset(
    (
        *_FLOORS, *_CEILINGS, *_SAME, "type", "enum", "const", "anyOf", "oneOf", "allOf", "properties", "required", "additionalProperties",
        "patternProperties", "propertyNames", "items", "prefixItems", "uniqueItems", "multipleOf",
    )
)  # fmt: skip
"""What is understood; the rest has to say the same in both."""


class _Comparison:
    """Walks both schemas together. Pairs under way are taken as agreeing: a recursive model refers to itself.

    What was found of a pair is kept, unless it leans on one that is under way; so what many fields share is compared once.
    """

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._old, self._new = old.get("$defs", {}), new.get("$defs", {})
        self._under_way: set[tuple[str | int, str | int]] = set()
        self._known: dict[tuple[str | int, str | int], list[Change]] = {}
        self._leaned = 0
        self._left = LARGEST

    def compare(self, old: Any, new: Any, path: str) -> list[Change]:
        """The differences of two schemas, told below `path`."""
        pair = (_identity(old), _identity(new))
        if pair in self._under_way:
            self._leaned += 1
            return []
        if (found := self._known.get(pair)) is None:
            self._left -= 1
            if self._left < 0:
                return [Change(path, f"cannot be compared: the schemas hold more than {LARGEST:,} pairs", True)]
            self._under_way.add(pair)
            before = self._leaned
            found = self._differences(old, new)
            self._under_way.discard(pair)
            if self._leaned == before:
                self._known[pair] = found
        return [change._replace(path=_below(path, change.path)) for change in found]

    def _differences(self, old: Any, new: Any) -> list[Change]:
        before, after = _alternatives(old, self._old), _alternatives(new, self._new)
        if len(after) > 1:  # values of one enumeration may go different ways
            before = [one for each in before for one in _split(each)]
        found = [change for one in before for change in self._covered(one, after, "")]
        if not any(change.breaking or change.path == "" for change in found):
            more = [kind for kind in sorted(_kinds(after) - _kinds(before)) if not (kind == "integer" and "number" in _kinds(before))]
            found += [Change("", f"may be {_named(kind)} now", False) for kind in more]
        return list(dict.fromkeys(found))

    def _covered(self, one: Schema, after: list[Schema], path: str) -> list[Change]:
        """What the best fitting alternative of the new schema says to one of the old."""
        if not after:
            return [Change(path, "takes nothing any more", True)]
        answers = [list(self._one(one, each, path)) for each in after]
        return min(answers, key=lambda found: (sum(change.breaking for change in found), len(found)))

    def _one(self, old: Schema, new: Schema, path: str) -> Iterator[Change]:
        if _bare(new) == {}:
            if _bare(old) != {}:
                yield Change(path, "may be anything now", False)
            return
        strange = sorted(word for word in _bare(new) if word not in _WORDS and not (old.get(word) == new[word] and _plain(new[word])))
        if strange or not _typed(new) or "allOf" in new:
            yield from self._all_of(old, new, path, strange)
            return
        if (values := _values(old)) is not None:
            yield from self._values(values, new, path)
            return
        if (allowed := _values(new)) is not None:
            yield Change(path, f"took {_named(_kind(old))}, now only {_listed(allowed)}", True)
            return
        kind, wanted = _kind(old), _kind(new)
        if kind != wanted:
            wider = kind == "integer" and wanted == "number"
            yield Change(path, f"was {_named(kind)}, {'may' if wider else 'must'} be {_named(wanted)} now", not wider)
            if not wider:
                return
        yield from _bounds(old, new, path)
        if wanted == "object":
            yield from self._names(old, new, path)
            yield from self._fields(old, new, path)
        elif wanted == "array":
            yield from self._items(old, new, path)

    def _all_of(self, old: Schema, new: Schema, path: str, strange: list[str]) -> Iterator[Change]:
        """What takes the parts of the old one, part by part, takes what all of them take; anything else cannot be compared."""
        mine, its = old.get("allOf", []), new.get("allOf", [])
        if strange or set(_bare(new)) - {"allOf"} or not its or len(mine) != len(its):
            yield Change(path, f"cannot be compared: its schema says {', '.join(strange or sorted(_bare(new)))}", True)
            return
        for one, other in zip(mine, its, strict=True):
            yield from self.compare(one, other, path)

    def _names(self, old: Schema, new: Schema, path: str) -> Iterator[Change]:
        """The names that a mapping's entries may have."""
        if "propertyNames" in new:
            yield from self.compare(old.get("propertyNames", _TEXT), new["propertyNames"], f"{path}{{}}")
        mine, its = old.get("patternProperties", {}), new.get("patternProperties", {})
        if its and mine.keys() != its.keys():
            yield Change(path, f"its names must match {_listed(sorted(its))} now", True)
            return
        for pattern in its:
            yield from self.compare(mine[pattern], its[pattern], f"{path}{{}}")

    def _values(self, values: list[Any], new: Schema, path: str) -> Iterator[Change]:
        allowed = _values(new)
        if allowed is None:
            lost = [value for value in values if not _fits(value, new)]
        else:
            lost = [value for value in values if not _among(value, allowed)]
            if more := [value for value in allowed if not _among(value, values)]:
                yield Change(path, f"may be {_listed(more)} now", False)
        if lost:
            yield Change(path, f"may no longer be {_listed(lost)}", True)

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        sure, wanted = set(old.get("required", ())), set(new.get("required", ()))
        rest, others = old.get("additionalProperties", True), new.get("additionalProperties", True)
        for name in sorted(after.keys() | wanted):
            here = f"{path}.{name}" if path else name
            if name not in before:
                if name in wanted:
                    yield Change(here, "is new and required", True)
                else:
                    yield Change(here, "is new and may be missing", False)
                if isinstance(rest, Mapping):  # a mapping from any name to values of one kind: this name was among them
                    yield from self.compare(rest, after.get(name, True), here)
                continue
            if name in wanted - sure:
                yield Change(here, "could be missing, is required now", True)
            elif name in sure - wanted:
                yield Change(here, "may be missing now", False)
            yield from self.compare(before[name], after.get(name, True), here)
        for name in sorted(before.keys() - after.keys() - wanted):
            here = f"{path}.{name}" if path else name
            yield Change(here, "is gone, and other fields are forbidden" if others is False else "is gone", others is False)
            if isinstance(others, Mapping):
                yield from self.compare(before[name], others, here)
        unnamed = [rest] if "patternProperties" in new else [rest, *old.get("patternProperties", {}).values()]
        if others is False and any(each is not False for each in unnamed):
            # pydantic and msgspec ignore what they do not know, unless told to forbid it; then an old event may carry it
            yield Change(path, "other fields were taken, are forbidden now", True)
        elif isinstance(others, Mapping):
            for each in unnamed:
                yield from self.compare(each, others, f"{path}{{}}")

    def _items(self, old: Schema, new: Schema, path: str) -> Iterator[Change]:
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        rest, others = old.get("items", True), new.get("items", True)
        most = old.get("maxItems", len(before) if rest is False else None)
        for number in range(max(len(before), len(after))):
            if most is not None and number >= most:
                break
            one = before[number] if number < len(before) else rest
            yield from self.compare(one, after[number] if number < len(after) else others, f"{path}[{number}]")
        beyond = max(len(before), len(after))
        if rest is not False and (most is None or most > beyond):
            yield from self.compare(rest, others, f"{path}[]")


def _identity(schema: Any) -> str | int:
    """The definition that a schema is, by its name; else the very object: neither changes while schemas are compared."""
    return str(schema["$ref"]) if isinstance(schema, Mapping) and _bare(dict(schema)).keys() == {"$ref"} else id(schema)


def _below(path: str, name: str) -> str:
    return path + name if not path or not name or name[0] in "[{" else f"{path}.{name}"


def _bare(schema: Schema) -> Schema:
    """Without the words that only describe."""
    return {word: value for word, value in schema.items() if word not in _DESCRIBING}


def _plain(value: Any) -> bool:
    """Whether it means the same in both documents: it refers to nothing."""
    return "'$ref'" not in repr(value)


def _typed(schema: Schema) -> bool:
    return any(word in schema for word in ("type", "enum", "const"))


def _split(schema: Schema) -> list[Schema]:
    values = _values(schema)
    return [schema] if values is None else [{"const": value} for value in values]


def _alternatives(schema: Any, definitions: Mapping[str, Any]) -> list[Schema]:
    """The schemas of which a value must fit one: references followed, unions flattened, `True` and `{}` any value, `False` none."""
    if schema is False:
        return []
    if schema is True or not schema:
        return [{}]
    said = _bare(schema)
    if len(said) == 1 and "$ref" in said:
        return _alternatives(definitions[said["$ref"].removeprefix(DEFINITIONS)], definitions)
    if len(said) == 1 and (union := said.get("anyOf", said.get("oneOf"))) is not None:
        return [one for each in union for one in _alternatives(each, definitions)]
    if len(said) == 1 and len(said.get("allOf", ())) == 1:
        return _alternatives(said["allOf"][0], definitions)
    if isinstance(kinds := schema.get("type"), list):
        return [{**schema, "type": kind} for kind in kinds]
    return [dict(schema)]


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _kind(schema: Schema) -> str:
    return str(schema.get("type", ""))


def _kinds(alternatives: Iterable[Schema]) -> set[str]:
    found: set[str] = set()
    for each in alternatives:
        values = _values(each)
        found.update([_kind(each)] if values is None else map(_kind_of, values))
    return found


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


def _fits(value: Any, schema: Schema) -> bool:
    """Whether a value of an enumeration is one that the schema takes; unsure is no."""
    kind, wanted = _kind_of(value), _kind(schema)
    if wanted and kind != wanted and not (kind == "integer" and wanted == "number"):
        return False
    if isinstance(value, str):
        known = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return known and not any(word in schema for word in ("pattern", "format"))
    if kind in ("integer", "number"):
        return not any(word in schema for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
    return kind in ("null", "boolean") or not wanted


def _among(value: Any, values: Iterable[Any]) -> bool:
    """JSON tells true from 1, which Python does not."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[Change]:
    for word in _FLOORS:
        if word in new and (word not in old or old[word] < new[word]) and not _implied_floor(word, old, new):
            yield Change(path, _told(word, old.get(word), new[word]), True)
    for word in _CEILINGS:
        if word in new and (word not in old or old[word] > new[word]) and not _implied_ceiling(word, old, new):
            yield Change(path, _told(word, old.get(word), new[word]), True)
    for word in _SAME:
        if word in new and old.get(word) != new[word]:
            yield Change(path, _told(word, old.get(word), new[word]), True)
    if "multipleOf" in new and ("multipleOf" not in old or old["multipleOf"] % new["multipleOf"] != 0):
        yield Change(path, _told("multipleOf", old.get("multipleOf"), new["multipleOf"]), True)
    if new.get("uniqueItems") and not old.get("uniqueItems"):
        yield Change(path, "its items must differ now", True)
    for word in (*_FLOORS, *_CEILINGS, *_SAME, "multipleOf", "uniqueItems"):
        if word in old and word not in new:
            yield Change(path, f"{word} {old[word]} is gone", False)


def _implied_floor(word: str, old: Schema, new: Schema) -> bool:
    """`> 3` implies `>= 3`, and `>= 4` implies `> 3`."""
    if word == "minimum":
        return bool(old.get("exclusiveMinimum", new[word] - 1) >= new[word])
    return word == "exclusiveMinimum" and bool(old.get("minimum", new[word]) > new[word])


def _implied_ceiling(word: str, old: Schema, new: Schema) -> bool:
    if word == "maximum":
        return bool(old.get("exclusiveMaximum", new[word] + 1) <= new[word])
    return word == "exclusiveMaximum" and bool(old.get("maximum", new[word]) < new[word])


def _told(word: str, old: Any, new: Any) -> str:
    return f"{word} is {new} now, and there was none" if old is None else f"{word} was {old}, is {new} now"


def _named(kind: str) -> str:
    return kind if kind == "null" else f"{'an' if kind[:1] in 'aio' else 'a'} {kind}" if kind else "anything"


def _listed(values: list[Any]) -> str:
    return ", ".join(repr(value) for value in values[:8]) + (" …" if len(values) > 8 else "")
