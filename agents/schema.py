"""JSON schemas that others wrote, made fit to validate arguments with: nothing in them leads outside, dialects are made one."""

from collections.abc import Mapping
from typing import Any

from headwater.lineage.errors import Misused

_LOCAL = "#/components/schemas/"
_LEFT_OUT = frozenset(("$id", "$schema", "$anchor", "$dynamicAnchor", "xml", "discriminator", "externalDocs"))
_SUBSCHEMAS = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
"""Keywords whose values are schemas by name."""
_VALUES = frozenset(("enum", "const", "default", "example", "examples"))
"""Keywords whose values are no schemas."""


def portable(schema: Any, what: str) -> Any:
    """The schema in JSON Schema's words of 2020-12, its references to an OpenAPI document's schemas made local.

    Raises Misused for a reference that leads elsewhere: to follow it would be to fetch what a stranger names.
    """
    if isinstance(schema, bool) or schema is None:
        return schema
    if not isinstance(schema, Mapping):
        raise Misused(f"{what}: {schema!r:.80} is no JSON schema")
    made: dict[str, Any] = {}
    for word, value in schema.items():
        if word in ("$ref", "$dynamicRef"):
            made["$ref"] = _reference(value, what)
        elif word in _VALUES:
            made[word] = value
        elif word in _SUBSCHEMAS and isinstance(value, Mapping):
            made[word] = {name: portable(each, what) for name, each in value.items()}
        elif isinstance(value, Mapping):
            made[word] = portable(value, what)
        elif isinstance(value, list) and word in ("allOf", "anyOf", "oneOf", "prefixItems"):
            made[word] = [portable(each, what) for each in value]
        elif word not in _LEFT_OUT:
            made[word] = value
    return _of_3_0(made)


def written(schema: Any) -> Any:
    """The schema for what is sent: properties that only answers have are not asked for."""
    if not isinstance(schema, Mapping):
        return schema
    properties = schema.get("properties")
    answered = {name for name, each in properties.items() if isinstance(each, Mapping) and each.get("readOnly")} if properties else set()
    made = {word: {name: written(each) for name, each in value.items()} if word in _SUBSCHEMAS else value for word, value in schema.items()}
    if answered and "required" in made:
        made["required"] = [name for name in made["required"] if name not in answered]
    return made


def _reference(value: Any, what: str) -> str:
    if isinstance(value, str) and value.startswith(_LOCAL):
        return f"#/$defs/{value.removeprefix(_LOCAL)}"
    if isinstance(value, str) and (value == "#" or value.startswith(("#/$defs/", "#/definitions/", "#/properties/"))):
        return value
    raise Misused(f"{what}: the reference {value!r:.120} leads out of its schema, and is not followed; write the schema into the document")


def _of_3_0(schema: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI 3.0 says in words of its own: nullable, and bounds that are exclusive by a flag."""
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(flag) is True and bound in schema:
            schema[flag] = schema.pop(bound)
        elif isinstance(schema.get(flag), bool):
            del schema[flag]
    if schema.pop("nullable", False):
        if isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
            if "enum" in schema and None not in schema["enum"]:
                schema["enum"] = [*schema["enum"], None]
        else:
            return {"anyOf": [schema, {"type": "null"}]}
    return schema
