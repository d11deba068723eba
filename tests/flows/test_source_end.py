"""The end of a partition: librdkafka tells it once, so the source must not forget it."""

import pytest
from confluent_kafka import KafkaError

from headwater.flows import reader as reader_module
from headwater.flows.reader import ASK_S, TRUST_S
from headwater.flows.source import TopicSource


class Clock:
    """What the source reads instead of the machine's clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reader_module, "time", clock)
    return clock


class Told:
    """A message, or with `code` an event of the client, as confluent-kafka hands them over."""

    def __init__(self, offset: int, code: int | None = None, partition: int = 0) -> None:
        self._offset, self._code, self._partition = offset, code, partition

    def error(self):
        return None if self._code is None else KafkaError(self._code)

    def topic(self):
        return "t"

    def partition(self):
        return self._partition

    def offset(self):
        return self._offset

    def timestamp(self):
        return (1, 0)


class Scripted:
    """A broker's door and its consumer in one: every poll hands over the next list."""

    def __init__(self, polls: list[list[Told]]) -> None:
        self._polls = polls
        self.sought: list[tuple[int, int]] = []

    def consumer(self, group: str):
        return self

    def told(self, error: KafkaError) -> str:
        return str(error.str())

    def get_watermark_offsets(self, place, timeout):
        return (0, 0)

    def assign(self, places):
        pass

    def seek(self, place):
        self.sought.append((place.partition, place.offset))

    def consume(self, many, timeout):
        return self._polls.pop(0) if self._polls else []


def part(polls, **options):
    source = TopicSource(Scripted(polls), "b", {"t": 1}, "g", slots=None, **options)
    return source.build_part("step", "t/0", None)


def end(offset: int, partition: int = 0) -> Told:
    return Told(offset, KafkaError._PARTITION_EOF, partition)


class Standing:
    """A source over a script, and at which offsets it said that it stands at an end."""

    def __init__(self, polls: list[list[Told]], partitions: int = 1, **options) -> None:
        self.broker = Scripted(polls)
        self.told: list[tuple[int, int]] = []
        self.begun: list[tuple[int, int]] = []
        source = TopicSource(
            self.broker, "b", {"t": partitions}, "g", slots=1,
            begun=lambda topic, partition, offset: self.begun.append((partition, offset)),
            at_end=lambda topic, partition, offset, age: self.told.append((partition, offset)), **options,
        )  # fmt: skip
        self.part = source.build_part("step", "0", {("t", 0): 5})

    def poll(self, *polls: list[Told]) -> list[tuple[int, int]]:
        """What it tells of ends in these polls, or in one that finds nothing."""
        self.told.clear()
        self.broker._polls += polls
        for _ in range(len(polls) or 1):
            self.part.next_batch()
        return list(self.told)


def test_an_end_told_with_the_last_messages_counts():
    """Last messages and the end in one poll: a finite replay ends, instead of waiting for an end that is not told again."""
    reading = part([[Told(0), Told(1), end(2)]], end=True)
    assert [batch.next for batch in reading.next_batch()] == [2]
    try:
        reading.next_batch()
    except StopIteration:
        return
    raise AssertionError("the source goes on after its end")


def test_an_end_that_was_passed_no_longer_counts():
    """Messages behind a former end: the partition stands at its end again only when that is told anew."""
    ends: list[int] = []
    reading = part([[end(1)], [Told(1), Told(2)], [], [end(3)], []], at_end=lambda topic, partition, offset, age: ends.append(offset))
    for _ in range(3):
        reading.next_batch()
    assert ends == []
    for _ in range(2):
        reading.next_batch()
    assert set(ends) == {3}


def test_where_a_source_begins_is_told():
    """The offset a part resumes from, or begins at, is told before anything is read."""
    assert Standing([], partitions=2).begun == [(0, 5), (1, 0)]


def test_an_end_is_told_at_our_own_offset(clock):
    """Between the last message and the broker's end lie transaction markers: all that can be read was, and that is what is told."""
    assert Standing([[Told(5), Told(6)], [end(9)]]).poll([], [], []) == [(0, 7)]


def test_an_end_of_one_partition_is_told_while_another_is_busy(clock):
    """A silent partition's end is told whatever the others do; but not after a poll that may have left messages behind."""
    standing = Standing([[end(5), end(0, 1)]], partitions=2, batch=3)
    standing.poll()
    assert standing.poll([Told(0, partition=1)]) == [(0, 5)]
    assert standing.poll([Told(1, partition=1), Told(2, partition=1), Told(3, partition=1)]) == []


def test_an_end_is_asked_for_again_and_believed_for_a_moment_only(clock):
    """The client tells an end once. Asked where it stands it tells it anew; while no answer comes the end is believed no longer."""
    standing = Standing([[end(5)]])
    standing.poll()
    assert standing.poll() == [(0, 5)]
    clock.now += ASK_S + 0.01
    assert standing.poll() == [(0, 5)]
    assert standing.broker.sought == [(0, 5)]
    clock.now += TRUST_S
    assert standing.poll() == []
    assert standing.broker.sought == [(0, 5)]
    standing.poll([end(5)])  # the answer was long on its way: true of the moment it was asked for, and too old by now
    assert standing.poll() == []
    assert standing.broker.sought == [(0, 5), (0, 5)]
    standing.poll([end(5)])
    assert standing.poll() == [(0, 5)]


def test_after_a_stall_the_old_end_is_not_told(clock):
    """A process that stood still and wakes up with an empty queue does not claim to be at the end before the broker said so."""
    standing = Standing([[end(5)]])
    assert standing.poll([], []) == [(0, 5)]
    clock.now += 8
    assert standing.poll() == []
    assert standing.poll([Told(5), Told(6), end(7)]) == []
    assert standing.broker.sought == [(0, 5)]


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN])
def test_an_end_is_forgotten_with_the_broker_and_told_again_after(clock, code):
    """Cut off from its broker, a source knows of no end; back again, it asks, and tells it once more."""
    standing = Standing([[end(5)]])
    standing.poll()
    assert standing.poll([Told(0, code)]) == []
    assert standing.poll() == []
    clock.now += ASK_S + 0.01
    assert standing.poll() == []
    assert standing.broker.sought == [(0, 5)]
    assert standing.poll([Told(0, code)]) == []  # cut off with the question still open: it is asked anew
    clock.now += ASK_S + 0.01
    assert standing.poll() == []
    assert standing.broker.sought == [(0, 5), (0, 5)]
    standing.poll([end(5)])
    assert standing.poll() == [(0, 5)]
