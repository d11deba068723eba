"""Large messages: none kills a flow, whether it comes from a user, is a dead letter, or is what we have to tell about it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import ConfigResource
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.enrichers.document import Document, DocumentType
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import App
from headwater.flows.attempt import CAUSE, ERROR, FLOW, ID, ORIGIN, TRUNCATED
from headwater.flows.deadletter import bury, fitted
from headwater.flows.drain import drain
from headwater.flows.kafka import LARGEST_MESSAGE, Kafka
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing, Writer
from headwater.flows.steps import BYTES_PER_MESSAGE, RECORDS_PER_MESSAGE, bury_all, to_lineage
from headwater.flows.up import Up
from headwater.lineage.decode import Failure
from headwater.lineage.errors import Invalid, Misused, Oversized
from headwater.lineage.event import Event, Message, Position
from headwater.lineage.message import decode_batch, encode_batch
from headwater.lineage.record import fact
from headwater.lineage.topic import DEAD, DECISIONS, LINEAGE, Topic

PATIENCE_S = 60.0


class Text(BaseModel):
    id: str
    text: str


texts = Topic("texts", Text, key="id")


def _of(text: Text, facts: object) -> Document:
    return Document(text.id, text.text)


def words(size: int, seed: int) -> str:
    """About so many bytes of text."""
    return " ".join(f"word{seed}x{n:06d}" for n in range(size // 13))


def text_events(*sizes: int) -> list[Event]:
    return [
        Event(id=f"e{n}-{size}", source="t", type="t", time=1_000_000 + n, data=texts.encode(Text(id=f"d{n}-{size}", text=words(size, n))))
        for n, size in enumerate(sizes)
    ]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    app = App("sizes", documents=[DocumentType("text", texts, _of)], root=Path("."))
    settings = Settings(home=tmp_path_factory.mktemp("sizes"), http_port=0)
    with Up(app, settings, http=False, embedder=HashEmbedder()) as running:
        yield running
        assert running.failure is None


def told_of(up: Up, documents: set[str]) -> dict[str, list[str]]:
    """The chunks' texts by document, once lineage knows of all these documents; while the flows run."""
    until = time.monotonic() + PATIENCE_S
    while not documents <= (found := chunks(up)).keys():
        assert up.failure is None
        assert time.monotonic() < until, f"lineage knows of {sorted(found)}"
        time.sleep(0.1)
    return found


def chunks(up: Up) -> dict[str, list[str]]:
    """What lineage knows of the documents' chunks."""
    found: dict[str, list[str]] = {}
    for message in drain(up.run.kafka, LINEAGE, 0, 0):
        for record in decode_batch(message.value or b""):
            if record.kind == "document":
                found.setdefault(record.ref, []).extend(chunk["text"] for chunk in record.data["chunks"])
    return found


@pytest.mark.parametrize("sizes", [(900_000,), (16_000,) * 64], ids=["one of 900 KB", "64 of 16 KB"])
def test_large_events_go_through_whole(up, sizes):
    """What a topic takes is indexed, and its record lies in lineage whole, though it holds all the texts of its chunks."""
    events = text_events(*sizes)
    up.gateway.publish(texts, events)
    given = [texts.decode(event.data) for event in events]
    told = told_of(up, {f"text/{text.id}" for text in given})
    for text in given:
        assert {word for chunk in told[f"text/{text.id}"] for word in chunk.split()} == set(text.text.split())


def test_a_message_larger_than_the_topic_takes_is_a_dead_letter_and_the_flow_goes_on(up):
    """5 MB of anything, from a producer that knows nothing of us: whole on the dead-letter topic; the next event is indexed."""
    garbage = b"x" * 5_000_000
    producer = Producer({"bootstrap.servers": up.run.kafka.address, "message.max.bytes": 10_000_000})
    producer.produce("texts", garbage, headers=[("ce_id", b"garbage")])
    assert producer.flush(60) == 0
    up.gateway.publish(texts, [Event(id="after", source="t", type="t", time=9, data=b'{"id":"after","text":"snow"}')])
    assert told_of(up, {"text/after"})["text/after"] == ["snow"]
    [letter] = [m for m in drain(up.run.kafka, DEAD, 0, 0) if dict(m.headers)["ce_id"] == b"garbage"]
    assert letter.value == garbage and dict(letter.headers)[CAUSE] == b"oversized"


def test_a_request_too_large_for_any_message_is_refused(up):
    """Oversized (HTTP 413) before anything of the request is produced; the process goes on."""
    before = len(drain(up.run.kafka, "texts", 0, 0))
    fine, large = text_events(10, 20)
    with pytest.raises(Oversized, match="texts"):
        up.gateway.publish(texts, [fine, Event(id="l", source="t", type="t", time=9, data=large.data, extensions={"x": "y" * 21_000_000})])
    assert len(drain(up.run.kafka, "texts", 0, 0)) == before
    assert Oversized.status == 413


def test_topics_are_made_for_messages_as_large_as_we_send(kafka, name):
    """A topic takes what a producer of ours may send; the largest arrives as it was."""
    kafka.create({name: 1})
    resource = ConfigResource("topic", name)
    limit = kafka.admin.describe_configs([resource])[resource].result(60)["max.message.bytes"].value
    assert int(limit) > LARGEST_MESSAGE
    value = b"y" * (LARGEST_MESSAGE - 1000)
    Writer(kafka, "b").write([Outgoing(name, b"k", value, [("h", b"v")])])
    assert [message.value for message in drain(kafka, name, 0, 0)] == [value]


class Admin:
    """A broker that lets no topic have a size limit of its own."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, str]] = {}

    def list_topics(self, timeout: float) -> "Admin":
        return self

    @property
    def topics(self) -> dict[str, "Admin"]:
        return dict.fromkeys(self.made, self)

    error, partitions = None, (0,)

    def create_topics(self, new):
        return {topic.topic: Answer(self, topic) for topic in new}


class Answer:
    def __init__(self, admin: Admin, topic) -> None:
        self.admin, self.topic = admin, topic

    def result(self, timeout: float) -> None:
        if "max.message.bytes" in self.topic.config:
            raise KafkaException(KafkaError(KafkaError.POLICY_VIOLATION, "no"))
        self.admin.made[self.topic.topic] = self.topic.config


def test_a_broker_that_keeps_its_own_limit_gets_topics_without_one():
    """What else is configured stays: compaction, and a journal that never expires."""
    kafka = Kafka({"bootstrap.servers": "nowhere"})
    kafka._admin = admin = Admin()
    kafka.create({"a": 1, "b": 1, DECISIONS: 1}, ["b"])
    assert admin.made == {"a": {}, "b": {"cleanup.policy": "compact"}, DECISIONS: {"retention.ms": "-1"}}


def test_the_limit_is_a_setting():
    """Whoever runs a broker that takes less says so once."""
    assert Kafka({"bootstrap.servers": "x"}).largest == LARGEST_MESSAGE
    assert Kafka({"bootstrap.servers": "x", "message.max.bytes": "1000000"}).largest == 1_000_000
    with pytest.raises(Misused, match="much"):
        _ = Kafka({"bootstrap.servers": "x", "message.max.bytes": "much"}).largest


class Refusing:
    """A producer whose broker takes no message above a size."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, []

    def produce(self, topic, value, key, headers, on_delivery, **more):
        size = len(value or b"")
        error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if size > self.limit else None
        if error is None:
            self.taken.append(Outgoing(topic, key, value, headers))
        on_delivery(error, Delivered(topic, len(self.taken)))

    def flush(self, seconds):
        return 0


class Delivered:
    def __init__(self, topic: str, offset: int) -> None:
        self._topic, self._offset = topic, offset

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self):
        return None


def failure(size: int, headers: list[tuple[str, bytes]], key: bytes | None = b"k") -> Failure:
    return Failure(Message("t", 0, 7, 0, key, b"v" * size, headers), Position("b", "t", 0, 7), Invalid("no"))


def test_what_only_the_broker_finds_too_large_is_oversized_too():
    """Terminal, and said as it is: sending it again would not help."""
    with pytest.raises(Oversized, match="MESSAGE_MAX_BYTES"):
        Writer(Kafka({"bootstrap.servers": "x"}), "b", producer=Refusing(10)).write([Outgoing("t", None, b"v" * 11, [])])


def test_dead_letters_a_broker_refuses_are_cut_to_what_every_broker_takes():
    """The flow that buries goes on; nothing is lost but the end of the value, and the letter says so."""
    producer = Refusing(1_000_000)
    writer = Writer(Kafka({"bootstrap.servers": "x"}), "b", producer=producer)
    records = bury_all("index", [failure(2_000_000, []), failure(5, [])], writer, 0, own=True)
    large, small = producer.taken[-2:]
    assert len(records) == 2
    assert dict(large.headers)[TRUNCATED] == b"2000000" and 700_000 < len(large.value) <= BYTES_PER_MESSAGE
    assert small.value == b"v" * 5 and TRUNCATED not in dict(small.headers)


@given(
    st.integers(0, 9000),
    st.lists(st.tuples(st.sampled_from(["a", "ce_id", ERROR, TRUNCATED]), st.binary(max_size=3000) | st.none()), max_size=4),
    st.none() | st.binary(max_size=3000),
    st.integers(3000, 9000),
)
def test_a_dead_letter_fits(size, headers, key, largest):
    """Whatever the key, headers and value were: never larger than the limit, where it came from always told, and untouched if it fits."""
    [message], _ = bury("index", [failure(size, headers, key)], 0)
    letter = fitted(message, largest)
    assert letter.size <= largest
    last = dict(letter.headers)
    assert [last[name] for name in (CAUSE, ERROR, ORIGIN, FLOW)] == [b"invalid", b"no", b"b/t/0/7", b"index"] and last[ID]
    assert (letter == message) == (message.size <= largest)
    if letter != message:
        assert last[TRUNCATED] == str(size).encode() and (b"v" * size).startswith(letter.value)


@given(st.lists(st.sampled_from([10, 100_000, 390_000, 700_000, 1_500_000]), max_size=8))
def test_lineage_is_cut_by_bytes_and_by_number(sizes):
    """Every record arrives once, in order and whole; no message of several records exceeds what every broker takes."""
    records = [fact("note", "f", "s", str(n), logged=n, data={"text": "é" * (size // 2)}) for n, size in enumerate(sizes)]
    messages = to_lineage("f", records)
    assert [record for message in messages for record in decode_batch(message.value)] == records
    shared = [message for message in messages if len(decode_batch(message.value)) > 1]
    assert all(len(message.value) <= BYTES_PER_MESSAGE + RECORDS_PER_MESSAGE for message in shared)


def test_many_small_records_share_messages_as_before():
    """A few hundred in each."""
    records = [fact("note", "f", "s", str(n), logged=n) for n in range(2 * RECORDS_PER_MESSAGE + 1)]
    messages = to_lineage("f", records)
    assert [len(decode_batch(message.value)) for message in messages] == [RECORDS_PER_MESSAGE, RECORDS_PER_MESSAGE, 1]
    assert to_lineage("f", []) == []


@pytest.mark.parametrize(("texts_of", "form"), [([30_000] * 3, True), ([1] * 30_000, False)], ids=["long texts", "too many"])
def test_a_record_that_no_message_holds_is_cut_and_says_so(texts_of, form):
    """Its ids and position stay, its form too if that is enough; `cut` tells how large it was."""
    data = {"chunks": [{"id": str(n), "text": "x" * size} for n, size in enumerate(texts_of)]}
    large = fact("document", "index", "upsert", "d", logged=1, where=Position("b", "t", 0, 7), data=data)
    small = fact("note", "index", "s", "n", logged=1)
    messages = to_lineage("index", [small, large, small], largest=20_000)
    assert all(message.size <= 20_000 for message in messages)
    first, cut, last = [record for message in messages for record in decode_batch(message.value)]
    assert first == last == small
    assert (cut.id, cut.position, cut.data["cut"]) == (large.id, large.position, len(encode_batch([large])) - 2)
    assert ([chunk["id"] for chunk in cut.data.get("chunks", [])] == [str(n) for n in range(len(texts_of))]) == form
