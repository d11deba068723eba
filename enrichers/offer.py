"""What a language model is offered: tools, things to read, prompts, as plain data. `mcp` serves them; each layer declares its own."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pydantic

Schema = dict[str, Any]


class Told(NamedTuple):
    """One answer in two forms: `data` for programs (JSON), `text` for a model that reads."""

    data: dict[str, Any]
    text: str


class Listed(NamedTuple):
    """An entry of a list of things to read."""

    id: str
    title: str
    about: str


@dataclass(frozen=True)
class Tool:
    """Something a model may do.

    arguments  the model of its arguments; `about_arguments` describes those that say nothing of themselves
    answer     properties of its structured answer (JSON Schema), all of them always there
    call       (arguments, HTTP request or None) → Told. A plain function may wait, it runs in a thread; a coroutine function may not.
               Raises HeadwaterError: the model is told what, and what to do next
    reads      it changes nothing
    """

    name: str
    title: str
    about: str
    arguments: type[pydantic.BaseModel]
    answer: Mapping[str, Schema]
    call: Callable[[Any, Any], Told] | Callable[[Any, Any], Awaitable[Told]]
    about_arguments: Mapping[str, str] = field(default_factory=dict)
    reads: bool = True

    def input_schema(self) -> Schema:
        """The arguments as JSON Schema, each with a description."""
        schema = self.arguments.model_json_schema()
        for name, stated in schema.get("properties", {}).items():
            stated.pop("title", None)
            if "description" not in stated and name in self.about_arguments:
                stated["description"] = self.about_arguments[name]
        schema.pop("title", None)
        schema.pop("description", None)
        return {"type": "object", "properties": {}, **schema}

    def output_schema(self) -> Schema:
        """The answer, or the problem (RFC 9457) that stands in its place."""
        notes = {"type": "array", "items": {"type": "string"}, "description": "what was cut or left out here"}
        properties = {**self.answer, "notes": notes}
        problem = {"type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}}
        return {
            "type": "object",
            "anyOf": [{"required": list(properties), "properties": properties}, {"required": list(problem), "properties": problem}],
        }


@dataclass(frozen=True)
class Shelf:
    """Things of one kind to read, each at `headwater://KIND/ID`.

    read    id → Told. Raises HeadwaterError
    listed  (how many to pass over, how many at most) → what may be picked from, best first
    """

    kind: str
    title: str
    about: str
    read: Callable[[str], Told]
    listed: Callable[[int, int], Sequence[Listed]]


class Argument(NamedTuple):
    """An argument of a prompt, always text."""

    name: str
    about: str
    required: bool = True


@dataclass(frozen=True)
class Prompt:
    """A task that a person picks, written out for a model.

    write     arguments → the task's texts, in order. Raises HeadwaterError
    """

    name: str
    title: str
    about: str
    arguments: Sequence[Argument]
    write: Callable[[Mapping[str, str]], Sequence[str]]


@dataclass(frozen=True)
class Offer:
    """All of it. `about` teaches a model how the parts belong together."""

    about: str
    tools: Sequence[Tool] = ()
    shelves: Sequence[Shelf] = ()
    prompts: Sequence[Prompt] = ()
