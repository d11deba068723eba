"""Once: an attribute made on first use, by one thread, while all others that ask wait for it."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

_making = threading.RLock()
"""One for all: a part may be made of other parts, and two locks could wait for each other. Parts are made at start: nobody waits long."""


class once(Generic[T]):
    """`functools.cached_property` with the lock that it had before Python 3.12: worker threads share what a runtime opens."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make, self._name, self.__doc__ = make, make.__name__, make.__doc__

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> "once[T]": ...

    @overload
    def __get__(self, owner: object, kind: type[Any]) -> T: ...

    def __get__(self, owner: object | None, kind: type[Any]) -> "once[T] | T":
        if owner is None:
            return self
        with _making:
            made = vars(owner)  # no data descriptor: what lies there is found before this is asked
            if self._name not in made:
                made[self._name] = self._make(owner)
            found: T = made[self._name]
            return found
