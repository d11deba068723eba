"""What the bench `recovery` reads: ten thousand water meters, their levels as state of a rule, their reports as documents.

The first pass over all meters makes the state, a hundred more are what lies behind. Every meter reports in the first pass and once later.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headwater.agents.rules import Threshold
from headwater.enrichers.document import Document, document
from headwater.enrichers.engine import Vector
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import App
from headwater.flows.sink import Outgoing, outgoing
from headwater.lineage.decode import MARK
from headwater.lineage.duration import parse_time
from headwater.lineage.event import Event
from headwater.lineage.topic import Topic

PASSES = 100
"""Events of each meter behind the first pass."""
PARTITIONS = 4
SIZE = 384
START = parse_time("2031-01-01T00:00:00Z")
PASS_US = 600_000_000
"""Event time from pass to pass."""
RULE = "floods"


class Level(msgspec.Struct, frozen=True):
    """One measurement. `report`: it is to be found by people."""

    id: str
    meter: str
    litres: float
    report: bool


METERS: Topic[Level] = Topic("bench-meters", Level, key="meter", partitions=PARTITIONS)
FLOODS = Threshold(
    RULE, of=METERS, per="meter", value=pl.col("litres"), stat="max", within="30m", each="thing", opens_at=90.0, closes_at=86.0
)


@document(METERS)
def report(level: Level, facts: Mapping[str, Any]) -> Document | None:
    """What a meter reported; of other measurements there is nothing to say."""
    return Document(level.meter, text(level), {"litres": level.litres}) if level.report else None


def level(number: int, meters: int) -> Level:
    """The measurement of this number, always the same. Two in a thousand are floods, in the last pass a tenth; one in a hundred reports."""
    turn, meter = divmod(number, meters)
    chance = zlib.crc32(b"%d" % number) % 1000
    litres = 95.0 if chance < 2 or (turn == PASSES and meter % 10 == 0) else chance % 80 + 5.0
    return Level(f"level-{number}", f"meter-{meter:05d}", litres, turn == 0 or turn == 1 + meter % PASSES)


def text(level: Level) -> str:
    return f"{level.meter} stands at {level.litres} litres in {level.id}"


def events(numbers: range, meters: int) -> Iterator[Outgoing]:
    """Their messages, each meter on a partition of its own choice."""
    for number in numbers:
        one = level(number, meters)
        at = START + number * PASS_US // meters
        event = Event(id=one.id, source="/bench", type=METERS.name, time=at, data=METERS.encode(one))
        yield outgoing(METERS.name, event, one.meter, zlib.crc32(one.meter.encode()) % PARTITIONS)


def marks() -> list[Outgoing]:
    """The end of the last pass, on every partition: the rules then have seen all, and still remember every meter."""
    last = START + (1 + PASSES) * PASS_US
    ends = (Event(id=f"mark-{p}", source="/bench", type=MARK, time=last, subject="") for p in range(PARTITIONS))
    return [outgoing(METERS.name, end, end.id, p) for p, end in enumerate(ends)]


def app(root: Path) -> App:
    return App("bench-recovery", documents=[report], triggers=[FLOODS], root=root)


class Prepared:
    """Vectors that were made beforehand and lie in a file, a row for each report in the order of their numbers."""

    name, size = "prepared", SIZE

    def __init__(self, path: Path, texts: Sequence[str]) -> None:
        self._rows: Vector = np.load(path, mmap_mode="r")
        self._at = {words: row for row, words in enumerate(texts)}
        self._others = HashEmbedder(SIZE)

    def embed(self, texts: Sequence[str]) -> Vector:
        rows = [self._rows[self._at[words]] if words in self._at else self._others.embed([words])[0] for words in texts]
        made: Vector = np.array(rows, dtype=np.float32).reshape(len(texts), SIZE)
        return made


def texts(meters: int) -> list[str]:
    """The texts of all reports, by number."""
    later = sorted((1 + meter % PASSES) * meters + meter for meter in range(meters))
    return [text(level(number, meters)) for number in (*range(meters), *later)]


def prepare(path: Path, meters: int) -> None:
    """Make the vectors of all reports."""
    np.save(path, HashEmbedder(SIZE).embed(texts(meters)))
