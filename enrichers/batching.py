"""Texts of many callers, embedded together: each batch holds texts of like length, and who has asked for little does not wait for much."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headwater.enrichers.embed import Embedder
from headwater.enrichers.engine import Vector
from headwater.enrichers.rows import checked


@dataclass(eq=False)
class _Asked:
    """What one caller waits for. `left` are the numbers of the texts that have no row yet, the longest last."""

    texts: Sequence[str]
    rows: Vector
    left: list[int] = field(default_factory=list)
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return not self.left or self.error is not None


class Batching:
    """An embedder that threads share. No thread of its own: one of those that wait embeds a batch for all of them, then the next does.

    A batch takes `batch` characters, as the embedder says. Half of it is the oldest caller's, so that none starves; the rest goes to those
    with the fewest texts left, so that a short document, or a question, is through before a long document that came first.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.size = embedder.name, embedder.size
        self._embedder: Any = embedder
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._running = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed(self, texts: Sequence[str]) -> Vector:
        """One row per text. Raises what the embedder raises on these texts, whoever else's stood beside them."""
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        asked = _Asked(texts, np.empty((len(texts), self.size), dtype=np.float32), order)
        if order:
            self._wait(asked)
        if asked.error is not None:
            raise asked.error
        return asked.rows

    def _wait(self, asked: _Asked) -> None:
        with self._changed:
            self._waiting.append(asked)
            try:
                while not asked.done:
                    if self._running:
                        self._changed.wait()
                    else:
                        self._lead()
            finally:
                self._waiting.remove(asked)

    def _lead(self) -> None:
        """Embed one batch for all who wait. Called with the lock held, which is let go meanwhile."""
        chosen = self._chosen()
        self._running = True
        self._changed.release()
        try:
            self._run(chosen)
        finally:
            self._changed.acquire()
            self._running = False
            self._changed.notify_all()

    def _chosen(self) -> list[tuple[_Asked, list[int]]]:
        """Whose texts are next, and which; at least one."""
        waiting = [asked for asked in self._waiting if not asked.done]
        batch = int(self._embedder.batch)
        oldest = waiting[0]
        chosen = {id(oldest): (oldest, _first(oldest, 0, batch // 2))}
        room = batch - _length(chosen[id(oldest)])
        for asked in sorted(waiting[1:], key=lambda asked: len(asked.left)):
            if room <= 0:
                break
            chosen[id(asked)] = (asked, _first(asked, 0, room))
            room -= _length(chosen[id(asked)])
        if room > 0:
            mine = chosen[id(oldest)][1]
            mine += _first(oldest, len(mine), room, least=0)
        return list(chosen.values())

    def _run(self, chosen: Sequence[tuple[_Asked, list[int]]]) -> None:
        """One call for all; if it fails, one for each, so that nobody suffers for another's text."""
        each = sorted(((asked, number) for asked, numbers in chosen for number in numbers), key=lambda pair: len(pair[0].texts[pair[1]]))
        try:
            rows = self._embedder.embed([asked.texts[number] for asked, number in each])
            for (asked, number), row in zip(each, rows, strict=True):
                asked.rows[number] = row
        except Exception as error:
            if len(chosen) == 1:
                chosen[0][0].error = error
                return
            for one in chosen:
                self._run([one])
            return
        for asked, numbers in chosen:
            gone = set(numbers)
            asked.left = [number for number in asked.left if number not in gone]


def shared(embedder: Embedder) -> Embedder:
    """The embedder, its rows checked, fit to be asked by many threads at once: one that says how large its batches are (`batch`) gets
    them so."""
    if isinstance(embedder, Batching):
        return embedder
    sound = checked(embedder)
    return Batching(sound) if hasattr(embedder, "batch") else sound


def _first(asked: _Asked, begin: int, room: int, least: int = 1) -> list[int]:
    """The next texts, from the `begin`-th on, that fit into so many characters; not fewer than `least`."""
    found: list[int] = []
    for number in asked.left[begin:]:
        room -= len(asked.texts[number])
        if room < 0 and len(found) >= least:
            break
        found.append(number)
    return found


def _length(chosen: tuple[_Asked, list[int]]) -> int:
    asked, numbers = chosen
    return sum(len(asked.texts[number]) for number in numbers)
