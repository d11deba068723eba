"""deep: what `audit verify --deep` compares. The messages as they lie on the broker, against what lineage says of their positions.

Pure but for the database: `flows/deep.py` reads the topics and hands messages on in offset order, a piece at a time.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import duckdb

from headwater.lineage.ranges import Ranges

Connection = duckdb.DuckDBPyConnection


class Seen(NamedTuple):
    """What of a message is compared: its offset, and the id that it should be known by, if it says any.

    kin  of a message on the ladder: the position it was moved from;  run  the process that wrote it
    """

    offset: int
    id: str | None
    kin: str = ""
    run: str = ""


class Lane:
    """One partition that flows consumed, compared with its messages.

    `low` is the oldest offset that is still there: what lies below was taken by retention and cannot be compared. Of a `compacted` topic
    any message may be gone.
    """

    def __init__(self, cursor: Connection, broker: str, topic: str, partition: int, low: int, *, compacted: bool = False) -> None:
        self._where = (broker, topic, partition)
        self._name = f"{topic}/{partition}"
        self._cursor, self._low, self._compacted = cursor, low, compacted
        self._consumed = self._ranges("consumed")
        self._absent = self._ranges("absent")
        self._there = Ranges()

    def compare(self, piece: Sequence[Seen]) -> Iterator[str]:
        """Offences of the next messages in offset order: consumed where they should be, and known by the ids they have."""
        if not piece:
            return
        for seen in piece:
            self._there.add(seen.offset, seen.offset + 1)
        for flow, consumed in self._consumed.items():
            reach = max((following for _, following in consumed), default=0)
            for seen in piece:
                if seen.offset < reach and not consumed.overlap(seen.offset, seen.offset + 1):
                    said = "says that no message is there" if self._is_absent(flow, seen.offset) else "knows nothing of it"
                    yield f"flow {flow}, {self._name}@{seen.offset}: a message lies there, but lineage {said}"
        yield from self._named_wrongly(piece)

    def finish(self) -> Iterator[str]:
        """Offences that only the whole shows: positions consumed where no message lies."""
        for flow, consumed in () if self._compacted else self._consumed.items():
            for first, following in consumed:
                for begin, end in self._there.missing(max(first, self._low), following):
                    where = f"{self._name}@{begin}" + ("" if end == begin + 1 else f" to {end - 1}")
                    yield f"flow {flow}, {where}: consumed, but no message lies there"

    def _is_absent(self, flow: str, offset: int) -> bool:
        ranges = self._absent.get(flow)
        return ranges is not None and ranges.overlap(offset, offset + 1) > 0

    def _named_wrongly(self, piece: Sequence[Seen]) -> Iterator[str]:
        """Documents and dead letters tell the event they are of: it must be the one that lies there."""
        ids = {seen.offset: seen.id for seen in piece}
        query = (
            "SELECT kind, \"first\", data->>'$.event' FROM records WHERE kind IN ('document', 'dead_letter') "
            'AND broker = ? AND topic = ? AND "partition" = ? AND "first" BETWEEN ? AND ? ORDER BY "first", seq'
        )
        for kind, offset, event in self._cursor.execute(query, [*self._where, piece[0].offset, piece[-1].offset]).fetchall():
            what = kind.replace("_", " ")
            if offset not in ids and not self._compacted:
                yield f"{self._name}@{offset}: a {what} is recorded, but no message lies there"
            elif event is not None and ids.get(offset) not in (None, event):
                yield f"{self._name}@{offset}: the {what} recorded is of event {event}, but event {ids[offset]} lies there"

    def _ranges(self, kind: str) -> dict[str, Ranges]:
        place = 'kind = ? AND broker = ? AND topic = ? AND "partition" = ?'
        query = f'SELECT flow, "first", "next" FROM records WHERE {place} ORDER BY flow, "first"'
        found: dict[str, Ranges] = {}
        for flow, first, following in self._cursor.execute(query, [kind, *self._where]).fetchall():
            found.setdefault(flow, Ranges()).add(first, following)
        return found


class Ids:
    """Messages that are known by an id of their own, such as activations and dead letters, compared with the records of a kind."""

    def __init__(self, cursor: Connection, broker: str, kind: str) -> None:
        self._cursor, self._kind, self._broker = cursor, kind, broker
        self._cursor.execute("CREATE OR REPLACE TEMP TABLE deep_seen (id VARCHAR, run VARCHAR, place VARCHAR)")

    def compare(self, topic: str, partition: int, piece: Sequence[Seen]) -> None:
        """Take the next messages."""
        rows: list[Any] = [(seen.id, seen.run, f"{topic}/{partition}@{seen.offset}") for seen in piece if seen.id is not None]
        if rows:
            self._cursor.executemany("INSERT INTO deep_seen VALUES (?, ?, ?)", rows)

    def finish(self, *, whole: bool, limit: int) -> Iterator[str]:
        """Offences of messages without record, records without message (`whole`: no message was lost to retention), and doubled ones."""
        what = self._kind.replace("_", " ")
        place = "starts_with(parents[1], $broker || '/')"
        unknown = """
            SELECT s.place, s.id FROM deep_seen s WHERE NOT EXISTS (FROM records r WHERE r.kind = $kind AND r.ref = s.id)
            ORDER BY 1 LIMIT $limit"""
        for where, id in self._cursor.execute(unknown, {"kind": self._kind, "limit": limit}).fetchall():
            yield f"{where}: {what} {id} lies there, but is not recorded"
        doubled = "SELECT id, min(place), max(place) FROM deep_seen WHERE run <> '' GROUP BY id, run HAVING count(*) > 1 ORDER BY 2 LIMIT ?"
        for id, first, second in self._cursor.execute(doubled, [limit]).fetchall():
            yield f"{second}: one run wrote {what} {id} twice, here and at {first}"
        if whole:
            missing = f"""
                SELECT DISTINCT flow, ref FROM records r WHERE kind = $kind AND {place} AND ref NOT IN (SELECT id FROM deep_seen)
                ORDER BY ALL LIMIT $limit"""
            given = {"kind": self._kind, "broker": self._broker, "limit": limit}
            for flow, id in self._cursor.execute(missing, given).fetchall():
                yield f"flow {flow}: {what} {id} is recorded, but its message lies nowhere"


class Rungs:
    """Messages of the ladder, compared with the positions that moved."""

    def __init__(self, cursor: Connection, broker: str) -> None:
        self._cursor, self._broker = cursor, broker
        self._cursor.execute("CREATE OR REPLACE TEMP TABLE deep_rungs (place VARCHAR, token VARCHAR, kin VARCHAR, run VARCHAR)")

    def compare(self, topic: str, partition: int, piece: Sequence[Seen]) -> None:
        """Take the next messages of a rung."""
        rows = [
            (f"{topic}/{partition}@{seen.offset}", f"{self._broker}/{topic}/{partition}/{seen.offset}", seen.kin, seen.run)
            for seen in piece
            if seen.kin
        ]
        if rows:
            self._cursor.executemany("INSERT INTO deep_rungs VALUES (?, ?, ?, ?)", rows)

    def finish(self, *, whole: bool, limit: int) -> Iterator[str]:
        """Offences of messages that one run moved here twice, or that stand for a position which never ended, and of moves without one."""
        doubled = "SELECT kin, min(place), max(place) FROM deep_rungs GROUP BY kin, run HAVING count(*) > 1 ORDER BY 2 LIMIT ?"
        for kin, first, second in self._cursor.execute(doubled, [limit]).fetchall():
            yield f"{second}: one run moved {kin} twice, here and to {first}"
        stray = """
            WITH came AS (SELECT *, string_split(kin, '/') AS p FROM deep_rungs)
            SELECT place, kin FROM came WHERE NOT EXISTS (
                FROM records r WHERE r.kind = 'outcome' AND r.flow = 'index' AND r.broker = p[1] AND r.topic = p[2]
                    AND r."partition" = try_cast(p[3] AS INTEGER) AND r."first" <= try_cast(p[4] AS BIGINT)
                    AND r."next" > try_cast(p[4] AS BIGINT))
            ORDER BY place LIMIT ?"""
        for where, kin in self._cursor.execute(stray, [limit]).fetchall():
            yield f"{where}: {kin} was moved here, but lineage knows no end of it there"
        if whole:
            missing = """
                SELECT flow, topic, "partition", "first", ref FROM records WHERE kind = 'outcome' AND outcome = 'moved' AND broker = ?
                    AND ref NOT IN (SELECT token FROM deep_rungs) ORDER BY ALL LIMIT ?"""
            for flow, topic, partition, first, ref in self._cursor.execute(missing, [self._broker, limit]).fetchall():
                yield f"flow {flow}, {topic}/{partition}@{first}: it moved to {ref}, where no message lies"


def lanes(cursor: Connection, broker: str) -> list[tuple[str, int]]:
    """Every (topic, partition) that flows consumed in a broker's life."""
    query = "SELECT DISTINCT topic, \"partition\" FROM records WHERE kind = 'consumed' AND broker = ? ORDER BY ALL"
    return [(str(topic), int(partition)) for topic, partition in cursor.execute(query, [broker]).fetchall()]
