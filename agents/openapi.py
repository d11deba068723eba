"""OpenApi: the operations of an API's OpenAPI document as tools, each with a scope of its own."""

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from headwater.agents.loaded import loaded
from headwater.agents.operation import Door, Operation, Parameter, base, sendable
from headwater.agents.schema import portable, written
from headwater.agents.tool import EFFECT, Kind, Tool
from headwater.lineage.errors import Misused

_KINDS: Mapping[str, Kind] = {
    "get": "read", "head": "read", "put": "idempotent", "delete": "idempotent", "post": "plain", "patch": "plain",
}  # fmt: skip
"""What HTTP says of a method; an API may know better, or worse."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
_ASTRAY = re.compile(r"/\.{1,2}/|//|[?#\\\x00-\x20\x7f]|%")
"""What makes of a path another: dots, also written as %2e, another host, a query, what a server may read as a slash."""
_VARIABLE = re.compile(r"\{[^{}]*\}")
BODY = "body"


@dataclass(frozen=True, eq=False)
class OpenApi:
    """`OpenApi("shop", "shop.openapi.yaml", url="https://shop.example/v1").tools("getOrder", "cancelOrder")`.

    name      of the API, in the tools' names (`shop/getOrder`) and scopes (`openapi:shop/getOrder`)
    document  a file (JSON or YAML, OpenAPI 3.0 or 3.1), or the document itself; nothing is fetched
    url       where the API is; what the document says of servers is not looked at, and no redirect is followed
    kinds     operation → kind, where it is another than its method's: GET reads, PUT and DELETE are idempotent, POST and PATCH plain
    headers   sent with every request;  secrets  header → the variable that holds its value; never told, and blotted out of answers
    timeout   of one call;  max_bytes  of an answer

    Every tool that acts sends its effect id as `Idempotency-Key`. Raises Misused for a document that is none.
    """

    name: str
    document: str | Path | Mapping[str, Any]
    _: KW_ONLY
    url: str
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    timeout: str = "10s"
    max_bytes: int = 1_000_000
    _definitions: dict[str, tuple[Any, frozenset[str]]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misused(f"OpenApi {self.name!r}: a name is of letters, digits, _ and -, at most 60")
        base(self.url, self._what)
        if unknown := sorted(set(self.kinds) - set(self.operations)):
            raise Misused(f"{self._what}: kinds= names {', '.join(unknown)}; there are {', '.join(sorted(self.operations))}")

    @property
    def operations(self) -> Mapping[str, tuple[str, str]]:
        """Operation → (method, path)."""
        return {name: (method, path) for name, method, path, _ in self._found}

    def tools(self, *names: str) -> tuple[Tool, ...]:
        """The operations of these names as tools; all, if none is named. Raises Misused for one that cannot be called."""
        found = {name: (method, path, operation) for name, method, path, operation in self._found}
        if unknown := [name for name in names if name not in found]:
            raise Misused(f"{self._what} has no operation {', '.join(unknown)}; there are {', '.join(sorted(found))}")
        return tuple(self._tool(name, *found[name]) for name in names or found)

    @property
    def _what(self) -> str:
        return f"OpenApi {self.name}"

    @functools.cached_property
    def _read(self) -> Mapping[str, Any]:
        document = self.document if isinstance(self.document, Mapping) else loaded(Path(self.document), self._what)
        version = str(document.get("openapi", "")) if isinstance(document, Mapping) else ""
        if not version.startswith("3."):
            raise Misused(f"{self._what}: this is no OpenAPI 3 document (openapi: {version or 'missing'})")
        return document

    @functools.cached_property
    def _found(self) -> list[tuple[str, str, str, Mapping[str, Any]]]:
        found: list[tuple[str, str, Mapping[str, Any]]] = []
        for path, held in self._told(self._read.get("paths"), "paths").items():
            item: Mapping[str, Any] = self._resolved(held, "no path") if isinstance(held, Mapping) else {}
            for method in _KINDS:
                if isinstance(item.get(method), Mapping):
                    parameters = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                    found.append((method, str(path), {**item[method], "parameters": parameters}))
        many = Counter(_plain(_named_by(*each)) for each in found)
        named: dict[str, tuple[str, str, str, Mapping[str, Any]]] = {}
        for method, path, operation in found:
            name = _named_by(method, path, operation)
            if many[_plain(name)] > 1 and not operation.get("operationId"):
                name = f"{name}_{hashlib.sha256(f'{method} {path}'.encode()).hexdigest()[:6]}"  # two paths that read alike stay two
            if _plain(name) in named:
                raise Misused(f"{self._what}: two operations are called {_plain(name)}; give each an operationId of its own")
            named[_plain(name)] = (name, method, path, operation)
        return list(named.values())

    @functools.cached_property
    def _door(self) -> Door:
        return Door(self.name, base(self.url, self._what), dict(self.headers), dict(self.secrets), self.max_bytes)

    def _tool(self, name: str, method: str, path: str, operation: Mapping[str, Any]) -> Tool:
        what = f"{self._what}, operation {name}"
        if not path.startswith("/") or _ASTRAY.search(f"{unquote(path)}/"):
            raise Misused(f"{what}: the path {path!r} leads out of the API")
        parameters, schema = self._arguments(what, operation)
        declared = {f"{{{parameter.wire}}}" for parameter in parameters if parameter.place == "path"}
        if lacking := [name for name in _VARIABLE.findall(path) if name not in declared]:
            raise Misused(f"{what}: no parameter of it says what {lacking[0]} of the path {path!r} is; write it into the document")
        kind = self.kinds.get(name, _KINDS[method])
        full = f"{self.name}/{_plain(name)}"
        function = Operation(full, method.upper(), path, tuple(parameters), self._door, acts=kind != "read")
        told = " ".join(filter(None, (str(operation.get("summary") or ""), str(operation.get("description") or "")))) or f"{method} {path}"
        return Tool(full, function, kind, f"openapi:{full}", told, schema, timeout=self.timeout)

    def _arguments(self, what: str, operation: Mapping[str, Any]) -> tuple[list[Parameter], dict[str, Any]]:
        """Where each argument goes, and the schema of them all."""
        properties: dict[str, Any] = {}
        required: list[str] = []
        parameters: list[Parameter] = []
        declared = {(each.get("name"), each.get("in")): each for each in map(self._resolved, operation["parameters"])}
        for (name, place), each in declared.items():
            if not isinstance(name, str) or not name:
                raise Misused(f"{what}: a parameter has no name: {dict(each)!r:.80}")
            if place not in ("path", "query", "header"):
                if each.get("required"):
                    raise Misused(f"{what}: it needs the {place} {name}, which a tool cannot send")
                continue
            argument = str(name) if name not in (EFFECT, BODY, *properties) else f"{place}_{name}"
            parameter = Parameter(argument, str(name), place, _form(each))
            if not sendable(parameter, self.secrets):
                continue
            parameters.append(parameter)
            told = {"description": each["description"]} if each.get("description") else {}
            schema = each.get("schema") or _only(each.get("content")).get("schema", {})
            properties[argument] = {**_object(portable(schema, what)), **told}
            required += [argument] if each.get("required") or place == "path" else []
        if body := self._body(what, operation):
            parameters.append(Parameter(BODY, BODY, "body"))
            properties[BODY] = body[0]
            required += [BODY] if body[1] else []
        whole: dict[str, Any] = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        return parameters, self._with_definitions(what, whole)

    def _body(self, what: str, operation: Mapping[str, Any]) -> tuple[Any, bool] | None:
        if "requestBody" not in operation:
            return None
        body = self._resolved(operation["requestBody"])
        content = self._told(body.get("content"), f"content of {what}")
        kinds = {kind.partition(";")[0].strip(): told for kind, told in content.items()}
        if "application/json" not in kinds:
            if body.get("required"):
                raise Misused(f"{what}: it takes {', '.join(kinds) or 'nothing'}, and a tool sends application/json")
            return None
        told = self._told(kinds["application/json"], f"content of {what}")
        return written(portable(told.get("schema", {}), what)), bool(body.get("required"))

    def _told(self, told: Any, place: str) -> Mapping[str, Any]:
        """A part of the document that holds others by name; nothing, where it is missing."""
        if told is not None and not isinstance(told, Mapping):
            raise Misused(f"{self._what}: {place} is {told!r:.80}, where an object is needed")
        return told or {}

    def _resolved(self, told: Any, kind: str = "neither a parameter nor a body") -> Mapping[str, Any]:
        """A part of the document, found where a reference names it."""
        seen = 0
        while isinstance(told, Mapping) and "$ref" in told:
            place, seen = str(told["$ref"]), seen + 1
            if not place.startswith(("#/components/", "#/paths/")) or seen > 20:
                raise Misused(f"{self._what}: the reference {place!r:.120} is not followed; write what it names into the document")
            told = self._read
            for part in place[2:].split("/"):
                told = told.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(told, Mapping) else None
        if not isinstance(told, Mapping):
            raise Misused(f"{self._what}: {told!r:.80} is {kind}")
        return told

    def _with_definitions(self, what: str, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema with the document's schemas that it leads to."""
        definitions: dict[str, Any] = {}
        left = list(_named(schema))
        while left:
            name = left.pop()
            if name not in definitions:
                definitions[name], further = self._definition(name, what)
                left += further
        return {**schema, "$defs": definitions} if definitions else schema

    def _definition(self, name: str, what: str) -> tuple[Any, frozenset[str]]:
        """A schema of the document, and those it names. Many operations lead to the same: each is made once."""
        if name not in self._definitions:
            known = self._told(self._told(self._read.get("components"), "components").get("schemas"), "components/schemas")
            if name not in known:
                raise Misused(f"{what}: components/schemas has no {name}")
            made = written(portable(known[name], f"{self._what}, schema {name}"))
            self._definitions[name] = made, frozenset(_named(made))
        return self._definitions[name]


def _named_by(method: str, path: str, operation: Mapping[str, Any]) -> str:
    return str(operation.get("operationId") or re.sub(r"[^A-Za-z0-9]+", "_", f"{method}{path}").strip("_"))


def _plain(name: str) -> str:
    """A name as a tool's may be."""
    return re.sub(r"[^A-Za-z0-9_.:/-]", "_", name)


def _form(parameter: Mapping[str, Any]) -> str:
    style = parameter.get("style", "form")
    return "deepObject" if style == "deepObject" else "" if parameter.get("explode", style == "form") else "form"


def _only(content: Any) -> Mapping[str, Any]:
    """What is told of the only kind of content."""
    return next(iter(content.values()), {}) if isinstance(content, Mapping) else {}


def _object(schema: Any) -> dict[str, Any]:
    return cast(dict[str, Any], schema) if isinstance(schema, dict) else {}


def _named(schema: Any) -> Iterator[str]:
    """The definitions that a schema refers to."""
    if isinstance(schema, Mapping):
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            yield reference.removeprefix("#/$defs/").partition("/")[0]
        for value in schema.values():
            yield from _named(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _named(value)
