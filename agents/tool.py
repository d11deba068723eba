"""Tools: what an agent may call. A tool declares what a second call would do, and so how often it may be called (law 2)."""

import asyncio
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import pydantic

from headwater.lineage.duration import duration
from headwater.lineage.errors import Invalid, Misused

Kind = Literal["read", "idempotent", "reconcilable", "plain"]
"""read          changes nothing; it is called while deciding, as often as need be
idempotent    the receiver honours the effect id: it is sent until it is answered, and happens once
reconcilable  whether an effect id happened can be asked: it is sent again only if it did not, and happens once
plain         nothing is known of a second call: it is called at most once, and what stays unknown a person looks at"""

ToolFunction: TypeAlias = Callable[..., Awaitable[Any]]
Reconcile: TypeAlias = Callable[[str], Awaitable[Any | None]]

EFFECT = "effect"
"""The argument in which a tool that acts outside is told the effect id."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,199}")


@dataclass(frozen=True, eq=False)
class Tool:
    """Something an agent may call; the same in every agent that names it.

    name        unique in the application
    function    a coroutine function, called with the arguments as keywords; if it takes one called `effect` and acts outside, it is told
                the effect id. Of an idempotent or reconcilable tool it must. What it raises says what became of the call: see `fate_of`
    kind        what is not declared safe to repeat is never repeated
    scope       what a ruling is asked for (`call`, scope); default: the name
    parameters  JSON schema of the arguments, which must fit it; default: from the function's signature
    reconcile   effect id → the answer if it happened, None if it did not
    lease       how long a call of a reconcilable tool may last; only after it is asked whether it happened. Longer than `timeout`
    timeout     one call at most
    """

    name: str
    function: ToolFunction
    kind: Kind = "plain"
    scope: str = ""
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reconcile: Reconcile | None = None
    lease: str = "30s"
    timeout: str = "10s"
    _model: type[pydantic.BaseModel] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misused(f"tool name {self.name!r}: use letters, digits, and _ . : / -, at most 200")
        if self.kind not in get_args(Kind):
            raise Misused(f"tool {self.name}: kind {self.kind!r} is none of {', '.join(get_args(Kind))}")
        if not inspect.iscoroutinefunction(self.function) and not inspect.iscoroutinefunction(getattr(self.function, "__call__", None)):  # noqa: B004
            raise Misused(f"tool {self.name}: its function is no coroutine function; write: async def {self.name}(…)")
        if (self.kind == "reconcilable") != (self.reconcile is not None):
            raise Misused(f"tool {self.name}: kind {self.kind!r} {'needs' if self.reconcile is None else 'takes no'} reconcile=")
        if self.kind in ("idempotent", "reconcilable") and not self.told:
            raise Misused(f"tool {self.name}: what is {self.kind} hands on the effect id; give its function a parameter {EFFECT}: str")
        if duration(self.timeout) <= 0:
            raise Misused(f"tool {self.name}: timeout={self.timeout!r} must be above 0")
        if self.kind == "reconcilable" and duration(self.lease) <= duration(self.timeout):
            raise Misused(f"tool {self.name}: lease={self.lease!r} must be longer than timeout={self.timeout!r}")
        object.__setattr__(self, "scope", self.scope or self.name)
        if not self.parameters:
            object.__setattr__(self, "_model", _model_of(self))
            object.__setattr__(self, "parameters", _schema_of(self._model))

    @functools.cached_property
    def told(self) -> bool:
        """Whether the function is told the effect id."""
        if self.kind == "read":
            return False
        parameters = inspect.signature(self.function).parameters
        return EFFECT in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as JSON values, defaults filled in. Raises Invalid, which names the argument."""
        if self._model is None:
            plain: dict[str, Any] = msgspec.json.decode(self._encoded(arguments))
            self._fits(plain)
            return plain
        read = self._read(arguments).model_dump_json()
        found: dict[str, Any] = msgspec.json.decode(read)
        return found

    async def call(self, arguments: Mapping[str, Any], effect: str = "") -> Any:
        """The answer, as JSON values. Raises Invalid, TimeoutError, and whatever the function raises."""
        given = dict(arguments)
        if self._model is not None:
            read = self._read(arguments)
            given = {name: getattr(read, name) for name in type(read).model_fields}
        if self.told:
            given[EFFECT] = effect
        async with asyncio.timeout(duration(self.timeout) / 1_000_000):
            answer = await self.function(**given)
        return plain(answer) if self.kind == "read" else sayable(answer)

    def _encoded(self, arguments: Mapping[str, Any]) -> bytes:
        try:
            return msgspec.json.encode(dict(arguments), enc_hook=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise Invalid(f"tool {self.name}: its arguments are no JSON: {error}") from None

    def _read(self, arguments: Mapping[str, Any]) -> pydantic.BaseModel:
        assert self._model is not None
        try:
            return self._model.model_validate(dict(arguments))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "arguments"
            raise Invalid(f"tool {self.name}: {place}: {first['msg']}") from None

    def _fits(self, arguments: Mapping[str, Any]) -> None:
        from jsonschema.exceptions import best_match
        from jsonschema.validators import validator_for

        schema = dict(self.parameters)
        wrong = best_match(validator_for(schema)(schema).iter_errors(arguments))
        if wrong is not None:
            raise Invalid(f"tool {self.name}: {'.'.join(map(str, wrong.absolute_path)) or 'arguments'}: {wrong.message[:300]}")


@dataclass(frozen=True)
class Call:
    """An effect: a tool called with these arguments once the decision is in the journal. One that only reads is called while deciding."""

    tool: Tool
    arguments: Mapping[str, Any] = field(default_factory=dict)


def tool(
    *,
    kind: Kind = "plain",
    scope: str = "",
    description: str = "",
    reconcile: Reconcile | None = None,
    lease: str = "30s",
    timeout: str = "10s",
) -> Callable[[ToolFunction], Tool]:
    """Declare a tool: `@tool(kind="idempotent") async def rebook(booking: str, effect: str) -> dict`. Its docstring describes it."""

    def declare(function: ToolFunction) -> Tool:
        name = getattr(function, "__name__", "tool")
        told = description or inspect.getdoc(function) or ""
        return Tool(name, function, kind, scope, told, {}, reconcile, lease, timeout)

    return declare


def plain(value: Any) -> Any:
    """A value as JSON values: models as objects, what is no JSON as text."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_plain))


def sayable(value: Any) -> Any:
    """The same of what was done outside: it is done, so an answer that cannot be written is no failure; it is told in words."""
    try:
        return plain(value)
    except Exception as error:
        return f"an answer that is no JSON, {type(value).__name__}: {type(error).__name__}"


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, pydantic.BaseModel) else str(value)


def _model_of(tool: Tool) -> type[pydantic.BaseModel]:
    """What the signature says of the arguments. Raises Misused."""
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(tool.function, eval_str=True).parameters.items():
        if tool.told and name == EFFECT:
            continue
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise Misused(f"tool {tool.name}: its parameter {name} has no name that a call could give; or pass parameters=, a JSON schema")
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[name] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
    try:
        return pydantic.create_model(tool.name, __config__=pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
    except (pydantic.errors.PydanticUserError, NameError) as error:
        raise Misused(f"tool {tool.name}: its signature cannot be read: {error}") from None


def _schema_of(model: type[pydantic.BaseModel] | None) -> Mapping[str, Any]:
    assert model is not None
    return model.model_json_schema()
