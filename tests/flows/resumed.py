"""A small flow that is killed: resumed.py HOME LIFE cut|uncut. Each event of key `k` is printed with the state that it meets.

Its source hands out 1, 2, … 20, one in each epoch; 5 and 15 are of the key `k`, whose state is the last event it met. What each life does:
    first   at 15 it waits for a line of input, for whoever started it makes ready to kill it
    idle    it hands out nothing, is in a few epochs that change nothing, and kills itself
    last    runs to the end
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax._bytewax import run_main
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

import headwater.flows.recovery as recovery

LAST, MARKED, EMPTY = 20, 15, 10


class Part(StatefulSourcePartition[tuple[str, int], int]):
    def __init__(self, reached: int, hands_out: bool) -> None:
        self._reached, self._hands_out, self._polls = reached, hands_out, 0

    def next_batch(self) -> list[tuple[str, int]]:
        self._polls += 1
        if not self._hands_out:
            if self._polls > EMPTY:
                os.kill(os.getpid(), signal.SIGKILL)
            return []
        if self._reached == LAST:
            raise StopIteration
        self._reached += 1
        return [("k" if self._reached % 10 == 5 else "other", self._reached)]

    def snapshot(self) -> int:
        return self._reached


class Source(FixedPartitionedSource[tuple[str, int], int]):
    def __init__(self, hands_out: bool) -> None:
        self._hands_out = hands_out

    def list_parts(self) -> list[str]:
        return ["part"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Part:
        return Part(resume_state or 0, self._hands_out)


class Nowhere(DynamicSink[Any]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:
        return Nothing()


class Nothing(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        pass


def last(marked: Callable[[], object]) -> Callable[[int | None, int], tuple[int, int]]:
    """The state: the last event. `marked` is called when `MARKED` has come."""

    def step(state: int | None, event: int) -> tuple[int, int]:
        if event % 10 == 5:
            print(event, state or 0, flush=True)
        if event == MARKED:
            marked()
        return event, event

    return step


def run(home: Path, life: str, cut: bool) -> None:
    recovery.PARTITIONS = 4  # how far it is lies in another file than the state of `k`
    if not cut:
        recovery._cut = lambda path: None
    flow = Dataflow("small")
    stream = op.input("in", flow, Source(hands_out=life != "idle"))
    kept = op.stateful_map("last", stream, last(sys.stdin.readline if life == "first" else str))
    op.output("out", kept, Nowhere())
    run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery.Recovery(home, "small", "b").config)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "cut")
