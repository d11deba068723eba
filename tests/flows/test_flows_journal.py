"""The journal over a real broker: fenced, read back in order, grouped, effects and their `done` together (law 2)."""

import asyncio
import os
import signal
import time
import uuid
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException

from headwater.agents.book import Book
from headwater.agents.journal import Decided, Done, Outgoing, decode_page, pages
from headwater.flows.broker import Broker
from headwater.flows.drain import drain
from headwater.flows.journal import _TRANSACTION_S, Broken, Fenced, KafkaJournal
from headwater.flows.kafka import Kafka, is_embedded
from headwater.flows.sink import Outgoing as Message
from headwater.flows.sink import Writer
from headwater.lineage.errors import EffectFailed, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.topic import DECISIONS


@pytest.fixture
def app(kafka, name):
    """An application's name of its own, and so transactional ids of its own; the topics are there."""
    kafka.create({DECISIONS: 2, name: 2})
    return name


@pytest.fixture
def opened(kafka, app):
    """Opens journals, and closes them all."""
    journals = []

    def opening(agent: str, partition: int = 0, since: int = 0, broker: str = kafka.broker_id()) -> KafkaJournal:
        journals.append(KafkaJournal(kafka, broker, app, agent, partition, since))
        return journals[-1]

    yield opening
    for journal in journals:
        journal.close()


@pytest.fixture
def agent() -> str:
    """An agent no other test has, for all journals lie in one topic."""
    return f"agent-{uuid.uuid4().hex[:8]}"


def decided(agent: str, n: int = 0, **more) -> Decided:
    known = {"id": f"{agent}-{n}", "agent": agent, "by": agent, "version": "1", "digest": "", "activation": f"a{n}", "key": "k", "at": n}
    return Decided(**{**known, "state": "acted", **more})


def effect(topic: str, decision: Decided, ordinal: int = 0) -> Outgoing:
    id = f"{decision.id}-e{ordinal}"
    return Outgoing(
        id=id, ordinal=ordinal, topic=topic, type="t", source="s", time=1_000_000, data=msgspec.Raw(b'{"n":1}'), key=f"k{ordinal}"
    )


def run(*awaitables):
    async def all_of_them():
        return await asyncio.gather(*awaitables)

    return asyncio.run(all_of_them())


def test_entries_are_read_back_in_log_order(opened, agent):
    """A next owner reads what the former wrote, in its order, and of this agent and partition only."""
    first, other, elsewhere = opened(agent), opened(agent + "x"), opened(agent, 1)
    assert first.book == []
    for n in range(5):
        run(first.append([decided(agent, n)]), other.append([decided(agent + "x", n)]), elsewhere.append([decided(agent, 100 + n)]))
    run(first.append([Done(id=f"{agent}-1", effects=(), at=1)]))
    again = opened(agent)
    assert [type(entry).__name__ for entry in again.book] == ["Decided"] * 5 + ["Done"]
    assert [entry.id for entry in again.book] == [f"{agent}-{n}" for n in (0, 1, 2, 3, 4, 1)]
    assert [entry.at for entry in opened(agent, 1).book] == [100, 101, 102, 103, 104]


def test_a_second_owner_fences_the_first(opened, agent):
    """Once another opened the journal, the first commits nothing more: it is told Fenced, for good, and no entry of it is in the book."""
    first = opened(agent)
    run(first.append([decided(agent, 0)]))
    second = opened(agent)
    for n in (1, 2):
        with pytest.raises(Fenced, match="another owner"):
            run(first.append([decided(agent, n)]))
    with pytest.raises(Fenced):
        run(first.perform([], Done(id=f"{agent}-0", effects=(), at=1)))
    run(second.append([decided(agent, 3)]))
    assert [entry.id for entry in opened(agent).book] == [f"{agent}-0", f"{agent}-3"]


def test_a_fenced_owner_publishes_nothing(kafka, opened, agent, app):
    """Effects of a fenced owner do not reach their topic, not even for readers of everything."""
    first = opened(agent)
    assert first.book == []  # its own commits are over: the embedded broker does not answer those of a fenced owner
    opened(agent)
    decision = decided(agent)
    with pytest.raises(Fenced):
        run(first.perform([effect(app, decision)], Done(id=decision.id, effects=(), at=1)))
    assert [m for p in range(2) for m in drain(kafka, app, p, 0, "read_uncommitted")] == []


def test_other_agents_and_partitions_are_not_fenced(opened, agent):
    """The fence is per (agent, partition)."""
    first = opened(agent)
    opened(agent, 1)
    opened(agent + "x")
    run(first.append([decided(agent)]))


@pytest.fixture
def killed(kafka, app, agent):
    """Leaves a transaction of another agent open in partition 0; gives that agent."""
    producer = kafka.producer(transactional_id=f"headwater-{app}-{agent}x-0", transaction_timeout_ms=60_000)
    producer.init_transactions(60)

    def leaving() -> str:
        producer.begin_transaction()
        producer.produce(DECISIONS, b"{}", b"x", partition=0, headers=[("agent", f"{agent}x".encode())])
        producer.flush()
        return f"{agent}x"

    return leaving


def test_what_lies_behind_an_open_transaction_is_read_too(opened, agent, killed):
    """Another agent's killed owner left a transaction open: what we committed after it is read, once that agent opens again."""
    journal = opened(agent)
    other = killed()
    run(journal.append([decided(agent)]))
    again = opened(agent, broker="of another make")
    assert not again.ready
    opened(other)
    assert [entry.id for entry in again.book] == [f"{agent}-0"]


def test_the_embedded_broker_hides_nothing_from_the_journal(kafka, opened, agent, killed):
    """There it is read at once, whether or not that other agent ever opens again."""
    if not is_embedded(kafka.broker_id()):
        pytest.skip("this is another broker")
    journal = opened(agent)
    other = killed()
    run(journal.append([decided(agent)]))
    assert [entry.id for entry in opened(agent).book] == [f"{agent}-0"]
    opened(other)  # other tests read what is committed


def test_effects_and_done_are_one(kafka, opened, agent, app):
    """perform: the events lie where the tokens say, and the `done` entry names those tokens."""
    journal = opened(agent)
    decision = decided(agent)
    effects = [effect(app, decision, n) for n in range(3)]
    [tokens] = run(journal.perform(effects, Done(id=decision.id, effects=tuple(e.id for e in effects), at=7)))
    places = {
        f"{kafka.broker_id()}/{app}/{m.partition}/{m.offset}": dict(m.headers)["ce_id"].decode()
        for p in range(2)
        for m in drain(kafka, app, p, 0)
    }
    assert [places[token] for token in tokens] == [e.id for e in effects]
    [done] = opened(agent).book
    assert done == Done(id=decision.id, effects=tuple(e.id for e in effects), at=7, positions=tuple(tokens))


def test_a_decision_lies_in_the_log_before_its_events_are_sent(kafka, opened, agent, app, monkeypatch):
    """Law 2: decision, events and `done` share a commit; who ends before it has sent no event whose decision is not in the log."""
    journal, decision = opened(agent), decided(agent)
    event, done = effect(app, decision), Done(id=decision.id, effects=(f"{decision.id}-e0",), at=7)
    read = [m.value for p in range(2) for m in drain(kafka, app, p, 0, "read_uncommitted")]
    assert read == []
    sending = KafkaJournal._publish

    def ending(self, effects):
        raise Ended("killed before the first event")

    monkeypatch.setattr(KafkaJournal, "_publish", ending)
    with pytest.raises(Broken):
        run(journal.perform([event], done, decision))
    lying = [m for m in drain(kafka, DECISIONS, 0, 0, "read_uncommitted") if dict(m.headers).get("agent") == agent.encode()]
    assert [decode_page(m.value) for m in lying] == [[decision]]
    monkeypatch.setattr(KafkaJournal, "_publish", sending)
    again = opened(agent)
    seen = [decision] if is_embedded(kafka.broker_id()) else []  # elsewhere nothing of the transaction was ever to be seen
    assert again.book == seen
    [tokens] = run(again.perform([event], done, None if seen else decision))
    other = decided(agent, 1)
    others = Done(id=other.id, effects=(f"{other.id}-e0",), at=8)
    [places] = run(again.perform([effect(app, other)], others, other))
    broker = kafka.broker_id()
    lying = {f"{broker}/{app}/{p}/{m.offset}": dict(m.headers)["ce_id"].decode() for p in range(2) for m in drain(kafka, app, p, 0)}
    assert [lying[token] for token in (*tokens, *places)] == [event.id, f"{other.id}-e0"]
    assert opened(agent).book == [decision, done.placed(tokens), other, others.placed(places)]


class Ended(Exception):
    """What a test ends an owner with."""


def test_what_comes_together_shares_a_commit(kafka, opened, agent):
    """A hundred appends at once take far fewer commits and messages than a hundred, and each entry lies where it is said to."""
    journal = opened(agent)
    run(journal.append([decided(agent, -1)]))
    run(*(journal.append([decided(agent, n)]) for n in range(100)))
    mine = [m.offset for m in drain(kafka, DECISIONS, 0, 0) if dict(m.headers).get("agent") == agent.encode()]
    assert len(mine) < 50
    assert mine[-1] - mine[1] + 1 < 100
    assert {entry.id for entry in opened(agent).book} == {f"{agent}-{n}" for n in range(-1, 100)}
    assert [run(journal.recall(id, journal.place(id)))[0].id for id in (f"{agent}-7", f"{agent}-93")] == [f"{agent}-7", f"{agent}-93"]


def test_since_reaches_back_far_enough(opened, agent):
    """A journal opened at `since` holds the decisions asked for; those forgotten no longer hold it back."""
    journal = opened(agent)
    for n in range(10):
        run(journal.append([decided(agent, n)]))
    ids = [f"{agent}-{n}" for n in range(10)]
    asked = [entry.id for entry in opened(agent, since=journal.since([ids[4]])).book]
    assert ids[4:] == asked[-6:]
    assert journal.since([ids[4]]) <= journal.since([ids[8]]) <= journal.since([])
    assert [entry.id for entry in opened(agent, since=journal.place(ids[4])).book] == ids[4:]
    for id in ids:
        journal.forget(id)
    assert journal.since(ids) == journal.since([]) == 0


def test_what_is_read_again_is_known_by_its_place(kafka, opened, agent, monkeypatch):
    """Of entries committed together, in one message or in several, each is read again at its place, by this owner and the next."""
    monkeypatch.setattr("headwater.flows.journal.pages", lambda entries: pages(entries, 500))
    journal = opened(agent)
    together = [decided(agent, n, rationale="x" * 100 * (n % 4)) for n in range(9)]
    run(journal.append(together))
    places = [journal.place(entry.id) for entry in together]
    assert 1 < len(set(places)) < 9 and places == sorted(places)
    again = opened(agent, since=places[0])
    assert again.book == together
    assert [again.place(entry.id) for entry in together] == places
    for entry, place in zip(together, places, strict=True):
        assert run(again.recall(entry.id, place)) == [entry]


def test_a_foreign_message_in_the_journal_harms_nobody(kafka, opened, agent):
    """What others write into the decisions topic is not read as ours."""
    journal = opened(agent)
    run(journal.append([decided(agent)]))
    Writer(kafka, "b").write([Message(DECISIONS, b"x", b"nonsense", [], 0)])
    book = Book(opened(agent).book)
    assert book.decided(f"{agent}-0") is not None


@pytest.mark.long
def test_a_broker_that_is_gone_is_unavailable(tmp_path, agent):
    """Opening a journal says Unavailable, naming which, when no broker answers."""
    with Broker(tmp_path / "log") as broker:
        kafka = broker.kafka
        kafka.create({DECISIONS: 1})
    with pytest.raises(Unavailable, match=agent):
        KafkaJournal(kafka, broker.id, "app", agent, 0)


class Door(Kafka):
    """The broker's door, with a hand on the producer: `before` is told each call's name before it is made, and may raise.

    Messages of the topics in `refused` are not sent: their delivery fails with that error code.
    """

    def __init__(self, kafka, before=lambda name: None, refused=None):
        super().__init__(kafka.properties)
        self.before, self.refused = before, refused or {}

    def producer(self, **more):
        return Hand(super().producer(**more), self)


class Hand:
    def __init__(self, producer, door):
        self._producer, self._door, self._failing = producer, door, []

    def __getattr__(self, name):
        def call(*given, **named):
            self._door.before(name)
            return getattr(self._producer, name)(*given, **named)

        return call

    def produce(self, topic, *given, on_delivery=None, **named):
        self._door.before("produce")
        if topic in self._door.refused:
            self._failing.append((on_delivery, KafkaError(self._door.refused[topic])))
        else:
            self._producer.produce(topic, *given, on_delivery=on_delivery, **named)

    def flush(self, timeout):
        self._door.before("flush")
        failing, self._failing = self._failing, []
        for on_delivery, error in failing:
            on_delivery(error, None)
        return self._producer.flush(timeout)


def stand_still(pid: int) -> None:
    """Stop a process, and wait until each of its threads has: one that still ran would answer."""
    os.kill(pid, signal.SIGSTOP)
    while any(task.read_text().rpartition(")")[2].split()[0] not in "TtZX" for task in Path(f"/proc/{pid}/task").glob("*/stat")):
        time.sleep(0.001)


def test_opening_outlasts_what_a_killed_owner_left_open(kafka, app, agent):
    """A broker that answers the fence once the former owner's transaction is over by its time limit is waited for."""

    class Late(Hand):
        def init_transactions(self, patience_s):
            if patience_s <= _TRANSACTION_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            self._producer.init_transactions(patience_s)

    door = Door(kafka)
    door.producer = lambda **more: Late(kafka.producer(**more), door)
    journal = KafkaJournal(door, kafka.broker_id(), app, agent, 0)
    assert journal.book == []
    journal.close()


@pytest.mark.parametrize("stopped", ["flush", "commit_transaction"])
def test_a_pause_of_the_broker_is_waited_out(tmp_path, agent, stopped):
    """A call whose answer takes longer than its time limit is made again: the commit goes through once, and the journal goes on."""
    with Broker(tmp_path / "log") as broker:
        calls = []

        def before(name):
            if name == stopped:
                calls.append(name)
                if len(calls) == 2:  # the first is the opening's
                    stand_still(broker.process.pid)
                elif len(calls) == 5:
                    os.kill(broker.process.pid, signal.SIGCONT)

        kafka = Door(broker.kafka, before)
        kafka.create({DECISIONS: 1, "plans": 1})
        journal = KafkaJournal(kafka, broker.id, "app", agent, 0, commit_s=0.2)
        decision = decided(agent)
        [tokens] = run(journal.perform([effect("plans", decision)], Done(id=decision.id, effects=("e",), at=1)))
        assert len(calls) >= 5
        assert [str(m.offset) for m in drain(kafka, "plans", 0, 0, "read_uncommitted")] == [tokens[0].rpartition("/")[2]]
        run(journal.append([decided(agent, 1)]))
        journal.close()
        again = KafkaJournal(kafka, broker.id, "app", agent, 0)
        assert [type(entry).__name__ for entry in again.book] == ["Done", "Decided"]
        again.close()


@pytest.fixture
def door(kafka, app, agent):
    """Opens a journal behind a hand on its producer."""
    journals = []

    def opening(*given, **named) -> KafkaJournal:
        journals.append(KafkaJournal(Door(kafka, *given, **named), kafka.broker_id(), app, agent, 0))
        assert journals[-1].book is not None
        return journals[-1]

    yield opening
    for journal in journals:
        journal.close()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, EffectFailed),
        (KafkaError.MSG_SIZE_TOO_LARGE, EffectFailed),
        (KafkaError._MSG_TIMED_OUT, Unavailable),
    ],
)
def test_an_undelivered_effect_is_told(door, agent, app, code, told):
    """A message that the broker does not take ends its transaction with an answer to all in it; the journal goes on."""
    journal = door(refused={app: code})
    decision = decided(agent)
    done = Done(id=decision.id, effects=("e",), at=1)

    async def both():
        asked = journal.perform([effect(app, decision)], done), journal.append([decided(agent, 2)])
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(asyncio.wait_for(both(), 30))
    assert type(answers[0]) is told
    run(journal.append([decided(agent, 3)]))


def test_a_message_too_large_to_send_is_told(opened, agent, app, kafka):
    """What the client refuses to take is refused for good; the journal goes on."""
    journal = opened(agent)
    decision = decided(agent)
    large = msgspec.structs.replace(effect(app, decision), data=msgspec.Raw(b'"' + b"x" * kafka.largest + b'"'))
    with pytest.raises(EffectFailed, match=agent):
        run(journal.perform([large], Done(id=decision.id, effects=("e",), at=1)))
    run(journal.append([decided(agent, 1)]))
    assert [entry.id for entry in opened(agent).book] == [f"{agent}-1"]


@pytest.mark.parametrize("error", [ValueError("odd"), KafkaException(KafkaError(KafkaError._STATE, "no such state"))])
@pytest.mark.parametrize("where", ["begin_transaction", "commit_transaction"])
def test_a_journal_that_breaks_says_so(door, opened, agent, where, error):
    """Whatever its thread dies of, who waits is answered, and who comes later: this owner must stop, and the next one can write."""
    broken = []

    def before(name):
        if broken and name == where:
            raise error

    journal = door(before)
    broken.append(True)
    for n in range(2):
        with pytest.raises(Broken, match="restart the flow"):
            asyncio.run(asyncio.wait_for(journal.append([decided(agent, n)]), 30))
    run(opened(agent).append([decided(agent, 2)]))


def test_an_abort_that_tells_of_a_newer_owner_is_a_fence(door, agent):
    """Such an owner is over: opened anew, as one that broke is, it would fence the newer one."""
    refused = {"no topic": KafkaError._MSG_TIMED_OUT}

    def before(name):
        if name == "abort_transaction":
            raise KafkaException(KafkaError(KafkaError.PRODUCER_FENCED))

    journal = door(before, refused)
    refused[DECISIONS] = KafkaError.PRODUCER_FENCED
    with pytest.raises(Fenced, match="another owner"):
        asyncio.run(asyncio.wait_for(journal.append([decided(agent)]), 30))


def test_a_closed_journal_answers(opened, agent):
    """Who asks after the end is told so, and does not wait for ever."""
    journal = opened(agent)
    journal.close()
    with pytest.raises(Broken, match="closed"):
        asyncio.run(asyncio.wait_for(journal.append([decided(agent)]), 30))


def test_where_many_effects_lie_is_known(opened, agent, app, kafka):
    """However many effects a transaction publishes, each one's token is where a reader finds it."""
    journal = opened(agent)
    asked, ids = [], []
    for n in range(20):
        decision = decided(agent, n)
        effects = [msgspec.structs.replace(effect(app, decision, m), key=f"{n}-{m}") for m in range(n % 3)]
        ids += [each.id for each in effects]
        asked.append(journal.perform(effects, Done(id=decision.id, effects=tuple(each.id for each in effects), at=1)))
    tokens = [Position.parse(token) for told in run(*asked) for token in told]
    found = {dict(m.headers)["ce_id"].decode(): (p, m.offset) for p in (0, 1) for m in drain(kafka, app, p, 0)}
    assert {id: (token.partition, token.offset) for id, token in zip(ids, tokens, strict=True)} == found
