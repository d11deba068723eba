"""Turns: searches of an engine and writes to it keep out of each other's way before they are inside it.

The embedded engine holds the whole interpreter while it writes and while it searches, so whoever waited inside it would hold up every
thread. Here they wait outside, where the others go on.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Any number of searches at a time, or one write. A write that waits goes before searches that come later, and searches that wait
    go before the next write: so neither waits for ever."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._searches = self._searches_waiting = 0
        self._writes_waiting = self._writes_ended = 0
        self._writing = False

    @contextmanager
    def search(self) -> Iterator[None]:
        with self._changed:
            if self._writing or self._writes_waiting:
                self._searches_waiting += 1
                ended = self._writes_ended
                self._changed.wait_for(lambda: self._writes_ended != ended)  # who ended a write has counted us in
            else:
                self._searches += 1
        try:
            yield
        finally:
            with self._changed:
                self._searches -= 1
                self._changed.notify_all()

    @contextmanager
    def write(self) -> Iterator[None]:
        with self._changed:
            self._writes_waiting += 1
            self._changed.wait_for(lambda: not self._searches and not self._writing)
            self._writes_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._writes_ended += 1
                self._searches, self._searches_waiting = self._searches + self._searches_waiting, 0
                self._changed.notify_all()
