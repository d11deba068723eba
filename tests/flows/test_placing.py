"""Where messages lie is known from the first and the last of them, and only from what is proved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.flows.kafka import Kafka
from headwater.flows.placing import FRESH_S, Placing, Run, partition_of
from headwater.lineage.errors import Unavailable


def produced(kafka, topic, keys, **more):
    """(partition, offset) of each message, an event of the id that is its key, as the client tells them."""
    found, producer = {}, kafka.producer()
    for key in keys:

        def told(error, message, key=key):
            assert error is None
            found[key] = message.partition(), message.offset()

        producer.produce(topic, b"x", key, headers=[("ce_id", key)], on_delivery=told, **more)
    assert producer.flush(10) == 0
    return found


def test_a_key_goes_where_the_client_sends_it(kafka, name):
    """Whoever reckons a partition and whoever leaves it to the client agree, for keys of every length."""
    kafka.create({name: 3})
    keys = [b"", *(bytes(range(200, 200 + n)) for n in range(1, 12)), *(f"key-{n}".encode() for n in range(40)), "schlüssel".encode()]
    found = produced(kafka, name, keys)
    assert {key: partition_of(key, 3) for key in keys} == {key: partition for key, (partition, _) in found.items()}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=6)), max_size=30), st.integers(1, 4))
def test_a_plan_names_every_message_once(messages, count):
    """Each message has a place of its own in the run of its topic and partition, in order; few are asked for: of a run two at most."""

    class Known(Kafka):
        def partitions(self, topic):
            return count

    plan = Placing(Known({"bootstrap.servers": "nowhere"})).plan([(topic, key.encode(), str(n)) for n, (topic, key) in enumerate(messages)])
    assert [run.ids[number] for run, number in plan] == [str(n) for n in range(len(messages))]
    assert [run.topic for run, _ in plan] == [topic for topic, _ in messages]
    for run in {id(run): run for run, _ in plan}.values():
        asked = [run.asks(number) for number in range(len(run.ids))]
        assert all(asked) if run.partition < 0 else asked[0] and asked[-1] and sum(asked) <= 2


def test_what_lies_together_is_proved_by_its_ends():
    """As many offsets between first and last as messages: none of them can lie elsewhere. Nobody is asked then."""
    run = Run("t", 0, ["a", "b", "c", "d"], {0: 7, 3: 10})
    Placing(Kafka({"bootstrap.servers": "nowhere"})).complete([run])
    assert run.offsets == {0: 7, 1: 8, 2: 9, 3: 10}


def test_what_others_wrote_between_is_told_apart(kafka, name):
    """Where others wrote in between, each message is found by its id."""
    kafka.create({name: 1})
    found = produced(kafka, name, [b"a", b"other-1", b"b", b"other-2", b"c"])
    run = Run(name, 0, ["a", "b", "c"], {0: found[b"a"][1], 2: found[b"c"][1]})
    Placing(kafka).complete([run])
    assert run.offsets == {0: found[b"a"][1], 1: found[b"b"][1], 2: found[b"c"][1]}
    lost = Run(name, 0, ["a", "gone", "c"], {0: found[b"a"][1], 2: found[b"c"][1]})
    with pytest.raises(Unavailable, match="1 messages are not to be found"):
        Placing(kafka).complete([lost])


def test_nothing_is_reckoned_that_the_client_reckons_otherwise():
    """Another partitioner, a topic that is not known, too few messages: the client chooses, and is asked for each."""

    class Counting(Kafka):
        asked = 0

        def partitions(self, topic):
            Counting.asked += 1
            return 2 if topic == "known" else 0

    three = [("known", b"k", str(n)) for n in range(3)]
    other = Placing(Counting({"bootstrap.servers": "nowhere", "partitioner": "consistent_random"}))
    assert all(run.partition < 0 and run.asks(number) for run, number in other.plan(three))
    now = [0.0]
    placing = Placing(Counting({"bootstrap.servers": "nowhere"}), clock=lambda: now[0])
    assert all(run.partition < 0 for run, _ in placing.plan([*three[:2], *[("new", b"k", str(n)) for n in range(3)]]))
    assert all(run.partition >= 0 for run, _ in placing.plan(three) + placing.plan(three)) and Counting.asked == 2
    now[0] = FRESH_S + 1
    placing.plan(three)
    assert Counting.asked == 3  # a topic may have grown
