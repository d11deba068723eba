"""The JSON schema of a topic's model: what travels on the topic, in words that other programs understand."""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pydantic

Schema = dict[str, Any]
DEFINITIONS = "#/$defs/"

_MAPS = ("properties", "patternProperties", "$defs")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_ONES = ("items", "additionalProperties", "additionalItems", "propertyNames", "contains", "not")


def schema_of(model: type[Any]) -> Schema:
    """What the model's decoder takes, as a JSON schema that refers to nothing outside itself (`#/$defs/…`)."""
    if issubclass(model, pydantic.BaseModel):
        return model.model_json_schema(mode="validation")
    return dict(msgspec.json.schema(model))


def digest(schema: Mapping[str, Any]) -> str:
    """Equal for equal schemas, whatever the order of their keys; descriptions count too."""
    return hashlib.sha256(msgspec.json.encode(schema, order="sorted")).hexdigest()[:16]


def describe(model: type[Any]) -> str:
    """The model's own docstring, its first paragraph on one line; empty if it has none (an inherited one says nothing of it)."""
    text = vars(model).get("__doc__") or ""
    return " ".join(re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0].split())


def rewritten(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """The schema with `change` applied to it and to every schema inside it, innermost first; names, defaults and values are let be."""
    if not isinstance(schema, Mapping):
        return schema
    found: Schema = {}
    for word, value in schema.items():
        if word in _MAPS and isinstance(value, Mapping):
            found[word] = {name: rewritten(each, change) for name, each in value.items()}
        elif word in _LISTS or (word in _ONES and isinstance(value, list)):
            found[word] = [rewritten(each, change) for each in value]
        elif word in _ONES:
            found[word] = rewritten(value, change)
        else:
            found[word] = value
    return change(found)
