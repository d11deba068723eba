"""What a part of a flow raises is told, whichever part it is, and the engine still gets it."""

from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, FixedPartitionedSink, StatefulSinkPartition, StatelessSinkPartition
from bytewax.testing import TestingSource, cluster_main

from headwater.flows.guard import guarded


class Logic(StatefulBatchLogic[int, int, None]):
    """Passes items on, and raises where it is told to."""

    def __init__(self, at: str) -> None:
        self.at = at

    def on_batch(self, values: list[int]) -> tuple[list[int], bool]:
        _raise(self.at == "on_batch")
        return values, False

    def snapshot(self) -> None:
        return None


class Sink(FixedPartitionedSink[Any, None]):
    """Its partitions raise, or their making does."""

    def __init__(self, at: str) -> None:
        self.at = at

    def list_parts(self) -> list[str]:
        return ["one"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "Part":
        _raise(self.at == "build_part")
        return Part(self.at)


class Part(StatefulSinkPartition[Any, None]):
    def __init__(self, at: str) -> None:
        self.at = at

    def write_batch(self, values: list[Any]) -> None:
        _raise(self.at == "write_batch")

    def snapshot(self) -> None:
        _raise(self.at == "snapshot")


class Loose(DynamicSink[Any]):
    """The other kind of sink."""

    def __init__(self, at: str) -> None:
        self.at = at

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "LoosePart":
        return LoosePart(self.at)


class LoosePart(StatelessSinkPartition[Any]):
    def __init__(self, at: str) -> None:
        self.at = at

    def write_batch(self, values: list[Any]) -> None:
        _raise(self.at == "loose")


def _raise(now: bool) -> None:
    if now:
        raise OSError("here it broke")


def _flow(at: str) -> Dataflow:
    flow = Dataflow("guarded")
    numbers = op.input("numbers", flow, TestingSource([1, 2, 3]))

    def step(values: list[int]) -> list[int]:
        _raise(at == "mapper")
        return values

    stream = op.flat_map_batch("step", numbers, step)
    stream = op.map("map", stream, lambda value: 1 / 0 if at == "map" else value)
    keyed = op.stateful_batch("logic", op.key_on("key", stream, lambda _: "k"), lambda resume: Logic(at))
    op.output("out", keyed, Sink(at))
    op.output("loose", keyed, Loose(at))
    return flow


@pytest.mark.parametrize("at", ["mapper", "map", "on_batch", "build_part", "write_batch", "snapshot", "loose"])
def test_what_any_part_raises_is_told(at):
    """The error itself is told once at its place, and the flow ends by it as it would without."""
    told: list[BaseException] = []
    with pytest.raises(Exception):  # noqa: B017 - the engine wraps it in what it likes
        cluster_main(guarded(_flow(at), told.append), [], 0)
    assert isinstance(told[0], ZeroDivisionError if at == "map" else OSError)
    assert len({id(error) for error in told}) == 1


def test_a_flow_that_does_well_tells_nothing():
    """A guarded flow does what it did."""
    told: list[BaseException] = []
    cluster_main(guarded(_flow("nowhere"), told.append), [], 0)
    assert told == []
