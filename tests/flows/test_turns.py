"""Turns: transactions that end one after another leave nothing hidden at the embedded broker; and what to do where they did not."""

import threading
from concurrent.futures import ThreadPoolExecutor

from headwater.flows.broker import EMBEDDED, Broker, is_embedded
from headwater.flows.drain import drain
from headwater.flows.journal import KafkaJournal
from headwater.flows.turns import LONGEST_S, in_turn
from headwater.lineage.topic import DECISIONS

PARTITIONS = 8
"""A transaction that wrote to many partitions is long in ending."""


class Crowd:
    """Producers that all write to all partitions of one topic and commit at the same moment, each in its turn (or, `rude`, not)."""

    def __init__(self, kafka, broker, topic, *, rude=False):
        self._kafka, self._topic, self._rude = kafka, topic, rude
        self._broker = "some other broker" if rude else broker
        self._many = [kafka.producer(transactional_id=f"{topic}-{n}", linger_ms=0) for n in range(6)]
        self._last = kafka.producer(transactional_id=f"{topic}-last", linger_ms=0)
        for producer in (*self._many, self._last):
            producer.init_transactions(10)

    def _fill(self, producer):
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.produce(self._topic, b"{}", b"k", partition=partition, headers=[("agent", b"crowd")])
        producer.flush(10)

    def _end(self, producer):
        with in_turn(self._broker):
            producer.commit_transaction(10)

    def commit(self):
        """All at once; then one more twice, alone."""
        with ThreadPoolExecutor(len(self._many)) as pool:
            list(pool.map(self._fill, self._many))
            list(pool.map(self._end, self._many))
        for _ in range(2):
            self._fill(self._last)
            self._end(self._last)

    def hidden(self):
        """How many committed messages no reader of committed messages sees."""
        there, seen = (sum(len(drain(self._kafka, self._topic, p, 0, how)) for p in range(PARTITIONS)) for how in HOW)
        return there - seen


HOW = ("read_uncommitted", "read_committed")


def test_what_is_committed_in_turn_is_seen():
    """However many commit at the same moment: once all have, readers of committed messages see all."""
    with Broker() as broker:
        broker.kafka.create({"t": PARTITIONS})
        crowd = Crowd(broker.kafka, broker.id, "t")
        for _ in range(20):
            crowd.commit()
            assert crowd.hidden() == 0


def test_a_journal_opens_where_something_stays_hidden():
    """The embedded broker hides for ever what is committed to a partition: an owner reads back all that its former life wrote there."""
    with Broker() as broker:
        kafka = broker.kafka
        kafka.create({DECISIONS: PARTITIONS})
        crowd = Crowd(kafka, broker.id, DECISIONS, rude=True)
        for _ in range(400):
            crowd.commit()
            if crowd.hidden():
                break
        assert crowd.hidden(), "what comes at once is no longer hidden: see whether turns are still needed"
        first = KafkaJournal(kafka, broker.id, "app", "a", 0)
        assert first.book == []
        first.close()
        again = KafkaJournal(kafka, broker.id, "app", "a", 0)
        assert again.book == []
        again.close()


def test_only_embedded_brokers_need_turns():
    """An id tells; at another broker nobody waits for anybody, and a turn that is not given back is not waited for without end."""
    assert is_embedded(f"{EMBEDDED}x")
    assert not is_embedded("x")
    held, entered = threading.Event(), threading.Event()

    def hold():
        with in_turn(f"{EMBEDDED}x"):
            entered.set()
            held.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(60)
    try:
        with in_turn("x"):
            pass
        with in_turn(f"{EMBEDDED}x"):  # after LONGEST_S, without it
            assert LONGEST_S < 60
    finally:
        held.set()
        holder.join()
