"""What was read lately and may be read again: bounded, safe among threads, and never older than the store it was read from."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Lately(Generic[Key, Value]):
    """Values by key, the least recently used forgotten first.

    A reader says when it begins to read (`begin`) and keeps what it found (`keep`); a writer changes the store within `changing`.
    What was read while anything was being changed is not kept, for nobody knows whether it was read before or after.

    most  how many values are kept
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._changing = 0
        self._changes = 0

    def find(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Those that are kept."""
        with self._lock:
            found = {key: value for key in keys if (value := self._kept.get(key)) is not None}
            for key in found:
                self._kept.move_to_end(key)
            return found

    def begin(self) -> int:
        """To be called before the store is read; `keep` wants the number."""
        with self._lock:
            return self._changes

    def keep(self, found: Mapping[Key, Value], begun: int) -> None:
        """Keep what was read since `begin`, unless something was being changed meanwhile."""
        with self._lock:
            if self._changing or begun != self._changes:
                return
            self._kept.update(found)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    @contextmanager
    def changing(self, keys: Iterable[Key]) -> Iterator[None]:
        """While the store's values of these keys are being changed, and from then on, their former ones are not to be had here."""
        with self._lock:
            self._changing += 1
            for key in keys:
                self._kept.pop(key, None)
        try:
            yield
        finally:
            with self._lock:
                self._changing -= 1
                self._changes += 1
