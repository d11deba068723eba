"""The gateway: any body becomes events, or is refused before anything is produced."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.flows.app import FILES, FILES_TOPIC, FileText
from headwater.flows.gateway import AHEAD, BATCH, LARGEST, NDJSON, Gateway
from headwater.lineage.decode import MARK
from headwater.lineage.errors import HeadwaterError, Invalid, NotFound, Oversized, Undecodable
from headwater.lineage.event import JSON, STRUCTURED, Event, Position, to_structured
from headwater.lineage.topic import Topic

NOW = 1_900_000_000_000_000


class Reading(BaseModel):
    id: str
    metres: float


readings = Topic("readings", Reading, key="id", max_bytes=1000)


class Writer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list = []

    def write(self, messages):
        found = list(messages)
        self.messages += found
        return [Position("b", message.topic, 0, n) for n, message in enumerate(found)]


@pytest.fixture
def writer():
    return Writer()


def gateway(writer) -> Gateway:
    numbers = iter(range(10**6))
    return Gateway({"readings": readings}, writer, lambda: NOW, lambda: f"id{next(numbers)}")


def body(*metres: float) -> bytes:
    return json.dumps([{"id": str(n), "metres": each} for n, each in enumerate(metres)]).encode()


def test_an_unknown_topic_names_those_there_are(writer):
    """404, with the names."""
    with pytest.raises(NotFound, match=r"no topic 'rivers'.*readings"):
        gateway(writer).topic("rivers")


def test_what_came_together_keeps_its_order(writer):
    """Events of one body have increasing times, for equal times would be put in order by their random ids."""
    for kind, data in ((JSON, body(1, 2, 3)), (NDJSON, b"1\n2\n3")):
        assert [event.time - NOW for event in gateway(writer).events(readings, data, kind)] == [0, 1, 2]
    batch = [json.loads(to_structured(Event(id=str(n), source="s", type="t", time=0))) for n in range(3)]
    for each in batch:
        del each["time"]
    assert [event.time - NOW for event in gateway(writer).events(readings, json.dumps(batch).encode(), BATCH)] == [0, 1, 2]


def test_events_are_keyed_as_the_topic_says(writer):
    """The key is the value of the topic's key field; positions come back in the order given."""
    door = gateway(writer)
    accepted = door.publish(readings, door.events(readings, body(1, 2)))
    assert [message.key for message in writer.messages] == [b"0", b"1"]
    assert [each.position.offset for each in accepted] == [0, 1]
    assert [each.event.id for each in accepted] == ["id0", "id1"]


@pytest.mark.parametrize("wrong", [b'{"id":"1"}', b'{"id":"1","metres":"much"}', b"nonsense", b'{"id":"' + b"x" * 1000 + b'","metres":1}'])
def test_nothing_is_produced_of_a_body_with_one_wrong_event(writer, wrong):
    """All of a request or nothing of it."""
    door = gateway(writer)
    with pytest.raises((Invalid, Undecodable, Oversized)):
        door.publish(readings, door.events(readings, b'{"id":"1","metres":1}\n' + wrong, NDJSON))
    assert writer.messages == []


@given(st.binary(max_size=200), st.sampled_from([JSON, STRUCTURED, BATCH, NDJSON, "text/plain", ""]))
def test_any_body_is_events_or_one_of_our_errors(data, kind):
    """Whatever bytes come, the answer is events or a HeadwaterError, never another exception."""
    writer = Writer()
    door = gateway(writer)
    try:
        door.publish(readings, door.events(readings, data, kind))
    except HeadwaterError:
        assert writer.messages == []


def test_a_body_too_large_is_refused(writer):
    """Oversized, before it is parsed."""
    with pytest.raises(Oversized):
        gateway(writer).events(readings, b" " * (LARGEST + 1))


def test_another_version_of_the_standard_is_refused_in_headers_too(writer):
    """Binary mode: 1.0, or not said; the body of another version is not taken."""
    door = gateway(writer)
    assert door.events(readings, body(1.0), JSON, {"ce-id": "a", "ce-specversion": "1.0"})
    with pytest.raises(Invalid, match=r"'0\.3'"):
        door.events(readings, body(1.0), JSON, {"ce-id": "a", "ce-specversion": "0.3"})


def test_header_names_are_read_in_any_case(writer):
    """HTTP headers know no case and only ASCII: the attributes come out in small letters, percent-decoded."""
    headers = {"CE-Id": "mine", "Ce-Source": "/s", "ce-type": "t", "CE-Custom": "Z%C3%BCrich%20%25"}
    [event] = gateway(writer).events(readings, b'{"id":"1","metres":1}', JSON, headers)
    assert (event.id, event.source, event.type, event.extensions) == ("mine", "/s", "t", {"custom": "Zürich %"})


@pytest.mark.parametrize("kind", [MARK, "headwater.", "headwater.file.gone"])
def test_event_types_of_our_own_are_refused(writer, kind):
    """A time mark from outside would make every later event of its partition late: types under headwater. are Invalid, in every form."""
    door = gateway(writer)
    structured = to_structured(Event(id="m", source="s", type=kind, time=NOW, data=b'{"id":"1","metres":1}'))
    headers = {"ce-id": "m", "ce-source": "s", "ce-type": kind}
    for events in (
        door.events(readings, structured, STRUCTURED),
        door.events(readings, b"[" + structured + b"]", BATCH),
        door.events(readings, b'{"id":"1","metres":1}', JSON, headers),
    ):
        with pytest.raises(Invalid, match=r"the event for readings: type 'headwater\..*use another"):
            door.publish(readings, events)
    assert writer.messages == []


def test_topics_of_our_own_are_not_for_what_comes_from_outside(writer):
    """NotFound, though the application has them among its topics; and the message does not offer them."""
    door = Gateway({"readings": readings, FILES: FILES_TOPIC}, writer, lambda: NOW)
    with pytest.raises(NotFound, match=r"declares readings$"):
        door.topic(FILES)


def test_what_we_publish_ourselves_is_not_questioned(writer):
    """The watched files go to their own topic, under types of our own, with whatever time the file bears."""
    data = FILES_TOPIC.encode(FileText("a.md", "text", 1))
    event = Event(id="f", source="headwater/files", type="headwater.file.changed", time=NOW + 10 * AHEAD, data=data)
    [accepted] = Gateway({}, writer, lambda: NOW).publish(FILES_TOPIC, [event])
    assert accepted.position.topic == FILES


@pytest.mark.parametrize(("ahead", "fine"), [(0, True), (AHEAD, True), (AHEAD + 1, False), (30 * 24 * AHEAD, False)])
def test_events_from_the_future_are_refused(writer, ahead, fine):
    """One event dated a month ahead would make all others of its partition late: Invalid, saying how far ahead it lies."""
    door = gateway(writer)
    events = [Event(id=str(n), source="s", type="t", time=time, data=b'{"id":"1","metres":1}') for n, time in enumerate((5, NOW + ahead))]
    if fine:
        assert len(door.publish(readings, events)) == 2
    else:
        with pytest.raises(Invalid, match=rf"event 2 of 2 for readings: its time lies {ahead / AHEAD:.1f} h ahead of the clock"):
            door.publish(readings, events)
        assert writer.messages == []


def test_how_far_ahead_is_too_far_can_be_said(writer):
    """`ahead` in µs."""
    door = Gateway({"readings": readings}, writer, lambda: NOW, ahead=0)
    with pytest.raises(Invalid, match="at most 0 h"):
        door.publish(readings, [Event(id="1", source="s", type="t", time=NOW + 1, data=b'{"id":"1","metres":1}')])
