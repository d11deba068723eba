"""The lineage of a stopped headwater, from its file. What asks a running one does without the database's library."""

from pathlib import Path

import polars as pl

from headwater.lineage.ask import ask
from headwater.lineage.client import Closing, frame_of
from headwater.lineage.errors import NotFound
from headwater.lineage.guard import reading
from headwater.lineage.seen import Why
from headwater.lineage.store import open_database
from headwater.lineage.why import why


class File(Closing):
    """The lineage file of a stopped headwater, opened read-only."""

    def __init__(self, path: Path, time_limit_s: float) -> None:
        if not path.is_file():
            raise NotFound(f"no lineage file at {path}: give the one in the home of `headwater up`, or the address of a running headwater")
        self._connection = open_database(path, read_only=True)
        self._time_limit_s = time_limit_s

    def sql(self, query: str) -> pl.DataFrame:
        with reading(self._connection, query, time_limit_s=self._time_limit_s) as reader:
            return frame_of(reader.read_all())

    def why(self, id: str) -> Why:
        return why(self._connection, id)

    def ask(self, question: str, *ids: str) -> pl.DataFrame:
        return ask(self._connection, question, *ids)

    def close(self) -> None:
        self._connection.close()
