"""Migrating a topic: refused while anything is unread or still comes, so that keys keep their order; recorded once it is safe."""

import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from pydantic import BaseModel

from headwater.enrichers.document import Document, DocumentType
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import App
from headwater.flows.catalogue import remembered
from headwater.flows.cli import main
from headwater.flows.drain import drain
from headwater.flows.kafka import Kafka, group_of
from headwater.flows.migrate import check_read, committed, ends, examine, migrate
from headwater.flows.prepare import prepare_topics
from headwater.flows.run_file import remove_run_file, write_run_file
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing, Writer
from headwater.flows.up import Up
from headwater.lineage.errors import Behind, Misused
from headwater.lineage.topic import Topic

NOW = 1_700_000_000_000_000


class Reading(BaseModel):
    id: str
    gauge: str


class Required(Reading):
    metres: float


class Regrown(Kafka):
    """The embedded broker cannot grow a topic. Here it is made anew with more partitions, and what lay there lies there again."""

    def grow(self, topic: str, partitions: int) -> None:
        kept = [message for partition in range(self.partitions(topic)) for message in drain(self, topic, partition, 0)]
        for future in self.admin.delete_topics([topic]).values():
            future.result(30)
        self.create({topic: partitions})
        Writer(self, "").write([Outgoing(topic, m.key, m.value, m.headers, m.partition) for m in kept])


@pytest.fixture
def broker(kafka: Kafka) -> Regrown:
    return Regrown(kafka.properties)


class Lake:
    """An application with one keyed topic of two partitions, six events in it, and flows whose offsets are moved by hand."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self.kafka, self.topic = kafka, topic
        self.name = f"lake-{uuid.uuid4().hex[:8]}"
        self.pauses: list[float] = []
        self.paused: Callable[[], None] = lambda: None
        prepare_topics(self.app(), kafka, NOW)
        self.write(6)

    def app(self, model: type[Any] = Reading, **more: Any) -> App:
        topic = Topic(self.topic, model, **{"key": "gauge", "partitions": 2, **more})
        return App(self.name, documents=[DocumentType("level", topic, lambda model, facts: Document("d", "t"))])

    def write(self, count: int) -> None:
        Writer(self.kafka, "").write([Outgoing(self.topic, b"k", b"{}", [("ce_id", b"%d" % n)], n % 2) for n in range(count)])

    def reads(self, flow: str, *offsets: int) -> None:
        """Commit what a flow has read, partition by partition."""
        consumer = self.kafka.consumer(group_of(self.name, flow))
        consumer.commit(offsets=[TopicPartition(self.topic, p, offset) for p, offset in enumerate(offsets)], asynchronous=False)
        consumer.close()

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.paused()

    def migrate(self, partitions: int | None = None, *, app: App | None = None, **more: Any) -> Any:
        app = app or self.app()
        return migrate(examine(app, self.kafka, self.topic, partitions), app, self.kafka, NOW, self.pause, **more)

    @property
    def remembered(self) -> Any:
        return remembered(self.kafka, self.name)[self.topic]


@pytest.fixture
def lake(broker: Regrown, name: str) -> Lake:
    return Lake(broker, name)


def test_a_topic_grows_once_all_is_read(lake: Lake, broker):
    """The broker has the new number, the catalogue remembers it, and a start with it declared is admitted; what lay there lies there."""
    lake.reads("index", 3, 3)
    assert lake.migrate(4).partitions == lake.remembered.partitions == broker.partitions(lake.topic) == 4
    assert ends(broker, lake.topic, 4) == {0: 3, 1: 3, 2: 0, 3: 0} and lake.pauses
    with pytest.raises(Misused, match="declare partitions=4"):
        prepare_topics(lake.app(), broker, NOW)
    assert prepare_topics(lake.app(partitions=4), broker, NOW)[lake.topic] == 4


@pytest.mark.parametrize(
    ("offsets", "told"),
    [
        ((3, 2), r"flow index has read {}/1 up to 2, which ends at 3: 1 to go"),
        ((1,), r"flow index has read {}/0 up to 1, which ends at 3: 2 to go; flow index has read nothing of {}/1, .*: 3 to go"),
        ((), r"flow index has read nothing of {}/0, which ends at 3: 3 to go"),
    ],
)
def test_what_is_unread_holds_it_up(lake: Lake, broker, offsets, told):
    """Flow, partition and how far are named; nothing is changed."""
    if offsets:
        lake.reads("index", *offsets)
    with pytest.raises(Behind, match=told.format(lake.topic, lake.topic)):
        lake.migrate(4)
    assert broker.partitions(lake.topic) == lake.remembered.partitions == 2


def test_whoever_accepts_the_loss_of_order_may_go_on(lake: Lake):
    """--unread says so; nothing but order is at stake."""
    assert lake.migrate(4, unread=True).partitions == 4


def test_every_flow_that_reads_it_counts(lake: Lake, broker):
    """One the application does not declare as well, if it has read from the topic; flows of another application do not."""
    lake.reads("index", 3, 3)
    lake.reads("bridge", 1, 3)
    with pytest.raises(Behind, match=rf"^flow bridge has read {lake.topic}/0 up to 1"):
        lake.migrate(4)
    check_read(App("elsewhere"), broker, lake.topic, {0: 3, 1: 3})


def test_events_that_still_come_hold_it_up(lake: Lake, broker):
    """The ends must stand still before; then nothing is changed."""
    lake.reads("index", 3, 3)
    lake.paused = lambda: lake.write(1)
    with pytest.raises(Behind, match=f"events still come: {lake.topic}/0 went from 3 to 4. Stop the producers"):
        lake.migrate(4)
    assert broker.partitions(lake.topic) == 2


def test_events_that_came_while_it_grew_are_not_accepted(lake: Lake, broker, monkeypatch):
    """The new layout is not remembered, so that a start refuses it still."""
    lake.reads("index", 3, 3)
    grow = broker.grow

    def growing(topic: str, partitions: int) -> None:
        grow(topic, partitions)
        lake.write(1)

    monkeypatch.setattr(broker, "grow", growing)
    with pytest.raises(Behind, match="events still come"):
        lake.migrate(4)
    assert lake.remembered.partitions == 2
    with pytest.raises(Misused, match="had 2 partitions and has 4"):
        prepare_topics(lake.app(partitions=4), broker, NOW)


def test_what_an_operator_grew_is_accepted(lake: Lake, broker):
    """A start refuses it and names the command; the command asks for the same and then remembers it."""
    broker.grow(lake.topic, 3)
    with pytest.raises(Misused, match=f"had 2 partitions and has 3 at the broker.*headwater topics migrate {lake.topic}"):
        prepare_topics(lake.app(), broker, NOW)
    with pytest.raises(Behind, match="flow index has read nothing"):
        lake.migrate()
    lake.reads("index", 3, 3)
    assert lake.migrate().partitions == 3
    assert prepare_topics(lake.app(partitions=3), broker, NOW)[lake.topic] == 3


def test_marks_of_transactions_are_not_unread_events(lake: Lake, broker):
    """A reader never sees them: its offset stays before the mark at the end."""
    producer = broker.producer(transactional_id=lake.name)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(lake.topic, b"{}", b"k", partition=0)
    producer.commit_transaction(30)
    found = ends(broker, lake.topic, 2)
    assert found == {0: 5, 1: 3}
    lake.reads("index", 3, 3)
    with pytest.raises(Behind, match=f"{lake.topic}/0 up to 3, which ends at 5: 1 to go"):
        check_read(lake.app(), broker, lake.topic, found)
    lake.reads("index", 4, 3)
    check_read(lake.app(), broker, lake.topic, found)


def test_a_breaking_model_is_accepted_once_all_is_read(lake: Lake, broker):
    """Former schemas are forgotten then; a version is counted on."""
    app = lake.app(Required)
    with pytest.raises(Misused, match="metres: is new and required"):
        prepare_topics(app, broker, NOW)
    with pytest.raises(Behind, match="flow index has read nothing"):
        lake.migrate(app=app)
    lake.reads("index", 3, 3)
    accepted = lake.migrate(app=app)
    assert (accepted.version, len(accepted.schemas), accepted.partitions) == (2, 1, 2)
    assert prepare_topics(app, broker, NOW)[lake.topic] == 2


def test_settings_are_applied(lake: Lake, broker):
    """As declared, and no others; nothing has to be read for it."""
    assert lake.migrate(app=lake.app(retention="1d")).version == 1
    assert broker.settings([lake.topic])[lake.topic]["retention.ms"] == "86400000"
    assert examine(lake.app(retention="1d"), broker, lake.topic, None).steps == []


def test_what_cannot_be_migrated(lake: Lake, broker):
    """Other names, our own topics, fewer partitions, a topic that is not there, offsets beyond its end: each with a reason."""
    for topic, told in (("nothing", "no topic 'nothing' that could be migrated"), ("headwater.activations", "no topic 'headwater.act")):
        with pytest.raises(Misused, match=told):
            examine(lake.app(), broker, topic, None)
    with pytest.raises(Misused, match="cannot get fewer"):
        examine(lake.app(), broker, lake.topic, 1)
    lake.reads("index", 9, 3)
    with pytest.raises(Misused, match=f"{lake.topic}/0 up to 9, and it ends at 3: the topic was made anew"):
        lake.migrate(4)
    lake.topic = f"{lake.topic}-new"
    with pytest.raises(Misused, match="is not at the broker"):
        examine(lake.app(), broker, lake.topic, 4)


APPLICATION = """
from pydantic import BaseModel
from headwater import App, Document, Topic, document

class Reading(BaseModel):
    id: str
    gauge: str
    metres: float{default}

readings = Topic("{topic}", Reading, key="gauge", partitions=2, retention="2d")

@document(readings)
def level(reading, facts):
    return Document(id=reading.gauge, text=reading.id)

app = App("{name}", documents=[level])
"""


@pytest.fixture
def headwater(broker, tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """The command, in this process, with no terminal to ask."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
        monkeypatch.setenv("HEADWATER_KAFKA__BOOTSTRAP_SERVERS", broker.address)
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr(sys, "argv", ["headwater", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return int(code or 0), "".join(capsys.readouterr())

    return run


def test_the_command_changes_nothing_unless_told(lake: Lake, headwater, tmp_path):
    """A dry run without --yes; exit 75 while something is unread; then done, and told what to declare."""
    path = tmp_path / "lake.py"
    path.write_text(APPLICATION.format(topic=lake.topic, name=lake.name, default=""))
    code, told = headwater("topics", "migrate", lake.topic, str(path))
    assert code == 0 and "metres: is new and required; that is accepted" in told and "nothing was changed; --yes does it" in told
    assert f"{lake.topic}: retention.ms becomes 172800000" in told
    code, told = headwater("topics", "migrate", lake.topic, str(path), "--yes")
    assert code == 75 and "flow index has read nothing" in told
    write_run_file(tmp_path, app=lake.name)
    code, told = headwater("topics", "migrate", lake.topic, str(path), "--yes")
    assert code == 75 and f"(pid {os.getpid()}) and takes events for {lake.topic}: stop it" in told
    remove_run_file(tmp_path)
    lake.reads("index", 3, 3)
    assert headwater("topics", "migrate", lake.topic, str(path), "--yes", "--dry-run")[0] == 0 and lake.remembered.version == 1
    code, told = headwater("topics", "migrate", lake.topic, str(path), "--yes")
    assert code == 0 and "version 2 of its model counts" in told
    assert lake.remembered.version == 2
    assert "nothing to do" in headwater("topics", "migrate", lake.topic, str(path), "--yes")[1]


def test_topics_lists_unless_a_command_is_named(lake: Lake, broker, headwater, tmp_path):
    """With an application, an option, or neither; what the broker has and what is remembered stand beside what is declared."""
    path = tmp_path / "lake.py"
    path.write_text(APPLICATION.format(topic=lake.topic, name=lake.name, default=" = 0.0"))
    for arguments in ([str(path)], ["list", str(path)]):
        code, told = headwater("topics", *arguments)
        assert code == 0 and lake.topic in told and "2d" in told and "(version 1)" in told
    assert '"at broker": 2' in headwater("topics", "--json", str(path))[1]
    assert '"asyncapi": "3.1.0"' in headwater("topics", str(path), "--asyncapi")[1]
    assert headwater("topics", "elsewhere.py")[0] == 2
    broker.properties["bootstrap.servers"] = "127.0.0.1:9"
    code, told = headwater("topics", str(path))
    assert code == 0 and "only what is declared: no broker answers" in told and lake.topic in told
    code, told = headwater("topics", "--help")
    assert code == 0 and "migrate" in told


def test_flows_go_on_over_a_grown_topic(broker, name, tmp_path):
    """What a real flow has read counts as read; after the growth it reads the new partitions too, and nothing twice."""
    lake = Lake(broker, name)
    settings = Settings(home=tmp_path, kafka=broker.properties)

    def run(app: App, offsets: dict[int, int]) -> dict[str, int]:
        """Until the index has come to these offsets; gives what it counted."""
        with Up(app, settings, flows=("index",), http=False, embedder=HashEmbedder()) as up:
            reached = {(name, partition): offset for partition, offset in offsets.items()}
            assert up.run.meter.await_reached("index", reached, 90), up.failure
        return up.run.meter.counts()

    assert run(lake.app(), {0: 3, 1: 3}) == {"dead_lettered": 6}
    check_read(lake.app(), broker, name, {0: 3, 1: 3})
    assert lake.migrate(3).partitions == 3
    Writer(broker, "").write([Outgoing(name, b"k", b'{"id": "a", "gauge": "b"}', [("ce_id", b"after")], 2)])
    assert run(lake.app(partitions=3), {2: 1}) == {"indexed": 1}
    assert committed(broker, group_of(lake.name, "index"), name, {0: 0, 1: 0, 2: 0}) == {0: 3, 1: 3, 2: 1}
