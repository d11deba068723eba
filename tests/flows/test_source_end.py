"""The end of a partition: librdkafka tells it once, so the source must not forget it."""

from confluent_kafka import KafkaError

from headwater.flows.source import TopicSource


class Told:
    """A message, or with `code` an event of the client, as confluent-kafka hands them over."""

    def __init__(self, offset: int, code: int | None = None) -> None:
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


class Scripted:
    """A broker's door and its consumer in one: every poll hands over the next list."""

    def __init__(self, polls: list[list[Told]]) -> None:
        self._polls = polls

    def consumer(self, group: str):
        return self

    def get_watermark_offsets(self, place, timeout):
        return (0, 0)

    def assign(self, places):
        pass

    def consume(self, many, timeout):
        return self._polls.pop(0) if self._polls else []


def part(polls, **options):
    source = TopicSource(Scripted(polls), "b", {"t": 1}, "g", slots=None, **options)
    return source.build_part("step", "t/0", None)


def end(offset: int) -> Told:
    return Told(offset, KafkaError._PARTITION_EOF)


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
    reading = part([[end(1)], [Told(1), Told(2)], [], [end(3)], []], at_end=lambda topic, partition, offset: ends.append(offset))
    for _ in range(3):
        reading.next_batch()
    assert ends == []
    for _ in range(2):
        reading.next_batch()
    assert set(ends) == {3}
