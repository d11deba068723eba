"""gate: readers come and go; who exchanges the file waits until none is inside, and they wait for him."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import duckdb

from headwater.lineage.errors import Unavailable

PATIENCE_S = 60.0
"""More than a query may take."""


class Gate:
    """Counts readers, by the thread they came from: one that is inside may enter again, or it would wait for itself."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._inside: Counter[int] = Counter()
        self._shut = False

    def enter(self) -> int:
        """Gives what `leave` takes. Raises Unavailable if the file is being exchanged for too long."""
        thread = threading.get_ident()
        with self._turn:
            if not self._inside[thread] and not self._turn.wait_for(lambda: not self._shut, PATIENCE_S):
                raise Unavailable("the lineage file is being rewritten; ask again in a moment")
            self._inside[thread] += 1
        return thread

    def leave(self, thread: int) -> None:
        """A reader may leave in another thread than it came in."""
        with self._turn:
            self._inside[thread] -= 1
            if not self._inside[thread]:
                del self._inside[thread]
            self._turn.notify_all()

    @contextmanager
    def alone(self, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Nobody reads meanwhile. Raises Unavailable if somebody goes on reading."""
        with self._turn:
            self._shut = True
            gone = self._turn.wait_for(lambda: not self._inside.total(), patience_s)
        try:
            if not gone:
                raise Unavailable(f"{self._inside.total()} readers of the lineage file did not come to an end within {patience_s:g} s")
            yield
        finally:
            with self._turn:
                self._shut = False
                self._turn.notify_all()


class Cursor:
    """A DuckDB connection that leaves the gate when it is closed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, gate: Gate, thread: int) -> None:
        self._connection, self._gate, self._thread, self._open = connection, gate, thread, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._leave()

    def execute(self, *given: Any) -> Self:
        """As the connection does, which would answer itself and let this one go."""
        self._connection.execute(*given)
        return self

    def close(self) -> None:
        self._connection.close()
        self._leave()

    def _leave(self) -> None:
        if self._open:
            self._open = False
            self._gate.leave(self._thread)
