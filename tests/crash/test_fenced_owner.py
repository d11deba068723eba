"""An owner stopped in the midst of a commit, for longer than its lease: another takes its place; once it wakes it ends (law 2)."""

import signal

import pytest
from crash.left import ACTIVATIONS_ENDED, all_decided, all_effects, finish
from crash.points import Step
from crash.stream import PARTITIONS, marks, readings

from headwater.flows.broker import Broker
from headwater.flows.drain import drain
from headwater.flows.sink import Writer
from headwater.lineage.topic import REVIEWS


@pytest.mark.parametrize("n", [5, pytest.param(7, marks=pytest.mark.long), pytest.param(12, marks=pytest.mark.long)])
def test_a_fenced_owner_ends_and_says_so(n, start, tmp_path):
    """Stopped with a transaction filled and open; a second process decides all. Woken, the first ends with an error; all is done once."""
    with Broker(id="crash") as broker:
        broker.kafka.create(PARTITIONS)
        first = start(tmp_path / "first", broker.address, replay=True, steps=[Step("journal: written", n, "stop")])
        first.ready()
        Writer(broker.kafka, broker.id).write([*readings(), *marks()])
        first.until(lambda: first.process.stands)
        second = start(tmp_path / "second", broker.address, replay=True)
        second.until(lambda: second.ready() and second.sql(ACTIVATIONS_ENDED))
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait() == 1, first.standing()
        assert "has another owner now" in first.said
        finish(second, broker.kafka)
        messages = {topic: [m for p in range(many) for m in drain(broker.kafka, topic, p, 0, HOW)] for topic, many in PARTITIONS.items()}
    decided = all_decided(messages["headwater.decisions"])
    assert len(decided) > 30
    all_effects([*messages["alarms"], *messages["notes"], *messages[REVIEWS]], decided)


HOW = "read_uncommitted"
"""The embedded broker shows everybody what was never committed: effects of a stopped owner may lie there twice, but under one id."""
