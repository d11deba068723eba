"""An owner that is fenced while its commit is under way: it is told, in bounded time, and nothing of it is done twice (law 2)."""

import asyncio
import uuid

import pytest

import headwater.flows.journal as journals
from headwater.agents.journal import Decided
from headwater.flows.drain import drain
from headwater.flows.journal import Broken, Fenced, KafkaJournal
from headwater.flows.kafka import Kafka, is_embedded
from headwater.flows.ownership import Mark
from headwater.lineage.topic import DECISIONS


class Interrupted(Kafka):
    """The broker's door; `happens` comes to pass once, between a filled transaction and its commit, when `armed`."""

    def __init__(self, kafka, happens):
        super().__init__(kafka.properties)
        self.happens, self.armed = happens, False

    def producer(self, **more):
        return Hand(super().producer(**more), self)


class Hand:
    def __init__(self, producer, door):
        self._producer, self._door = producer, door

    def __getattr__(self, name):
        return getattr(self._producer, name)

    def commit_transaction(self, timeout):
        if self._door.armed:
            self._door.armed = False
            self._door.happens()
        self._producer.commit_transaction(timeout)


@pytest.fixture
def agent(kafka) -> str:
    kafka.create({DECISIONS: 2})
    return f"agent-{uuid.uuid4().hex[:8]}"


def decided(agent: str, n: int) -> Decided:
    return Decided(id=f"{agent}-{n}", agent=agent, by=agent, version="1", digest="", activation=f"a{n}", key="k", at=n, state="acted")


def append(journal: KafkaJournal, agent: str, n: int) -> None:
    asyncio.run(asyncio.wait_for(journal.append([decided(agent, n)]), 50))


def test_an_owner_fenced_in_mid_commit_is_told(kafka, agent, name):
    """Another owner comes between a filled transaction and its commit: the first is told Fenced; the next goes on with what it read."""
    owners = []

    def another_comes():
        owners.append(KafkaJournal(kafka, kafka.broker_id(), name, agent, 0))
        owners[-1].book  # noqa: B018  (waits for it)

    door = Interrupted(kafka, another_comes)
    first = KafkaJournal(door, kafka.broker_id(), name, agent, 0, commit_s=0.3)
    append(first, agent, 0)
    door.armed = True
    for n in (1, 2):
        with pytest.raises(Fenced, match="another owner"):
            append(first, agent, n)
    append(owners[0], agent, 3)
    first.close()
    owners[0].close()
    again = KafkaJournal(kafka, kafka.broker_id(), name, agent, 0)
    read = [entry.id for entry in again.book]
    again.close()
    assert read in ([f"{agent}-0", f"{agent}-3"], [f"{agent}-0", f"{agent}-1", f"{agent}-3"])
    assert read[:-1] == [entry.id for entry in owners[0].book]


def test_an_owner_that_is_never_answered_gives_up(kafka, agent, name, monkeypatch):
    """Fenced by one that left no mark, as one killed at once: it waits for no answer for ever, and the next owner can write."""
    if not is_embedded(kafka.broker_id()):
        pytest.skip("other brokers answer")
    monkeypatch.setattr(journals, "_LOOKS", 2)

    def one_comes_and_is_killed():
        kafka.producer(transactional_id=f"headwater-{name}-{agent}-0").init_transactions(60)

    door = Interrupted(kafka, one_comes_and_is_killed)
    first = KafkaJournal(door, kafka.broker_id(), name, agent, 0, commit_s=0.2)
    append(first, agent, 0)
    door.armed = True
    with pytest.raises(Broken, match="restart the flow"):
        append(first, agent, 1)
    first.close()
    following = KafkaJournal(kafka, kafka.broker_id(), name, agent, 0)
    append(following, agent, 2)
    following.close()


def test_only_a_later_mark_of_the_same_agent_tells(kafka, agent):
    """Marks of other agents and partitions, and those before one's own, say nothing; a silent broker neither."""
    producer = kafka.producer(transactional_id=agent)
    producer.init_transactions(60)
    marks = [Mark(kafka, DECISIONS, p, name) for p, name in ((0, agent), (0, agent), (0, f"{agent}x"), (1, agent))]
    assert marks[0].passed_by(0.1) is None
    for mark in marks:
        producer.begin_transaction()
        mark.leave(producer)
        producer.commit_transaction(60)
    assert [mark.passed_by(30) for mark in marks] == [True, False, False, False]
    assert [mark.passed_by(30) for mark in marks] == [True, False, False, False]
    assert len([m for m in drain(kafka, DECISIONS, 0, 0) if dict(m.headers).get("opened") == agent.encode()]) == 2


def test_the_last_mark_decides(kafka, agent):
    """An owner that comes again behind another owns it again, and the other knows; a partition made anew has no mark to tell of."""
    producer = kafka.producer(transactional_id=agent)
    producer.init_transactions(60)
    topic = f"marks-{agent}"
    kafka.create({topic: 1})
    first, second = (Mark(kafka, topic, 0, agent) for _ in range(2))

    def leave(mark):
        producer.begin_transaction()
        mark.leave(producer)
        producer.commit_transaction(60)
        assert mark.lies
        assert mark.refused is None

    leave(first)
    leave(second)
    assert [mark.passed_by(30) for mark in (first, second)] == [True, False]
    leave(first)
    assert [mark.passed_by(30) for mark in (first, second)] == [False, True]
    kafka.admin.delete_topics([topic])[topic].result(30)
    assert first.passed_by(30) is False


def test_a_mark_that_is_not_taken_says_so(kafka, agent):
    """What the broker refuses was not left, and tells nobody anything."""
    producer = kafka.producer(transactional_id=agent, message_timeout_ms=300)
    producer.init_transactions(60)
    mark = Mark(kafka, f"nowhere-{agent}", 0, agent)
    producer.begin_transaction()
    mark.leave(producer)
    producer.flush(30)
    assert mark.refused is not None
    assert not mark.lies
    assert mark.passed_by(0.1) is None
