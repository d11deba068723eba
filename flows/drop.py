"""Dropped files: every row of a file that appears in a folder becomes an event. The declaration; `dropping` does it."""

import glob
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from headwater.flows.foreign import Convert, check
from headwater.flows.rows import FORMATS
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.select import NORMAL
from headwater.lineage.topic import Topic


@dataclass(frozen=True, eq=False)
class Drop:
    """A folder that files are put into: `Drop("inbox/*.csv", into=readings)`. JSON, lines of JSON, CSV (with a header) and Parquet.

    pattern  a folder, relative to the application file, and a glob within it. Links out of it, hidden files and `.part`, `.tmp` are left
    into     the topic;  model, as_  how a row becomes its data, as for Webhook. Columns are the fields' names (aliases, with a model)
    time     the column with the event time; None: when it was read
    settle   a file is taken once it has not changed for so long
    name     names it in origins; None: the folder's name
    """

    pattern: str
    _: KW_ONLY
    into: Topic[Any]
    model: type[Any] | None = None
    as_: Convert | None = None
    time: str | None = None
    settle: str = "2s"
    name: str = ""
    priority: str = NORMAL

    def __post_init__(self) -> None:
        folder, within = self.split
        object.__setattr__(self, "name", self.name or folder.name or "drop")
        what = f"drop {self.pattern!r}"
        check(what, self.into, self.model, self.priority)
        if ".." in Path(self.pattern).parts or not within:
            raise Misused(f"{what}: name a folder and a pattern of files in it, such as inbox/*.csv, without ..")
        suffix = Path(within).suffix
        if suffix not in FORMATS and not glob.has_magic(suffix or within):
            raise Misused(f"{what}: {suffix or 'no suffix'} is none of {', '.join(FORMATS)}")
        duration(self.settle)

    @property
    def origin(self) -> str:
        return f"drop/{self.name}"

    @property
    def split(self) -> tuple[Path, str]:
        """The folder, and the pattern within it."""
        parts = Path(self.pattern).parts
        fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
        return Path(*parts[:fixed]), "/".join(parts[fixed:])

    def files(self, root: Path) -> Iterator[Path]:
        """The files to look at, those inside the folder only."""
        folder, within = self.split
        inside = (root / folder).resolve()
        for path in sorted(inside.glob(within)):
            hidden = path.name.startswith(".") or path.suffix in (".part", ".tmp")
            if not hidden and path.suffix in FORMATS and not path.is_symlink() and path.is_file() and path.resolve().is_relative_to(inside):
                yield path
