"""What the events say should be in an index: each document's head, folded anew. Kept in a file, for there may be many."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from headwater.enrichers.head import Change, Head, fold


class Truth:
    """Heads by document, in a temporary file. Of an unsure document it is only known that its events are not all settled."""

    def __init__(self, file: Path, history_us: int) -> None:
        self._rows = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._history_us = history_us
        for pragma in ("journal_mode = off", "synchronous = off"):
            self._rows.execute(f"pragma {pragma}")
        self._rows.execute("create table heads (document text primary key, head blob, unsure int not null) without rowid")

    def learn(self, changes: Sequence[Change], *, unsure: bool = False) -> None:
        """Take what events say, in any order."""
        said: dict[str, list[Change]] = {}
        for change in changes:
            said.setdefault(change.document, []).append(change)
        known = self._read(list(said))
        rows = []
        for document, each in said.items():
            head, doubted = known.get(document, (None, False))
            folded = fold(head, each, self._history_us).head
            rows.append((document, msgspec.msgpack.encode(folded), doubted or unsure))
        self._rows.execute("begin")
        self._rows.executemany("insert or replace into heads values (?, ?, ?)", rows)
        self._rows.execute("commit")

    def heads(self, documents: Sequence[str]) -> dict[str, Head | None]:
        """Those that are known; None: unsure."""
        return {document: None if unsure else head for document, (head, unsure) in self._read(documents).items()}

    def pages(self, size: int) -> Iterator[list[str]]:
        """All documents, in order."""
        last = ""
        while page := [row[0] for row in self._rows.execute(
            "select document from heads where document > ? order by document limit ?", (last, size)
        )]:  # fmt: skip
            yield page
            last = page[-1]

    def count(self) -> tuple[int, int]:
        """How many documents, and how many of them are unsure."""
        count, unsure = self._rows.execute("select count(*), coalesce(sum(unsure), 0) from heads").fetchone()
        return int(count), int(unsure)

    def close(self) -> None:
        self._rows.close()

    def _read(self, documents: Sequence[str]) -> dict[str, tuple[Head, bool]]:
        found: dict[str, tuple[Head, bool]] = {}
        for start in range(0, len(documents), 500):
            piece = documents[start : start + 500]
            marks = ", ".join("?" * len(piece))
            query = f"select document, head, unsure from heads where document in ({marks})"  # noqa: S608
            for document, head, unsure in self._rows.execute(query, piece):
                found[document] = msgspec.msgpack.decode(head, type=Head), bool(unsure)
        return found
