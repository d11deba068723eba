"""Turns: transactions that end one after another leave nothing hidden at the embedded broker; and what to do where they did not."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import headwater.flows.turns as turns
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


class Turner:
    """A process of `turner.py`."""

    def __init__(self, *given):
        command = [sys.executable, str(Path(__file__).parent / "turner.py"), *map(str, given)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().strip()


@pytest.fixture
def turners():
    """Starts turners; all are there when it gives them."""
    begun = []

    def starting(givens):
        begun.extend(Turner(*given) for given in givens)
        assert [turner.answer() for turner in begun] == ["ready"] * len(begun)
        return begun

    yield starting
    for turner in begun:
        turner.process.kill()
        turner.process.wait()


@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=pytest.mark.long)])
def test_what_processes_commit_in_turn_is_seen(rounds, turners):
    """The same with producers of several processes: what they commit at the same moment is seen by all once they have."""
    with Broker() as broker:
        broker.kafka.create({"t": PARTITIONS})
        crowd = Crowd(broker.kafka, broker.id, "t")
        many = turners([(broker.id, broker.address, "t", f"of-{n}", PARTITIONS) for n in range(5)])
        for _ in range(rounds):
            for what in ("fill", "end"):
                for turner in many:
                    turner.tell(what)
                assert [turner.answer() for turner in many] == ["done"] * len(many)
            crowd.commit()
            assert crowd.hidden() == 0


def test_processes_take_turns(turners, tmp_path):
    """No process begins while another has its turn, however they press; each comes to its own."""
    many = turners([(f"{EMBEDDED}{tmp_path}",)] * 3)
    for turner in many:
        turner.tell(tmp_path / "told")
    assert [turner.answer() for turner in many] == ["done"] * 3
    lines = (tmp_path / "told").read_text().split("\n")
    pairs = list(zip(lines[0:-1:2], lines[1:-1:2], strict=True))
    assert len(pairs) == 3 * 50
    assert all(begin.split() == ["begin", end.split()[1]] and end.startswith("end") for begin, end in pairs)


def test_a_turn_is_taken_from_whoever_is_killed_and_waited_for_once(turners, tmp_path, monkeypatch):
    """A process killed in its turn holds up nobody; one that stands still in it is waited for once, and cared for again when it goes on."""
    broker = f"{EMBEDDED}{tmp_path}"
    killed, still = turners([(broker,)] * 2)
    killed.tell("hold")
    assert killed.answer() == "done"
    killed.process.kill()
    killed.process.wait()
    with in_turn(broker):
        assert not turns._place_of(broker)._stuck
    still.tell("hold")
    assert still.answer() == "done"
    still.process.send_signal(signal.SIGSTOP)
    waits = []
    monkeypatch.setattr(turns, "LONGEST_S", 0.05)
    monkeypatch.setattr(turns.time, "sleep", waits.append)
    for waited in (True, False):
        with in_turn(broker):
            assert turns._place_of(broker)._stuck
        assert bool(waits) is waited
        waits.clear()
    still.process.send_signal(signal.SIGCONT)
    still.tell("give it back")
    assert still.answer() == "done"
    with in_turn(broker):
        assert not turns._place_of(broker)._stuck
