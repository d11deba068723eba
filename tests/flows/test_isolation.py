"""What flows read: from the embedded broker all that lies there, from any other what is committed."""

import gc
import weakref

import pytest

from headwater.flows.broker import Broker
from headwater.flows.drain import drain
from headwater.flows.journal import KafkaJournal
from headwater.flows.kafka import EMBEDDED, Kafka, is_embedded
from headwater.lineage.topic import DECISIONS

CHAIN = ((DECISIONS, 0), ("u", 0)), (("u", 0), ("t", 0)), (("t", 0),)
"""Where each of three transactions writes: each overlaps the next."""


@pytest.fixture(scope="module")
def broker():
    """One that a chain of transactions wrote to. All were begun before the first was committed, each commit alone."""
    with Broker() as broker:
        broker.kafka.create({DECISIONS: 1, "t": 1, "u": 1})
        writers = [broker.kafka.producer(transactional_id=f"writer-{n}", linger_ms=0) for n in range(len(CHAIN))]
        for producer, places in zip(writers, CHAIN, strict=True):
            producer.init_transactions(60)
            producer.begin_transaction()
            for topic, partition in places:
                producer.produce(topic, b"{}", partition=partition, headers=[("agent", b"another")])
            producer.flush(10)
        for producer in writers:
            producer.commit_transaction(60)
        yield broker


def read(broker, isolation=None):
    return [len(drain(broker.kafka, topic, 0, 0, isolation)) for topic in (DECISIONS, "u", "t")]


def test_what_is_committed_is_read_however_transactions_overlapped(broker):
    """Law 1: flows read all that was committed, though the embedded broker hides it from readers of committed messages."""
    assert read(broker) == [1, 2, 2]
    assert read(broker, "read_committed") != [1, 2, 2], "it hides nothing any more: see whether isolation is still needed"


def test_a_journal_opens_where_something_stays_hidden(broker):
    """An owner reads back all that its former life wrote to a partition, though some of what lies there is hidden."""
    for _ in range(2):
        journal = KafkaJournal(broker.kafka, broker.id, "app", "a", 0)
        assert journal.book == []
        journal.close()


def test_other_brokers_are_read_committed():
    """Only an embedded broker's id tells that all is to be read, and it is asked for once."""
    assert is_embedded(f"{EMBEDDED}x") and not is_embedded("x")
    kafka = Kafka({"bootstrap.servers": "127.0.0.1:1"})
    kafka.broker_id = lambda timeout: "some-cluster"
    assert kafka.isolation() == "read_committed"
    kafka.broker_id = lambda timeout: pytest.fail("asked twice")
    assert kafka.isolation() == "read_committed"


def test_a_broker_that_does_not_answer_is_asked_again(broker, monkeypatch):
    """Until a broker has told its id, it is read as any other, and nothing is remembered."""
    monkeypatch.setattr("headwater.flows.kafka._ASK_S", 0.2)
    later = Kafka({"bootstrap.servers": "127.0.0.1:1"})
    assert later.isolation() == "read_committed"
    later.broker_id = broker.kafka.broker_id
    assert later.isolation() == "read_uncommitted"


def test_who_lets_go_of_a_broker_lets_go_of_its_clients(broker):
    """A door that nobody holds is gone at once with its clients, of which a process may have a thousand; no cycle keeps it."""
    gc.disable()
    try:
        kafka = Kafka({"bootstrap.servers": broker.address})
        consumer = kafka.consumer("x")
        gone = weakref.ref(kafka)
        consumer.close()
        del kafka, consumer
        assert gone() is None
    finally:
        gc.enable()
