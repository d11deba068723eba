"""The page `/docs`: what stands in /openapi.json, for people. No script and nothing from another server, so it is there offline too."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_PAGES = Path(__file__).parent / "pages"
_STYLE = (_PAGES / "docs.css").read_text()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}  # fmt: skip
_environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True)


class Field(NamedTuple):
    """A parameter, or a field of a body. `where`: path, query, header or body."""

    name: str
    where: str
    kind: str
    needed: bool
    about: str


class Route(NamedTuple):
    """One thing that can be asked."""

    verb: str
    path: str
    summary: str
    about: str
    fields: list[Field]


def mount(app: FastAPI) -> None:
    """Serve the page; made anew at each request, for what a route tells may be added later."""

    @app.get("/docs", include_in_schema=False)
    def page() -> HTMLResponse:
        told = {"title": app.title, "version": app.version, "groups": groups(app.openapi()), "style": _STYLE}
        text = _environment.get_template("docs.html").render(told)
        return HTMLResponse(text, headers=_HEADERS)


def groups(document: Mapping[str, Any]) -> dict[str, list[Route]]:
    """Tag → its routes, in the document's order."""
    found: dict[str, list[Route]] = {}
    for path, verbs in document["paths"].items():
        for verb, told in verbs.items():
            [tag, *_] = told.get("tags") or ["more"]
            fields = [*map(_parameter, told.get("parameters", ())), *_body(told, document)]
            said, _, about = (told.get("description") or told.get("summary", "")).partition("\n")  # a summary may be a function's name only
            found.setdefault(tag, []).append(Route(verb.upper(), path, said, about.strip(), fields))
    return found


def _parameter(told: Mapping[str, Any]) -> Field:
    return Field(told["name"], told["in"], _kind(told.get("schema", {})), told.get("required", False), told.get("description", ""))


def _body(told: Mapping[str, Any], document: Mapping[str, Any]) -> list[Field]:
    """The fields of a JSON body."""
    schema = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    model = _named(schema, document)
    needed, fields = model.get("required", ()), model.get("properties", {})
    return [Field(name, "body", _kind(each), name in needed, each.get("description", "")) for name, each in fields.items()]


def _named(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference leads to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a few words: `integer`, `list of string`, `waiting | redriven`, and its default."""
    default = schema.get("default")
    return _type(schema) + (f" = {default}" if default not in (None, "", [], {}) else "")


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"] if each.get("type") != "null"))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", schema.get("const", "any")))
