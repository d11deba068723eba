"""Records on their way to the lineage topic: acknowledged before their epoch is kept, or the flow ends and tells them again."""

import threading
import time
from functools import partial

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, FixedPartitionedSource, StatefulSourcePartition, StatelessSourcePartition
from bytewax.testing import TestingSource, cluster_main, run_main
from confluent_kafka import KafkaError

from headwater.flows.broker import Broker
from headwater.flows.drain import drain
from headwater.flows.records import RUNS_HELD, RecordSink
from headwater.flows.recovery import EPOCH, Recovery
from headwater.flows.sink import Outgoing, Sending, Writer
from headwater.lineage.errors import Oversized, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.message import decode_batch
from headwater.lineage.ranges import Ranges
from headwater.lineage.record import Record, fact, run_of
from headwater.lineage.topic import LINEAGE


class Delivery:
    """What a client hands to a delivery callback."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return LINEAGE

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


class Client:
    """A producer in memory: `flush` acknowledges what was produced, in order, as long as `answers`; `fails` names deliveries that fail."""

    def __init__(self, fails: frozenset[int] = frozenset()) -> None:
        self.produced: list[bytes] = []
        self.acknowledged = 0
        self.answers, self.fails, self.full = True, fails, 0
        self._waiting: list = []

    def produce(self, topic, value, key, headers=None, on_delivery=None, **more) -> None:
        if self.full:
            self.full -= 1
            raise BufferError
        self._waiting.append((len(self.produced), on_delivery))
        self.produced.append(value)

    def poll(self, timeout: float) -> int:
        return 0

    def flush(self, timeout: float) -> int:
        while self.answers and self._waiting:
            number, on_delivery = self._waiting.pop(0)
            failed = number in self.fails
            self.acknowledged += not failed
            on_delivery(KafkaError(KafkaError._MSG_TIMED_OUT) if failed else None, Delivery(number))
        return len(self._waiting)


class Place:
    """As much of `Kafka` as a writer looks at."""

    largest = 100_000

    def told(self, error):
        return error.str()


def writer(client: Client, **more) -> Writer:
    return Writer(Place(), "b", producer=client, **more)


def message(number: int, size: int = 10) -> Outgoing:
    return Outgoing(LINEAGE, b"f", str(number).encode().ljust(size), [])


def consumed(first: int, following: int) -> Record:
    return run_of("consumed", "f", Position("b", "t", 0, first), following, following - first, 0)


def note(number: int) -> Record:
    return fact("note", "f", "s", str(number), logged=number)


def found(values) -> list[Record]:
    return [record for value in values for record in decode_batch(value)]


def test_sending_does_not_wait_and_settling_does():
    """`send` hands on without an acknowledgement; after `settle` all are acknowledged, told, and in the order in which they were sent."""
    client, told = Client(), []
    sending = Sending(writer(client, told=told.extend))
    for number in range(100):
        sending.send([message(number)])
    assert client.acknowledged == 0
    assert [int(value) for value in client.produced] == list(range(100))
    sending.settle()
    assert client.acknowledged == 100
    assert [position.offset for position in told] == list(range(100))


class Shared(Client):
    """A producer that others write with as well, without a pause: it is never empty, so that `flush` takes all the time it is given."""

    waited = 0.0

    def flush(self, timeout: float) -> int:
        self.waited += timeout
        return super().flush(timeout) + 1


def test_nobody_waits_for_what_others_send():
    """A write, and a sender that settles, is done soon after its own messages are acknowledged, however much others have on their way."""
    client = Shared()
    assert len(writer(client).write([message(1)])) == 1
    sending = Sending(writer(client))
    sending.send([message(2)])
    sending.settle()
    assert client.acknowledged == 2 and client.waited < 0.05


def test_what_is_on_its_way_is_bounded():
    """Beyond its bound `send` waits for acknowledgements: memory is bounded, however long an epoch lasts."""
    client = Client()
    sending = Sending(writer(client), most=10_000)
    for number in range(200):
        sending.send([message(number, 1000)])
        assert sum(map(len, client.produced[client.acknowledged :])) <= 10_000
    assert len(client.produced) == 200


def test_a_failed_delivery_is_raised_and_stays():
    """A delivery that failed is raised by settling, and by whatever is tried after it: such an epoch is never kept."""
    sending = Sending(writer(Client(frozenset({3}))))
    sending.send([message(number) for number in range(6)])
    for act in (sending.settle, lambda: sending.send([message(7)]), sending.settle):
        with pytest.raises(Unavailable, match="refused"):
            act()


def test_a_message_too_large_is_refused_before_anything_is_produced():
    """What cannot be sent is named at once; nothing of the same call is sent without it."""
    client = Client()
    with pytest.raises(Oversized):
        Sending(writer(client)).send([message(1), message(2, Place.largest)])
    assert client.produced == []


@pytest.mark.parametrize("full", [False, True])
def test_told_to_stop_a_wait_ends(full, monkeypatch):
    """A broker that answers nothing is waited for until the flow is told to stop; then what is open is an error, never taken for sent."""
    monkeypatch.setattr("headwater.flows.sink.PATIENCE_S", 0.5)
    client, stop = Client(), threading.Event()
    client.answers = False
    client.full = 1_000_000 if full else 0
    stop.set()
    sending = Sending(writer(client, stop=stop))
    if not full:
        sending.send([message(1)])
    with pytest.raises(Unavailable, match="told to stop"):
        (partial(sending.send, [message(1)]) if full else sending.settle)()


def test_a_full_queue_is_waited_for():
    """The client's queue is full for a while: the message is sent when there is room again."""
    client = Client()
    client.full = 5
    sending = Sending(writer(client))
    sending.send([message(1)])
    sending.settle()
    assert client.acknowledged == 1


def part(client: Client):
    sink = RecordSink("f", writer(client))
    return sink.build_part("s", "00", None)


def test_ranges_wait_for_the_end_of_the_epoch():
    """Ranges alone travel when the epoch ends, as one; by then they are acknowledged."""
    client = Client()
    lane = part(client)
    for first in range(0, 500, 5):
        lane.write_batch([[consumed(first, first + 5)]])
    assert client.produced == []
    lane.snapshot()
    assert client.acknowledged == len(client.produced) == 1
    assert [(r.first, r.next, r.count) for r in found(client.produced)] == [(0, 500, 500)]


def test_ranges_travel_with_the_next_fact():
    """A fact is sent at once, after what was read until then and before how it ended."""
    client = Client()
    lane = part(client)
    ended = run_of("outcome", "f", Position("b", "t", 0, 0), 5, 5, 0, "passed")
    lane.write_batch([[ended], [consumed(0, 5)], [note(1)]])
    assert [record.kind for record in found(client.produced)] == ["consumed", "note", "outcome"]
    assert client.acknowledged == 0
    lane.snapshot()
    assert client.acknowledged == 1


def test_scattered_ranges_are_not_held_without_bound():
    """Ranges that never touch are sent when there are many of them, not held until the epoch ends."""
    client = Client()
    lane = part(client)
    lane.write_batch([[consumed(2 * n, 2 * n + 1) for n in range(RUNS_HELD + 1)]])
    assert len(found(client.produced)) == RUNS_HELD + 1


def test_an_epoch_whose_records_failed_does_not_end():
    """The delivery failed after the flow went on: the end of the epoch raises. Closing never does: a second error would end the process."""
    lane = part(Client(frozenset({0})))
    lane.write_batch([[note(1)]])
    with pytest.raises(Unavailable):
        lane.snapshot()
    lane.close()


class Numbers(FixedPartitionedSource):
    """Numbers below `end`, one each time; the state is the next. `seen` keeps what the last snapshot of each epoch said."""

    def __init__(self, end: int, rest: float = 0.0) -> None:
        self.end, self.rest, self.starts = end, rest, []

    def list_parts(self) -> list[str]:
        return ["0"]

    def build_part(self, step_id, for_part, resume_state):
        self.starts.append(resume_state or 0)
        return _Numbers(self, resume_state or 0)


class _Numbers(StatefulSourcePartition):
    def __init__(self, source: Numbers, start: int) -> None:
        self.source, self.number = source, start

    def next_batch(self) -> list[int]:
        if self.number >= self.source.end:
            raise StopIteration
        time.sleep(self.source.rest)
        self.number += 1
        return [self.number - 1]

    def snapshot(self) -> int:
        return self.number


def tell(source, sink: RecordSink, record=note) -> Dataflow:
    flow = Dataflow("tell")
    records = op.map("record", op.input("in", flow, source), lambda number: [record(number)])
    op.output("lineage", op.flat_map_batch("slot", records, sink.keyed), sink)
    return flow


def test_a_failing_delivery_ends_the_flow_and_its_epoch_is_told_again(tmp_path):
    """A delivery fails: it is raised out of the flow, and the next life tells again all that was not acknowledged. Nothing is lost."""
    recovery = Recovery(tmp_path, "tell", "b")
    failing = Client(frozenset({40}))
    lives = Numbers(60, rest=0.03)
    with pytest.raises(BaseException):  # noqa: B017  (the engine wraps what was raised)
        run_main(tell(lives, RecordSink("f", writer(failing))), epoch_interval=EPOCH, recovery_config=recovery.config)
    mended = Client()
    run_main(tell(lives, RecordSink("f", writer(mended))), epoch_interval=EPOCH, recovery_config=recovery.config)
    recovery.close()
    first_life = [int(record.ref) for record in found(failing.produced)]
    second_life = [int(record.ref) for record in found(mended.produced)]
    assert lives.starts[1] <= 40
    assert 40 in second_life
    safe = {number for number in first_life if number != 40}
    assert safe | set(second_life) == set(range(60))


def test_a_snapshot_never_runs_ahead_of_acknowledgements(tmp_path):
    """The broker falls silent: no epoch is kept beyond what it acknowledged, however much was handed to the client."""
    recovery = Recovery(tmp_path, "tell", "b")
    client, stop = Client(), threading.Event()
    source = Numbers(10_000, rest=0.01)

    def silence() -> None:
        while client.acknowledged < 50:
            time.sleep(0.01)
        client.answers = False
        stop.set()

    watching = threading.Thread(target=silence)
    watching.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headwater.flows.sink.PATIENCE_S", 0.5)
        with pytest.raises(BaseException):  # noqa: B017
            run_main(tell(source, RecordSink("f", writer(client, stop=stop))), epoch_interval=EPOCH, recovery_config=recovery.config)
    watching.join()
    kept = client.acknowledged
    source.end = 0
    run_main(tell(source, RecordSink("f", writer(Client()))), epoch_interval=EPOCH, recovery_config=recovery.config)
    recovery.close()
    assert 0 < source.starts[1] <= kept


def test_a_broker_that_stands_still_loses_no_record(tmp_path):
    """The broker is stopped and goes on, again and again: every record lands once, in order."""
    import signal

    with Broker(tmp_path / "log") as broker:
        broker.kafka.create({LINEAGE: 1})

        def pause() -> None:
            for _ in range(3):
                time.sleep(0.1)
                broker.process.send_signal(signal.SIGSTOP)
                time.sleep(0.4)
                broker.process.send_signal(signal.SIGCONT)

        pausing = threading.Thread(target=pause)
        pausing.start()
        sink = RecordSink("f", Writer(broker.kafka, broker.id))
        run_main(tell(TestingSource(range(3000), batch_size=50), sink), epoch_interval=EPOCH)
        pausing.join()
        landed = found(message.value for message in drain(broker.kafka, LINEAGE, 0, 0))
    assert [int(record.ref) for record in landed] == list(range(3000))


def test_several_workers_lose_nothing():
    """With two workers each record is written once, whichever of them comes to write it."""
    client = Client()
    sink = RecordSink("f", writer(client))
    cluster_main(tell(TestingSource(range(500), batch_size=5), sink), [], 0, epoch_interval=EPOCH, worker_count_per_proc=2)
    assert sorted(int(record.ref) for record in found(client.produced)) == list(range(500))


class Pairs(DynamicSource):
    """In each worker numbers of its own: first all are told as read, then, one by one, how they ended."""

    def __init__(self, sink: RecordSink, many: int) -> None:
        self.sink, self.many = sink, many

    def build(self, step_id, worker_index, worker_count):
        return _Pairs(self, worker_index * self.many)


class _Pairs(StatelessSourcePartition):
    def __init__(self, source: Pairs, first: int) -> None:
        end = first + source.many
        where = Position("b", "t", 0, first)
        ends = [run_of("outcome", "f", where._replace(offset=n), n + 1, 1, 0, "acted", ref=f"decision {n}") for n in range(first, end)]
        self.sink, self.records = source.sink, [consumed(first, end), *ends]

    def next_batch(self):
        if not self.records:
            raise StopIteration
        return [[self.records.pop(0)]] if self.sink.placed() else []


def test_each_worker_tells_in_its_own_order_from_its_first_record_on():
    """Once a worker has a slot of its own nothing it tells is passed by anything it tells later, not even ranges, which wait."""
    client = Client()
    sink = RecordSink("f", writer(client))
    flow = Dataflow("tell")
    told = op.merge("told", op.input("slots", flow, sink.asking()), op.input("in", flow, Pairs(sink, 50)))
    op.output("lineage", op.flat_map_batch("slot", told, sink.keyed), sink)
    cluster_main(flow, [], 0, epoch_interval=EPOCH, worker_count_per_proc=3)
    read = Ranges()
    for record in found(client.produced):
        if record.kind == "consumed":
            read.add(record.first, record.next)
        else:
            assert not read.missing(record.first, record.next)
    assert len(read) == 150
