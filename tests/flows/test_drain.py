"""Reading a partition outside the flows: all of it, whatever the broker's watermarks say."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError

from headwater.flows.drain import drain, end_of, oldest, scan, tail
from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Unavailable


class Misled(Kafka):
    """A door to a broker whose oldest offset is told too high, as the embedded broker does after two first batches at once."""

    def __init__(self, kafka, low):
        super().__init__(kafka.properties)
        self.low = low

    def consumer(self, group, **more):
        inner = super().consumer(group, **more)
        low = self.low

        class Consumer:
            def __getattr__(self, name):
                return getattr(inner, name)

            def get_watermark_offsets(self, place, **options):
                return low, inner.get_watermark_offsets(place, **options)[1]

        return Consumer()


@pytest.fixture
def filled(kafka, name):
    """A topic of ten messages."""
    kafka.create({name: 1})
    producer = kafka.producer()
    for n in range(10):
        producer.produce(name, str(n).encode(), partition=0)
    producer.flush()
    return name


def test_a_partition_begins_where_its_first_message_lies(kafka, filled):
    """The oldest offset is what the broker hands out, not what it says."""
    misled = Misled(kafka, 3)
    assert oldest(misled, misled.consumer("test"), [(filled, 0)]) == {(filled, 0): 0}
    assert [message.value for message in drain(misled, filled, 0, 0)] == [str(n).encode() for n in range(10)]


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._PARTITION_EOF])
def test_what_the_broker_refuses_is_gone(kafka, filled, code):
    """Where the broker hands out nothing before its watermark, as after deletion, the partition begins there."""

    class Refused:
        def topic(self):
            return filled

        def partition(self):
            return 0

        def error(self):
            return KafkaError(code)

    class Refusing(Misled):
        def consumer(self, group, **more):
            inner = super().consumer(group, **more)
            inner.consume = lambda *args: [Refused()]
            return inner

    refusing = Refusing(kafka, 4)
    assert oldest(refusing, refusing.consumer("test"), [(filled, 0)]) == {(filled, 0): 4}


class Retained:
    """A door and its consumer in one, over a partition whose messages 0 to 6 are gone: what it answers is `codes`."""

    def __init__(self, *codes: int):
        self.codes, self.assigned = codes, []

    def embedded(self):
        return False

    def consumer(self, group, **more):
        return self

    def get_watermark_offsets(self, place, timeout):
        return 7, 7

    def assign(self, places):
        self.assigned = [place.offset for place in places]

    def consume(self, many, timeout):
        at = {"topic": lambda: "t", "partition": lambda: 0, "offset": lambda: 7}
        return [SimpleNamespace(error=lambda code=code: KafkaError(code), **at) for code in self.codes]

    def told(self, error):
        return error.str()

    def close(self):
        pass


def test_reading_starts_at_what_is_left():
    """Messages that retention took are not waited for."""
    door = Retained(KafkaError._TRANSPORT, KafkaError._PARTITION_EOF)
    assert drain(door, "t", 0, 3) == [] and door.assigned == [7]


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError.TOPIC_AUTHORIZATION_FAILED])
def test_reading_ends_where_waiting_cannot_help(code):
    """An error that the client does not mend by itself is told, whatever the patience."""
    with pytest.raises(Unavailable, match="cannot be read"):
        drain(Retained(code), "t", 0, 3, patience_s=10_000)


def test_a_tail_is_the_newest_messages(kafka, filled):
    """So many, or from an offset on; from beyond the end, none."""
    assert [message.offset for message in tail(kafka, filled, 0, 3)][-3:] == [7, 8, 9]
    assert [message.offset for message in tail(kafka, filled, 0, 0, 8)] == [8, 9]
    assert list(tail(kafka, filled, 0, 0, 99)) == []


def test_an_offset_beyond_the_end_is_refused(kafka, filled):
    """The topic was made anew: waiting would not help."""
    assert end_of(kafka, filled, 0) == 10
    with pytest.raises(Unavailable, match="ends at 10, before the offset 99"):
        list(scan(kafka, filled, 0, 99))
