"""What a reader makes of its client's errors: each in its place, the others go on, and nothing is told at every poll."""

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException

from headwater.flows import reader as reader_module
from headwater.flows.reader import MEND_S, QUIET_S
from headwater.flows.source import Slot, TopicSource
from headwater.lineage.errors import Unavailable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Told:
    """A message, or with `code` an event of the client."""

    def __init__(self, offset: int, code: int | None = None, partition: int = 0, topic: str | None = "t") -> None:
        self._offset, self._code, self._partition, self._topic = offset, code, partition, topic

    def error(self):
        return None if self._code is None else KafkaError(self._code, "told")

    def topic(self):
        return self._topic

    def partition(self):
        return self._partition

    def offset(self):
        return self._offset

    def timestamp(self):
        return (1, 0)


class Scripted:
    """A broker's door and its consumer in one: every poll hands over the next list; `oldest` and `end` are its watermarks."""

    def __init__(self) -> None:
        self.polls: list[list[Told]] = []
        self.sought: list[tuple[int, int]] = []
        self.oldest, self.end, self.answers = 0, 100, True

    def consumer(self, group):
        return self

    def told(self, error):
        return error.str()

    def get_watermark_offsets(self, place, timeout):
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return (self.oldest, self.end)

    def assign(self, places):
        pass

    def seek(self, place):
        self.sought.append((place.partition, place.offset))

    def consume(self, many, timeout):
        return self.polls.pop(0) if self.polls else []


class Watch:
    """Where a source tells what stands in the way."""

    revision = 0

    def __init__(self) -> None:
        self.faults: list[tuple[str, str]] = []

    def places(self, names):
        return [("t", 0), ("t", 1)]

    def start_of(self, place):
        return None

    def fault(self, topic, told):
        self.faults.append((topic, told))


class Bench:
    """A slot with both partitions, read from offset 5 on."""

    def __init__(self, monkeypatch) -> None:
        self.clock, self.broker, self.watch = Clock(), Scripted(), Watch()
        monkeypatch.setattr(reader_module, "time", self.clock)
        source = TopicSource(self.broker, "b", {"t": 2}, "g", slots=1, watch=self.watch)
        self.slot = Slot(source, "0", {("t", 0): 5, ("t", 1): 5})

    def poll(self, *messages: Told) -> list[tuple[int, list[tuple[int, int]], list[tuple[int, int]]]]:
        self.broker.polls.append(list(messages))
        return [(batch.partition, batch.runs, batch.absent) for batch in self.slot.next_batch()]


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


def test_what_retention_overtook_is_a_loss_that_is_told(bench):
    """The reader goes on at the oldest offset there is; what lies between shows as absent; the other partition is read meanwhile."""
    bench.broker.oldest = 40
    assert bench.poll(Told(-1, KafkaError._AUTO_OFFSET_RESET), Told(5, partition=1)) == [(1, [(5, 6)], [])]
    assert bench.poll() == []
    assert bench.broker.sought == [(0, 40)]
    assert bench.poll(Told(40), Told(41)) == [(0, [(40, 42)], [(5, 40)])]


def test_while_the_oldest_offset_is_not_known_it_is_asked_for_again(bench):
    """A broker that does not answer is asked again after a while, not at every poll; the other partition is read meanwhile."""
    bench.broker.answers, bench.broker.oldest = False, 40
    bench.poll(Told(-1, KafkaError.OFFSET_OUT_OF_RANGE))
    bench.poll()
    bench.broker.answers = True
    assert bench.poll(Told(5, partition=1)) == [(1, [(5, 6)], [])]
    assert bench.broker.sought == []
    bench.clock.now += MEND_S
    bench.poll()
    assert bench.broker.sought == [(0, 40)]


def test_a_topic_made_anew_is_told_and_left_alone(bench):
    """It ends before what was read: going on anywhere would be wrong, so that partition waits for somebody, and the other goes on."""
    bench.broker.end = 3
    bench.poll(Told(-1, KafkaError._AUTO_OFFSET_RESET))
    assert bench.poll(Told(5, partition=1)) == [(1, [(5, 6)], [])]
    assert bench.broker.sought == []
    assert bench.watch.faults == [("t", "topic t was made anew: partition 0 ends at 3, 5 was read")]


@pytest.mark.parametrize("code", [KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC])
def test_what_is_gone_is_told_and_the_others_go_on(bench, code):
    """A partition that was deleted ends no flow."""
    assert bench.poll(Told(-1, code), Told(5, partition=1)) == [(1, [(5, 6)], [])]
    assert [topic for topic, _ in bench.watch.faults] == ["t"]


@pytest.mark.parametrize("code", [KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.MSG_SIZE_TOO_LARGE])
def test_what_no_client_can_read_is_left_out_alone(bench, code):
    """The client stays where it cannot read, so it is moved behind that one place, which shows as absent."""
    assert bench.poll(Told(5), Told(6), Told(7, code)) == [(0, [(5, 7)], [])]
    assert bench.broker.sought == [(0, 8)]
    assert bench.poll(Told(8)) == [(0, [(8, 9)], [(7, 8)])]


def test_an_unreadable_batch_is_left_place_by_place(bench):
    """Told at the beginning of its batch, before what is asked for: each time the next place is left, never one that was read."""
    bench.poll(Told(5), Told(6))
    bench.poll(Told(5, KafkaError._BAD_COMPRESSION))
    bench.poll(Told(5, KafkaError._BAD_COMPRESSION))
    assert bench.broker.sought == [(0, 8), (0, 9)]


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION, KafkaError._FATAL])
def test_what_nothing_mends_ends_the_flow_by_name(bench, code):
    """It names the group, the partition and the client's words."""
    with pytest.raises(Unavailable, match="g: t/0: told"):
        bench.poll(Told(-1, code))


def test_a_passing_fault_is_told_once_in_a_while(bench):
    """Nothing is lost by it, and a fault that lasts does not fill the log."""
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            bench.poll(Told(-1, KafkaError._TRANSPORT, topic=None))
        assert len(logs) == 1
        bench.clock.now += QUIET_S
        bench.poll(Told(-1, KafkaError._TRANSPORT, topic=None))
        assert len(logs) == 2
    assert bench.poll(Told(5)) == [(0, [(5, 6)], [])]


def test_messages_for_a_slot_that_closed_are_dropped(bench):
    """Its partitions are somebody else's after it, from where its snapshot says."""
    bench.poll()
    bench.slot._reader.readings.pop(("t", 1))
    assert bench.poll(Told(5), Told(5, partition=1)) == [(0, [(5, 6)], [])]
