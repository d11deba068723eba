"""The state of the engine's threads."""

import threading
from datetime import timedelta

import bytewax.operators as op
import pytest
from bytewax._bytewax import cluster_main
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.testing import TestingSink

from headwater.flows import source
from headwater.flows.records import RecordSink
from headwater.flows.source import TopicSource
from headwater.flows.thread_state import keep_thread_state

LOOKS = 20


class Counting(DynamicSource[int]):
    """Numbers, one at each look: between two looks the engine lets go of the interpreter."""

    def __init__(self, begin):
        self._begin = begin

    def build(self, step_id, worker_index, worker_count):
        self._begin(step_id, worker_index, worker_count)
        return _Numbers()


class _Numbers(StatelessSourcePartition[int]):
    def __init__(self):
        self._left = LOOKS

    def next_batch(self):
        if not self._left:
            raise StopIteration
        self._left -= 1
        return [self._left]


def _remembered(begin) -> int:
    """In how many looks a thread remembered the look before."""
    here, found = threading.local(), []

    def look(number):
        found.append(getattr(here, "last", None) == number + 1)
        here.last = number
        return number

    flow = Dataflow("counting")
    numbers = op.input("numbers", flow, Counting(begin))
    op.output("out", op.map("look", numbers, look), TestingSink([]))
    thread = threading.Thread(target=cluster_main, args=(flow, [], 0), kwargs={"epoch_interval": timedelta(seconds=1)})
    thread.start()
    thread.join(30)
    return sum(found)


@pytest.mark.parametrize(
    "begin",
    [
        lambda *_: keep_thread_state(),
        lambda *at: RecordSink("x", None).asking().build(*at),
        lambda *_: TopicSource(None, "broker", {}, "group").build_part("read", "0", None),
    ],
    ids=["kept", "records", "topics"],
)
def test_a_thread_of_the_engine_remembers(begin, monkeypatch):
    """Once kept, the state of an engine's thread outlives each call into Python; our sources keep it."""
    monkeypatch.setattr(source, "Slot", lambda *_: None)
    assert _remembered(begin) == LOOKS - 1


def test_else_it_forgets():
    """Without, the engine's threads forget between two calls: when this fails, keeping has become needless."""
    assert _remembered(lambda *_: None) == 0
