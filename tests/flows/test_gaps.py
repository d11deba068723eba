"""Gaps at the embedded broker: what it shows late is read all the same, in order, and nothing counts as absent that comes to lie there."""

import time

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater import Latest, Topic
from headwater.flows import drain as drain_module
from headwater.flows import reader as reader_module
from headwater.flows.broker import Broker
from headwater.flows.gaps import SETTLE_S, doubtful
from headwater.flows.kafka import EMBEDDED
from headwater.flows.meter import Meter
from headwater.flows.sink import outgoing
from headwater.flows.source import TopicSource
from headwater.flows.tables import Tables
from headwater.lineage.event import Event

_WAIT, _LATE = st.just(0) | st.floats(0, 3), st.floats(0, SETTLE_S * 0.9)
LOG = st.lists(st.tuples(st.sampled_from(["message", "marker"]), _WAIT, _LATE), min_size=1, max_size=25)
"""What lies at each offset, when it got that offset, and how much later it is stored, seconds."""


class Asked(BaseModel):
    gauge: str


class Gauge(Asked):
    river: str


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Told:
    def __init__(self, offset, code=None):
        self._offset, self._code = offset, code

    def error(self):
        return None if self._code is None else KafkaError(self._code)

    def topic(self):
        return "t"

    def partition(self):
        return 0

    def offset(self):
        return self._offset

    def timestamp(self):
        return (1, 0)

    def key(self):
        return None

    value = headers = key


class Late:
    """The broker's door and a consumer in one, over a log whose batches are there to read from some moment each, in any order."""

    def __init__(self, log, clock):
        begun, self._log = 1000.0, []
        for kind, wait, late in log:
            begun += wait * SETTLE_S
            self._log.append((kind, begun, begun + late))
        self._clock, self._position, self._ends = clock, 0, True
        self.over = self._log[-1][1] + 5 * SETTLE_S

    def consumer(self, group, isolation_level=None):
        self.isolation = isolation_level
        return self

    def told(self, error):
        return error.str()

    def embedded(self):
        return True

    def get_watermark_offsets(self, place, timeout):
        """The end counts what has an offset, stored or not."""
        return (0, sum(begun <= self._clock.monotonic() for _, begun, _ in self._log))

    def assign(self, places):
        self.seek(places[0])

    def seek(self, place):
        self._position, self._ends = max(0, place.offset), True

    def close(self):
        pass

    def commit(self, **more):
        pass

    def begun(self, offset):
        return self._log[offset][1]

    def stored(self, now):
        return [n for n, (kind, _, stored) in enumerate(self._log) if kind == "message" and stored <= now]

    def consume(self, many, timeout):
        """All that is stored from here on, whatever is missing between; the end, once each time it is reached."""
        now = self._clock.monotonic()
        found = [n for n in self.stored(now) if n >= self._position]
        lies = [n for n, (_, _, stored) in enumerate(self._log) if stored <= now and n >= self._position]
        self._ends |= bool(lies)
        self._position = max([self._position, *(n + 1 for n in lies)])
        told = [Told(n) for n in found]
        if self._ends:
            self._ends = False
            told.append(Told(self._position, KafkaError._PARTITION_EOF))
        return told


@given(log=LOG, steps=st.lists(st.floats(0.01, 1.5), min_size=1, max_size=12))
def test_nothing_that_came_late_is_missed(log, steps):
    """Law 1: whatever is stored out of turn is handed on once, in order, before its place counts as absent, and no end is told over it."""
    clock, ends = Clock(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "time", clock)
        broker = Late(log, clock)
        at_end = lambda topic, partition, offset, age: ends.append((clock.now - age, offset))  # noqa: E731
        source = TopicSource(broker, f"{EMBEDDED}x", {"t": 1}, "g", slots=None, at_end=at_end)
        part, got, at = source.build_part("step", "t/0", {("t", 0): 0}), [], 0
        while clock.now < broker.over:
            for batch in part.next_batch():
                got += [offset for first, next in batch.runs for offset in range(first, next)]
            clock.now += steps[at % len(steps)] * SETTLE_S
            at += 1
    assert broker.isolation == "read_uncommitted"
    assert got == [n for n, (kind, *_) in enumerate(log) if kind == "message"]
    for asked, offset in ends:
        assert all(n < offset for n in broker.stored(asked))


@given(log=LOG, begins=st.integers(0, 24), after=st.floats(0, SETTLE_S))
def test_what_commands_read_misses_nothing_either(log, begins, after):
    """Law 1: reading a partition to its end gives all that was stored when it began, in order, and leaves nothing out before its last."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drain_module, "time", clock)
        broker = Late(log, clock)
        clock.now = broker.begun(begins % len(log)) + after
        there = broker.stored(clock.now)
        got = [message.offset for message in drain_module.scan(broker, "t", 0, 0)]
    whole = [n for n, (kind, *_) in enumerate(log) if kind == "message"]
    assert got == whole[: len(got)]
    assert set(there) <= set(got)


def test_gaps_of_other_brokers_are_believed():
    """A broker that stores before it shows is read without a second look."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "time", clock)
        source = TopicSource(Late([("message", 0, 0), ("marker", 0, 0), ("message", 0, 0)], clock), "b", {"t": 1}, "g", slots=None)
        part = source.build_part("step", "t/0", {("t", 0): 0})
        assert [batch.runs for batch in part.next_batch()] == [[(0, 1), (2, 3)]]


@given(offsets=st.sets(st.integers(0, 40), min_size=1), reached=st.integers(0, 40), sure=st.integers(0, 45))
def test_the_first_doubtful_message_follows_a_gap_not_seen_before(offsets, reached, sure):
    """Against its definition: the first message that is not the one expected, and lies where nobody looked twice."""
    messages = [Told(offset) for offset in sorted(offset + reached for offset in offsets)]
    expected = [reached, *(message.offset() + 1 for message in messages)]
    wanted = [n for n, message in enumerate(messages) if message.offset() != expected[n] and message.offset() >= sure]
    assert doubtful(messages, reached, sure) == (wanted[0] if wanted else None)


def _row(topic, model, n):
    event = Event(id=f"row-{n}", source="test", type="t", time=n, data=topic.encode(model))
    return outgoing(topic.name, event, topic.key_of(model))


class LateTable(Late):
    """A log of rows of a look-up topic, on the machine's clock; `late` says how many seconds after its start each is there."""

    def __init__(self, rows, late):
        super().__init__([("message", 0, 0)] * len(rows), time)
        begun = time.monotonic()
        self._rows, self._log = rows, [("message", begun, begun + each) for each in late]

    def consumer(self, group):
        return self

    def consume(self, many, timeout):
        time.sleep(0.005)
        return [self._told(told) for told in Late.consume(self, many, timeout)]

    def _told(self, told):
        if told.error() is None:
            row = self._rows[told.offset()]
            told.key, told.value, told.headers = (lambda: row.key), (lambda: row.value), (lambda: row.headers)
        return told

    def close(self):
        pass


def test_look_ups_take_in_what_came_late():
    """Rows of a look-up topic that the embedded broker shows after later ones are known all the same, also gap after gap."""
    gauges, latest = ("pier", "lock", "weir", "ford"), Latest(Topic("t", Gauge, key="gauge"), on="gauge")
    rows = [_row(latest.topic, Gauge(gauge=gauge, river="Rhine"), n) for n, gauge in enumerate(gauges)]
    tables = Tables(LateTable(rows, (SETTLE_S * 0.5, 0, SETTLE_S * 1.6, SETTLE_S * 0.9)), f"{EMBEDDED}x", [latest], Meter())
    until = time.monotonic() + 60
    while (rivers := [latest.facts(Asked(gauge=gauge), 10**12)["river"] for gauge in gauges]) != ["Rhine"] * 4:
        assert time.monotonic() < until, rivers
        time.sleep(0.01)
    tables.close()


def test_ends_of_transactions_hold_nothing_up_for_ever():
    """With the real broker: all of a topic that transactions wrote to is read in order, its markers told as absent."""
    with Broker() as broker:
        broker.kafka.create({"t": 1})
        producer = broker.kafka.producer(transactional_id="x", linger_ms=0)
        producer.init_transactions(60)
        for _ in range(5):
            producer.begin_transaction()
            for _ in range(2):
                producer.produce("t", b"{}", partition=0)
            producer.commit_transaction(60)
        source = TopicSource(broker.kafka, broker.id, {"t": 1}, "g", slots=None)
        part, runs, absent = source.build_part("step", "t/0", None), [], []
        while not runs or runs[-1][1] < 14:
            for batch in part.next_batch():
                runs += batch.runs
                absent += batch.absent
        part.close()
    assert runs == [(n, n + 2) for n in range(0, 15, 3)]
    assert absent == [(n, n + 1) for n in range(2, 12, 3)]
