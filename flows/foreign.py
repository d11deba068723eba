"""What others send, made the topic's own: a payload through a declared model and function into the topic's data. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pydantic

from headwater.lineage.duration import parse_time
from headwater.lineage.errors import HeadwaterError, Invalid, Misused
from headwater.lineage.select import PRIORITIES
from headwater.lineage.topic import Topic, fields_of

Convert: TypeAlias = Callable[[Any], Any]
"""A payload (its model, if one is declared) → the topic's data as a mapping or its model; None: it says nothing."""


class Item(NamedTuple):
    """One payload: the id of its event (and, if need be, of its dead letter), where it lies, what is known to be wrong with it."""

    id: str
    place: str
    value: Any
    raw: bytes
    error: HeadwaterError | None = None


def check(what: str, topic: Any, model: type[Any] | None, priority: str) -> None:
    """Whether what all gateways declare makes sense. Raises Misused."""
    if priority not in PRIORITIES:
        raise Misused(f"{what}: priority={priority!r} is none of {', '.join(PRIORITIES)}")
    if not isinstance(topic, Topic):
        raise Misused(f"{what}: into={topic!r} is no Topic")
    if model is not None:
        fields_of(model)


def converted(payload: Any, topic: Topic[Any], model: type[Any] | None = None, convert: Convert | None = None) -> bytes | None:
    """The JSON of the topic's data that a payload says, None if it says nothing. Raises Invalid.

    A model reads foreign names by its aliases. What it makes of them is the topic's data: by its method `to_event`, if it has one,
    else field by field. A function has the last word. Texts become numbers where the topic's model wants numbers: CSV has only texts.
    """
    value = payload if model is None else _read(payload, model)
    function = convert or getattr(value, "to_event", None)
    if function is not None:
        try:
            value = convert(value) if convert is not None else value.to_event()
        except HeadwaterError:
            raise
        except Exception as error:
            raise Invalid(f"{getattr(function, '__name__', 'the function')} raised {type(error).__name__}: {error}") from error
        if value is None:
            return None
    return topic.encode(_read(_plain(value), topic.model))


def _plain(value: Any) -> Any:
    """A model by the names of its fields, not by its aliases."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", by_alias=False)
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _read(value: Any, model: type[Any]) -> Any:
    try:
        if issubclass(model, pydantic.BaseModel):
            # As JSON: what a text may become (numbers, times) is then told by the model alone.
            return model.model_validate_json(msgspec.json.encode(value, enc_hook=_known))
        return msgspec.convert(value, model, strict=False)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"{place}: {first['msg']}" if place else first["msg"]) from None
    except (msgspec.ValidationError, TypeError, ValueError, UnicodeEncodeError) as error:
        raise Invalid(str(error)) from None


def _known(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, pydantic.BaseModel) else str(value)


def at(payload: Any, path: str) -> Any:
    """What lies at a dotted path (`$.data.items`, `data.0.id`) in JSON; None if nothing does."""
    for part in path.removeprefix("$").strip(".").split(".") if path.removeprefix("$").strip(".") else ():
        if isinstance(payload, Mapping):
            payload = payload.get(part)
        elif isinstance(payload, list) and part.isdecimal() and int(part) < len(payload):
            payload = payload[int(part)]
        else:
            return None
    return payload


def moment(value: Any) -> int | None:
    """µs since 1970 of seconds, milliseconds (from 10^12 on) or an RFC 3339 text; None if it tells no time."""
    text = str(value)
    if text.isascii() and text.isdecimal() and len(text) <= 13:
        return int(text) * (1_000 if len(text) == 13 else 1_000_000)
    try:
        return parse_time(text)
    except ValueError:
        return None


def time_of(payload: Any, path: str | None, now: int) -> int:
    """The event time (µs) that a payload tells at a path; without a path `now`. Raises Invalid."""
    if path is None:
        return now
    if (found := moment(at(payload, path))) is None:
        raise Invalid(f"{path} tells no time: {at(payload, path)!r}; write RFC 3339, seconds or milliseconds")
    return found


def named(payload: Any, paths: tuple[str, ...]) -> str | None:
    """The id that one or several fields tell together; None if one of them is missing."""
    values = [at(payload, path) for path in paths]
    if any(value is None or isinstance(value, (Mapping, list)) for value in values):
        return None
    return "\x1f".join(map(str, values))
