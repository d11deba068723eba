"""What a tool raised, as its record tells it; and the same raised again in a replay, so that an agent which catches it catches it again."""

import asyncio
import builtins
import sys
from collections.abc import Mapping
from typing import Any

from headwater.agents.answer import words
from headwater.lineage import errors


def told_of(error: BaseException) -> dict[str, str]:
    """`error`: its name and words; `raised`: its class."""
    kind = type(error)
    return {"error": f"{kind.__name__}: {words(error)}", "raised": f"{kind.__module__}.{kind.__qualname__}"}


def as_then(data: Mapping[str, Any]) -> BaseException:
    """What a record tells of: of the class of then where that is loaded, with the same words. Whatever else it carried is not on record."""
    told = str(data["error"])
    name, _, said = told.partition(": ")
    kind = _loaded(str(data.get("raised") or "")) or _known(name)
    late = issubclass(kind, TimeoutError) if kind is not None else not name.isidentifier()
    return TimeoutError(told) if late else _speaking(kind or Exception, name, said)  # of a call that took too long, words alone are kept


def _loaded(path: str) -> type[BaseException] | None:
    """A class of a module that is loaded: a file of cases can have nothing imported."""
    module, _, name = path.rpartition(".")
    return _fit(getattr(sys.modules.get(module), name, None))


def _known(name: str) -> type[BaseException] | None:
    return _fit(getattr(builtins, name, None)) or _fit(getattr(errors, name, None))


def _fit(found: Any) -> type[BaseException] | None:
    """Never what would end the process that replays."""
    fits = isinstance(found, type) and issubclass(found, (Exception, asyncio.CancelledError))
    return found if fits else None


def _speaking(kind: type[BaseException], name: str, said: str) -> BaseException:
    """One of a class whose own `__init__` may want what nobody knows any more."""
    if issubclass(kind, errors.HeadwaterError) or kind is asyncio.CancelledError:
        return kind(said)
    members: dict[str, Any] = {"__init__": lambda self, *_: None, "__str__": lambda _: said, "__module__": kind.__module__}
    try:
        made: BaseException = type(name, (kind,), members)(said)
    except TypeError:
        made = type(name, (Exception,), members)(said)
    return made
