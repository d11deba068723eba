"""A counting flow in a cluster: shared.py HOME NUMBER ADDRESSES LAST. Five parts hand out 1 … LAST each; printed with a count.

It kills itself (`kill -9`) at half of 100, so that a life with LAST 100 leaves a store in the middle of its work.
"""

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax._bytewax import cluster_main
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from headwater.flows.recovery import Recovery

HALF, KILLED = 50, 100


class Part(StatefulSourcePartition[tuple[str, int], int]):
    def __init__(self, name: str, reached: int, last: int) -> None:
        self._name, self._reached, self._last = name, reached, last

    def next_batch(self) -> list[tuple[str, int]]:
        if self._reached == self._last:
            raise StopIteration
        if self._last == KILLED and self._reached == HALF:
            os.kill(os.getpid(), signal.SIGKILL)
        self._reached += 1
        return [(self._name, self._reached)]

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=2)

    def snapshot(self) -> int:
        return self._reached


class Source(FixedPartitionedSource[tuple[str, int], int]):
    def __init__(self, last: int) -> None:
        self._last = last

    def list_parts(self) -> list[str]:
        return list("abcde")

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Part:
        return Part(for_part, resume_state or 0, self._last)


class Printed(DynamicSink[Any], StatelessSinkPartition[Any]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> "Printed":
        return self

    def write_batch(self, items: list[Any]) -> None:
        os.write(1, b"".join(b"%s %d %d\n" % (name.encode(), number, count) for name, (number, count) in items))


def run(home: Path, process: int, addresses: list[str], last: int) -> None:
    flow = Dataflow("shared")
    stream = op.input("in", flow, Source(last))
    counted = op.stateful_map("count", stream, lambda count, number: ((count or 0) + 1, (number, (count or 0) + 1)))
    op.output("out", counted, Printed())
    config = Recovery(home, "shared", "b", process=process, addresses=addresses).config
    cluster_main(flow, addresses, process, epoch_interval=timedelta(seconds=0.02), recovery_config=config, worker_count_per_proc=2)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(), int(sys.argv[4]))
