"""The test bed that benchmarks share: a broker of their own, a folder of their own, one size for all."""

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from headwater.flows.broker import Broker
from headwater.flows.kafka import Kafka
from headwater.flows.sink import Writer
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.topic import LINEAGE


class Spoiled(HeadwaterError):
    """A round did not do what it was to be measured for; its time means nothing."""

    cause = "spoiled"


class Bed:
    """Opened on first use, gone at the end. `scale` shrinks every amount, for tests of the benchmarks themselves.

    points  how many the benchmark `search` looks among; None: as many as its target names
    """

    def __init__(self, scale: float = 1.0, points: int | None = None) -> None:
        self.scale, self.points = scale, points
        self._open = ExitStack()
        self._folders = 0
        self._filled: dict[str, int] = {}

    def many(self, full: int, least: int = 1) -> int:
        return max(least, int(full * self.scale))

    @cached_property
    def folder(self) -> Path:
        return Path(self._open.enter_context(TemporaryDirectory(prefix="headwater-bench-")))

    def home(self) -> Path:
        """A new folder."""
        self._folders += 1
        path = self.folder / str(self._folders)
        path.mkdir()
        return path

    @cached_property
    def broker(self) -> Broker:
        broker = self._open.enter_context(Broker(self.folder / "broker.log"))
        broker.kafka.create({LINEAGE: 1})
        return broker

    @property
    def kafka(self) -> Kafka:
        return self.broker.kafka

    @cached_property
    def writer(self) -> Writer:
        writer = Writer(self.kafka, self.broker.id)
        self._open.callback(writer.close)
        return writer

    def filled(self, topic: str, partitions: int, count: int, fill: Callable[[int], None]) -> None:
        """See to it, once, that a topic holds its messages."""
        if self._filled.setdefault(topic, 0) != count:
            self.kafka.create({topic: partitions})
            fill(count)
            self._filled[topic] = count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()


def now() -> int:
    """µs since 1970."""
    return time.time_ns() // 1000


def seconds(act: Callable[[], object]) -> float:
    """How long it takes, with the garbage of what came before out of the way."""
    gc.collect()
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def demand(found: object, wanted: object, what: str) -> None:
    """A figure counts only if the work was done. Raises Spoiled."""
    if found != wanted:
        raise Spoiled(f"{what}: {found} where {wanted} were to be: the round measured something else")


class Count(DynamicSink[Any]):
    """A sink that keeps nothing but the count of what came, each item `size(item)` strong."""

    def __init__(self, size: Callable[[Any], int] = lambda item: 1) -> None:
        self.count = 0
        self.size = size

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Counting":
        return _Counting(self)


class _Counting(StatelessSinkPartition[Any]):
    def __init__(self, sink: Count) -> None:
        self._sink = sink

    def write_batch(self, items: list[Any]) -> None:
        self._sink.count += sum(map(self._sink.size, items))
