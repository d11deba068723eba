"""The Kafka source and sink over a real socket: nothing lost, nothing doubled, every offset accounted for."""

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Callable

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from headwater.flows.broker import Broker
from headwater.flows.drain import drain, end_of
from headwater.flows.recovery import EPOCH, Recovery
from headwater.flows.sink import Outgoing, TopicSink, Writer
from headwater.flows.source import EAGER, TopicSource

PATIENCE_S = 60.0


def message(topic: str, number: int, partition: int = -1) -> Outgoing:
    return Outgoing(topic, str(number).encode(), f'{{"n":{number}}}'.encode(), [("ce_id", str(number).encode())], partition)


def read(source: TopicSource, recovery: Recovery | None = None, until: Callable[[list], bool] | None = None) -> list:
    """What the source hands on until its end, or until that is true of it."""
    out: list = []
    flow = Dataflow("read")
    if until is not None:
        threading.Thread(target=_stop, args=(source, lambda: until(list(out))), daemon=True).start()
    op.output("out", op.input("in", flow, source), TestingSink(out))
    run_main(flow, epoch_interval=EPOCH, recovery_config=recovery.config if recovery else None)
    return out


def _stop(source: TopicSource, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    source.stop.set()


def numbers(batches) -> list[int]:
    return [int(m.headers[0][1]) for batch in batches for m in batch.plain()]


def test_every_message_is_read_once_and_told(kafka, name):
    """With an end, the source reads every message once, and its consumed runs hold exactly those offsets."""
    kafka.create({name: 3})
    Writer(kafka, "b").write(message(name, n) for n in range(2000))
    batches = read(TopicSource(kafka, "b", {name: 3}, name, end=True, batch=97))
    assert sorted(numbers(batches)) == list(range(2000))
    runs = [r for batch in batches for r in batch.records("f", 0)]
    assert {r.kind for r in runs} == {"consumed"}
    assert sum(r.count for r in runs) == 2000
    for partition in range(3):
        mine = sorted((r.first, r.next) for r in runs if r.partition == partition)
        assert mine[0][0] == 0
        assert all(a[1] == b[0] for a, b in itertools.pairwise(mine))


def test_a_stopped_source_goes_on_where_it_was(kafka, name, tmp_path):
    """Stop and start over one recovery store: every message once, in order per partition."""
    kafka.create({name: 2})
    writer = Writer(kafka, "b")
    seen = []
    for life in range(3):
        writer.write(message(name, n) for n in range(life * 100, life * 100 + 100))
        recovery = Recovery(tmp_path, "f", "b")
        source = TopicSource(kafka, "b", {name: 2}, name, batch=10)
        due = 300 - len(seen) if life == 2 else 50  # but in the last life it stops somewhere in the middle
        seen += numbers(read(source, recovery, lambda out, due=due: len(numbers(out)) >= due))
        recovery.close()
    assert sorted(seen) == list(range(300))


def test_where_a_source_begins(kafka, name):
    """earliest, latest and a time each begin where they say."""
    kafka.create({name: 1})
    writer = Writer(kafka, "b")
    writer.write(message(name, n) for n in range(10))
    time.sleep(0.05)
    middle = time.time_ns() // 1000
    time.sleep(0.05)
    writer.write(message(name, n) for n in range(10, 20))
    assert numbers(read(TopicSource(kafka, "b", {name: 1}, name, end=True))) == list(range(20))
    assert numbers(read(TopicSource(kafka, "b", {name: 1}, name, start="latest", end=True))) == []
    assert numbers(read(TopicSource(kafka, "b", {name: 1}, name, start=middle, end=True))) == list(range(10, 20))
    assert end_of(kafka, name, 0) == 20


def test_offsets_that_do_not_exist_are_told(kafka, name):
    """Transaction markers take offsets: the source tells each as absent, and consumed ∪ absent has no hole."""
    kafka.create({name: 1})
    producer = kafka.producer(transactional_id=name, message_timeout_ms=20_000)
    producer.init_transactions(60)
    for n in range(5):
        producer.begin_transaction()
        producer.produce(name, b"{}", headers=[("ce_id", str(n).encode())])
        producer.commit_transaction(60)
    batches = read(TopicSource(kafka, "b", {name: 1}, name, end=True))
    told = sorted((r.first, r.next) for batch in batches for r in batch.records("f", 0))
    assert numbers(batches) == list(range(5))
    assert told[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(told))
    assert {"consumed", "absent"} == {r.kind for batch in batches for r in batch.records("f", 0)}


def test_idle_slots_look_at_the_same_moments(kafka, name):
    """However many slots own nothing or find nothing, they ask to be woken at whole hundredths of a second, the same for all."""
    kafka.create({name: 2})
    source = TopicSource(kafka, "b", {name: 2}, name)
    parts = [source.build_part("in", slot, None) for slot in source.list_parts()]
    for _ in range(EAGER + 1):
        assert [batch for part in parts for batch in part.next_batch()] == []
    moments = [part.next_awake().timestamp() * 100 for part in parts]
    for part in parts:
        part.close()
    assert len(parts) == 64 and all(abs(moment - round(moment)) < 0.001 for moment in moments)


@pytest.mark.parametrize("gated", [0, 1])
def test_a_closed_gate_pauses_its_partition_only(kafka, name, gated):
    """A source pauses by demand: the gated partition waits, the other goes on, nothing is lost when it opens."""
    kafka.create({name: 2})
    Writer(kafka, "b").write(message(name, n, n % 2) for n in range(200))
    opened = threading.Event()

    def all_read(out: list) -> bool:
        """The gate opens once the other partition is read."""
        if len(numbers(out)) >= 100:
            opened.set()
        return len(numbers(out)) >= 200

    source = TopicSource(kafka, "b", {name: 2}, name, gate=lambda t, p: p != gated or opened.is_set())
    order = numbers(read(source, until=all_read))
    assert sorted(order) == list(range(200))
    assert all(n % 2 != gated for n in order[:100])


def test_a_paused_broker_loses_nothing(tmp_path, name):
    """The broker stands still during writes and goes on: every message is there once."""
    with Broker(tmp_path / "log") as broker:
        kafka = broker.kafka
        kafka.create({name: 2})
        writer = Writer(kafka, broker.id)
        flow = Dataflow("write")
        stream = op.input("in", flow, TestingSource(range(3000), batch_size=50))
        op.output("out", op.map("message", stream, lambda n: message(name, n)), TopicSink(writer))
        pausing = threading.Thread(target=_pause, args=(broker,))
        pausing.start()
        run_main(flow)
        pausing.join()
        found = [int(m.headers[0][1]) for p in range(2) for m in drain(kafka, name, p, 0)]
    assert sorted(found) == list(range(3000))


def _pause(broker: Broker) -> None:
    for _ in range(3):
        time.sleep(0.1)
        broker.process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        broker.process.send_signal(signal.SIGCONT)


def test_the_sink_keeps_the_partition_asked_for(kafka, name):
    """An explicit partition is honoured, and the position answered is where the message lies."""
    kafka.create({name: 3})
    positions = Writer(kafka, "b").write(message(name, n, 2) for n in range(30))
    assert {p.partition for p in positions} == {2}
    assert [int(m.headers[0][1]) for m in drain(kafka, name, 2, 0)] == [n for n, _ in enumerate(positions)]


def test_the_broker_dies_with_its_parent(tmp_path):
    """Killed with -9, a parent leaves no broker behind."""
    import os
    import subprocess
    import sys

    code = "import sys,time; from headwater.flows.broker import Broker; b=Broker(); print(b.process.pid,flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if not _alive(pid):
            return
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    raise AssertionError("the broker outlived its parent")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
