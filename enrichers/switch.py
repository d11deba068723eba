"""The index that everybody in a process holds: calls go to the generation that answers, which may be exchanged between two calls."""

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, cast

import numpy as np

from headwater.enrichers.engine import Embedded, Found, Half, Index, Point, Scope, Vector
from headwater.enrichers.sparse import Sparse


class Switch:
    """Stands for the index that answers. While it turns, calls wait until those under way have ended: milliseconds.

    A search that began before and ends after reads from both; what it then misses, the retriever looks for once more.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._changed = threading.Condition()
        self._calls = 0
        self._turning = False

    @property
    def size(self) -> int:
        return self.index.size

    def turn(self, index: Index, last: Callable[[Index], None]) -> Index:
        """Let another one answer; gives the former, which nobody uses any more. `last` is called with it when no call is under way."""
        with self._changed:
            self._turning = True
            try:
                while self._calls:
                    self._changed.wait()
                former = self.index
                last(former)
                self.index = index
                return former
            finally:
                self._turning = False
                self._changed.notify_all()

    def close(self) -> None:
        self.index.close()

    def __getattr__(self, name: str) -> Any:
        if not callable(getattr(Index, name, None)):
            raise AttributeError(name)
        call = getattr(self.index, name)

        @wraps(call)
        def through(*args: Any, **options: Any) -> Any:
            with self._changed:
                while self._turning:
                    self._changed.wait()
                self._calls += 1
                index = self.index
            try:
                return getattr(index, name)(*args, **options)
            finally:
                with self._changed:
                    self._calls -= 1
                    if not self._calls:
                        self._changed.notify_all()

        return through


def switch(index: Index) -> tuple[Index, Switch]:
    """An index whose generation may be exchanged, and the switch that does it; the two are one."""
    made = Switch(index)
    return cast(Index, made), made


class ByWords:
    """An index made with another model than the one at hand: until it is rebuilt it is searched by words alone.

    Vectors of two models tell nothing about each other, so none is compared and none is added: what is put is found by words as well.
    Vectors read from it are zero, which nobody takes for one.
    """

    def __init__(self, index: Index, size: int) -> None:
        self._index = index
        self._former = index.size
        self.size = size

    def put(self, points: Sequence[Embedded]) -> None:
        nothing: Vector = np.zeros(self._former, dtype=np.float32)
        self._index.put([one._replace(dense=nothing) for one in points])

    def find(self, halves: Sequence[Half], scope: Scope) -> list[list[Found]]:
        found = iter(self._index.find([half for half in halves if isinstance(half.by, Sparse)], scope))
        return [next(found) if isinstance(half.by, Sparse) else [] for half in halves]

    def points(self, ids: Sequence[str]) -> dict[str, tuple[Point, Vector]]:
        nothing: Vector = np.zeros(self.size, dtype=np.float32)
        return {id: (point, nothing) for id, (point, _) in self._index.points(ids).items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)


def by_words(index: Index, size: int) -> Index:
    """An index of another model, searched by words alone."""
    return cast(Index, ByWords(index, size))
