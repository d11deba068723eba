"""Which partitions there are, who owns them, and what happens when the broker has others than before."""

import contextlib
from types import SimpleNamespace

import pytest
import structlog
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from headwater.flows.kafka import Kafka
from headwater.flows.partitions import Partitions, compare, owner_of
from headwater.lineage.errors import Misused, Unavailable

NAMES = st.sampled_from(["a", "b", "c"])
COUNTS = st.dictionaries(NAMES, st.integers(0, 9))


class Told(Kafka):
    """A broker that says what it is told to say."""

    def __init__(self, **there: int) -> None:
        super().__init__({"bootstrap.servers": "nowhere:1"})
        self.there = there

    def topics(self, timeout: float = 10.0):
        if not self.there:
            raise Unavailable("silent")
        return dict(self.there)

    def consumer(self, group: str, **more):
        return self

    def get_watermark_offsets(self, place, timeout):
        return (7, 9)

    def assign(self, places):
        self.asked = [(place.topic, place.partition) for place in places]

    def consume(self, many, timeout):
        """Nothing lies before 7."""
        refused = KafkaError(KafkaError._AUTO_OFFSET_RESET)
        return [
            SimpleNamespace(topic=lambda name=name: name, partition=lambda p=p: p, error=lambda: refused) for name, p in self.asked
        ]

    def close(self):
        pass


@given(COUNTS, st.sets(NAMES), COUNTS, COUNTS)
def test_what_is_read_never_shrinks_and_keyed_topics_never_grow(declared, keyed, known, there):
    """Growth is adopted but of keyed topics, whose growth is told; what is gone is told; nothing known is forgotten."""
    change = compare(declared, keyed, known, there)
    for name, count in known.items():
        assert change.counts[name] >= count
    for name, count in change.counts.items():
        if name in keyed:
            assert count <= max(declared.get(name, 0), known.get(name, 0))
        if name in declared and name not in keyed:
            assert count == max(known.get(name, 0), there.get(name, 0))
    for name in declared:
        if name in keyed and there.get(name, 0) > declared[name]:
            assert f"headwater topics migrate {name}" in change.told[name]
        elif there.get(name, 0) < known.get(name, 0):
            assert "gone" in change.told[name]


@given(st.integers(1, 64), st.tuples(NAMES, st.integers(0, 100)))
def test_every_partition_has_one_owner(slots, place):
    """The owner is one of the slots, the same in every process."""
    assert 0 <= owner_of(place, slots) < slots
    assert owner_of(place, slots) == owner_of((place[0], place[1]), slots)


def test_owners_stay_for_good():
    """Snapshots hang on it: the hash of a topic's name must never change."""
    assert [owner_of(("readings", p), 64) for p in range(4)] == [49, 50, 51, 52]


@given(NAMES, st.integers(1, 16), st.integers(1, 32))
def test_workers_get_equal_shares_of_a_topic(name, workers, partitions):
    """Slots are dealt to workers in turn: a topic's partitions come evenly to all of them."""
    shares = [0] * workers
    for partition in range(partitions):
        shares[owner_of((name, partition), 64) % workers] += 1
    assert max(shares) - min(shares) <= (2 if 64 % workers else 1)


def test_new_topics_and_partitions_are_adopted_with_their_oldest_offset():
    """What appears while we look is read from its beginning; what was there before begins where its reader says."""
    broker = Told(open=1, keyed=2)
    watch = Partitions(broker, {"open": 1, "keyed": 2, "later": 3}, {"keyed"})
    assert watch.places(["open", "keyed", "later"]) == [("open", 0), ("keyed", 0), ("keyed", 1)]
    before = watch.revision
    broker.there = {"open": 2, "keyed": 2, "later": 1}
    watch.look()
    assert watch.revision > before
    assert watch.places(["open", "later"]) == [("open", 0), ("open", 1), ("later", 0)]
    assert [watch.start_of(place) for place in (("open", 0), ("open", 1), ("later", 0))] == [None, 7, 7]
    assert watch.told() == {}


def test_growth_of_a_keyed_topic_is_told_and_not_read(caplog):
    """It is told once in the log, stands in what is told for as long as it lasts, and no part of it is read."""
    broker = Told(orders=4)
    watch = Partitions(broker, {"orders": 4}, {"orders"})
    revision = watch.revision
    broker.there = {"orders": 8}
    watch.look()
    watch.look()
    assert watch.count("orders") == 4 and watch.revision == revision
    assert watch.told()["orders"].startswith("topic orders grew from 4 to 8 partitions")
    assert watch.told()["orders"].endswith("`headwater topics migrate orders`")


def test_a_topic_that_goes_is_told_and_forgets_nothing():
    """Others go on; and when it is back it is no news."""
    broker = Told(a=2, b=1)
    watch = Partitions(broker, {"a": 2, "b": 1})
    broker.there = {"b": 1}
    watch.look()
    assert watch.count("a") == 2 and "a" in watch.told() and "b" not in watch.told()
    broker.there = {"a": 2, "b": 1}
    watch.look()
    assert watch.told() == {}


def test_a_silent_broker_is_told_once_and_so_is_its_return():
    """A minute's silence is one line, not twelve; a single look without an answer is none. Meanwhile whoever asks knows it, too."""
    broker = Told(a=1)
    watch = Partitions(broker, {"a": 1}, every_s=0.001)
    looks = [{}, {"a": 1}, {}, {}, {}, {}, {"a": 1}]

    known = []

    def answer(timeout):
        known.append(watch.answered)
        broker.there = looks.pop(0)
        if not looks:
            watch._stop.set()
        return Told.topics(broker)

    broker.topics = answer
    with structlog.testing.capture_logs() as logs:
        watch._run()
    assert [line["event"].partition(";")[0] for line in logs] == ["the broker does not answer", "the broker answers again"]
    assert [*known, watch.answered] == [True, True, True, True, False, False, False, True]


def test_patterns_match_what_there_is_but_no_internal_topic():
    """A declared name that begins with ^ is a regular expression over names; internal topics are never matched."""
    broker = Told(**{"orders.eu": 2, "orders.us": 1, "other": 1, "headwater.dead": 1, "__consumer_offsets": 50})
    watch = Partitions(broker, {r"^orders\.": 0})
    assert watch.places([r"^orders\."]) == [("orders.eu", 0), ("orders.eu", 1), ("orders.us", 0)]
    broker.there["orders.asia"] = 1
    watch.look()
    assert ("orders.asia", 0) in watch.places([r"^orders\."])
    everything = Partitions(broker, {"^.*": 0})
    assert {topic for topic, _ in everything.places(["^.*"])} == {"orders.eu", "orders.us", "orders.asia", "other"}
    with pytest.raises(Misused, match="no regular expression"):
        Partitions(broker, {"^(": 0})


def test_a_silent_broker_changes_nothing():
    """A look that fails leaves what is known as it was."""
    broker = Told(a=1)
    watch = Partitions(broker, {"a": 1})
    broker.there = {}
    with contextlib.suppress(Unavailable):
        watch.look()
    assert watch.places(["a"]) == [("a", 0)]
