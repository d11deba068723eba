"""Generations of an index: one that answers, and at most one beside it that a rebuild fills. Which one answers changes in one step."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Protocol

from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.engine import Index, Storage
from headwater.lineage.errors import Misused


class Generations(Protocol):
    """Where the generations of one index lie. Raises Unavailable where the engine does not answer."""

    def current(self, size: int) -> Index:
        """Open the one that answers, made on first use. It keeps the vector size it was made with, whatever is asked now."""
        ...

    def beside(self, size: int) -> Index:
        """Open the one that a rebuild fills, made on first use."""
        ...

    def begun(self) -> bool:
        """Whether there is one that a rebuild fills."""
        ...

    def turn(self, size: int) -> None:
        """From now on the one beside, with vectors of this size, is the one that answers, also after a kill."""
        ...

    def drop(self) -> None:
        """Remove every one but the one that answers; no process may have one of them open."""
        ...


class EdgeGenerations:
    """Folders `index`, `index-2`, … of the embedded engine; the file `index.json` names the one that answers, once there were two."""

    def __init__(self, first: Path, storage: Storage = Storage()) -> None:
        self._first = first
        self._storage = storage

    @property
    def folder(self) -> Path:
        """Of the one that answers."""
        return self._folder(self._pointer()[0])

    def current(self, size: int) -> Index:
        number, known = self._pointer()
        if known is None:
            self._point(number, size)
        return EdgeIndex(self._folder(number), known or size, self._storage)

    def beside(self, size: int) -> Index:
        return EdgeIndex(self._folder(self._pointer()[0] + 1), size, self._storage)

    def begun(self) -> bool:
        return self._folder(self._pointer()[0] + 1).is_dir()

    def turn(self, size: int) -> None:
        self._point(self._pointer()[0] + 1, size)

    def drop(self) -> None:
        kept, named = self.folder, re.compile(re.escape(self._first.name) + r"(-[0-9]+)?")
        for folder in self._first.parent.glob(f"{self._first.name}*"):
            if folder.is_dir() and named.fullmatch(folder.name) and folder != kept:
                shutil.rmtree(folder)

    @property
    def _file(self) -> Path:
        return self._first.with_name(f"{self._first.name}.json")

    def _folder(self, number: int) -> Path:
        return self._first if number == 1 else self._first.with_name(f"{self._first.name}-{number}")

    def _pointer(self) -> tuple[int, int | None]:
        """The number of the one that answers, and the size of its vectors; None: not known yet. Raises Misused."""
        try:
            told = json.loads(self._file.read_text())
            return int(told["generation"]), int(told["size"])
        except FileNotFoundError:
            return 1, None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Misused(f"{self._file} cannot be read ({error}); it says which of the folders beside it is the index") from None

    def _point(self, number: int, size: int) -> None:
        """Written whole or not at all, and on the disk before anything rests on it."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_name(f"{self._file.name}.new")
        with new.open("w") as file:
            file.write(json.dumps({"generation": number, "size": size}))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)
