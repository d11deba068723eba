"""The event codec, checked against the CloudEvents SDK."""

import contextlib
import json
from datetime import UTC, datetime

import msgspec
import pytest
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from headwater.lineage.duration import from_datetime
from headwater.lineage.errors import Invalid, Misused, Undecodable
from headwater.lineage.event import Event, Position, from_binary, from_structured, to_binary, to_structured

text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(lambda d: from_datetime(d.replace(tzinfo=UTC)))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
extensions = st.dictionaries(st.from_regex(r"x[a-z0-9]{1,12}", fullmatch=True), text, max_size=3)
events = st.builds(
    Event,
    id=text, source=text, type=text, time=moments, subject=st.none() | text, actor=st.none() | text, traceparent=st.none() | text,
    correlationid=st.none() | text, causationid=st.none() | text, data=values.map(msgspec.json.encode), extensions=extensions,
)  # fmt: skip


def headers_of(message: sdk.KafkaMessage) -> list[tuple[str, bytes]]:
    return list(message.headers.items())


@given(events)
def test_binary_round_trip(event):
    """What is written in binary mode is read back equal."""
    headers, value = to_binary(event)
    assert from_binary(headers, value, topic="t", appended=0) == event


@given(events)
def test_structured_round_trip(event):
    """What is written in structured mode is read back equal."""
    assert from_structured(to_structured(event)) == event
    assert (
        from_binary([("content-type", b"application/cloudevents+json; charset=utf-8")], to_structured(event), topic="t", appended=0)
        == event
    )


@given(events)
def test_the_sdk_reads_ours(event):
    """The SDK reads our binary and structured messages as the same event."""
    headers, value = to_binary(event)
    binary = sdk.from_binary(sdk.KafkaMessage(dict(headers), None, value), JSONFormat())
    structured = sdk.from_structured(sdk.KafkaMessage({}, None, to_structured(event)), JSONFormat())
    for read in (binary, structured):
        assert read.get_id() == event.id
        assert read.get_source() == event.source
        assert read.get_type() == event.type
        assert read.get_subject() == event.subject
        assert from_datetime(read.get_time()) == event.time
        assert read.get_extension("actor") == event.actor
        assert all(read.get_extension(name) == value for name, value in event.extensions.items())
        assert read.get_data() == json.loads(event.data)


@given(events)
def test_we_read_the_sdks(event):
    """We read the SDK's binary and structured messages as the same event."""
    attributes = {"id": event.id, "source": event.source, "type": event.type, "specversion": "1.0", "datacontenttype": "application/json"}
    attributes |= {"time": datetime.fromtimestamp(0, UTC).replace(year=2013), **event.extensions}
    if event.subject is not None:
        attributes["subject"] = event.subject
    theirs = CloudEvent(attributes, {"data": event.json()})  # a dict: the SDK writes bare lists and strings as str(value)
    written = sdk.to_binary(theirs, JSONFormat())
    structured = sdk.to_structured(theirs, JSONFormat())
    for read in (from_binary(headers_of(written), written.value, topic="t", appended=0), from_structured(structured.value)):
        assert (read.id, read.source, read.type, read.subject) == (event.id, event.source, event.type, event.subject)
        assert read.time == from_datetime(attributes["time"])
        assert read.extensions == event.extensions
        assert read.json() == {"data": event.json()}


def test_a_body_of_one_megabyte():
    """A large body travels untouched in both modes."""
    event = Event(id="1", source="s", type="t", time=0, data=msgspec.json.encode({"x": "ü" * 500_000}))
    headers, value = to_binary(event)
    assert from_binary(headers, value, topic="t", appended=0) == event
    assert from_structured(to_structured(event)) == event


def test_binary_data_travels_as_base64():
    """Data that is not JSON survives structured mode."""
    event = Event(id="1", source="s", type="t", time=0, data=b"\x00\xff", datacontenttype="image/png")
    assert from_structured(to_structured(event)) == event


def test_a_plain_message_needs_an_id_only():
    """Source and type default to the topic, time to the append time."""
    event = from_binary([("ce_id", b"7")], b"{}", topic="flights", appended=5)
    assert (event.id, event.source, event.type, event.time) == ("7", "flights", "flights", 5)


@pytest.mark.parametrize("headers", [[], [("ce_type", b"x")], [("ce_id", b"")], [("ce_id", None)]])
def test_a_message_without_id_is_invalid(headers):
    """No id, no event."""
    with pytest.raises(Invalid, match="no id"):
        from_binary(headers, b"{}", topic="flights", appended=5)


def test_of_a_header_given_twice_the_last_counts():
    """Kafka allows a header to be repeated; the last one wins, as with the SDK."""
    assert from_binary([("ce_id", b"1"), ("ce_id", b"2")], b"{}", topic="t", appended=0).id == "2"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([("ce_id", b"\xff")], Undecodable),
        ([("ce_id", b"1"), ("ce_time", b"yesterday")], Invalid),
        ([("content-type", b"application/cloudevents+json")], Undecodable),
    ],
)
def test_rubbish_headers_are_named(headers, error):
    """Headers that cannot be read raise an error of the tree, never anything else."""
    with pytest.raises(error):
        from_binary(headers, b"rubbish", topic="t", appended=0)


def test_another_version_of_the_standard_is_refused():
    """0.3 names its attributes otherwise; it is not read as if it were 1.0."""
    body = b'{"specversion":"%s","id":"a","source":"s","type":"t"}'
    assert from_structured(body % b"1.0").id == "a"
    with pytest.raises(Invalid, match=r"'0\.3'"):
        from_structured(body % b"0.3")


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_structured_reader(body):
    """Any bytes give an event or an error of the tree."""
    with contextlib.suppress(Undecodable, Invalid):
        from_structured(body)


@given(st.uuids().map(str), st.from_regex(r"[a-z.]{1,20}", fullmatch=True), st.integers(0, 99), st.integers(0, 2**60))
def test_a_token_names_its_position(broker, topic, partition, offset):
    """A position and its token are the same thing."""
    position = Position(broker, topic, partition, offset)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize("token", ["", "a/b/c", "a/b/c/d", "a/b/1/2/3"])
def test_a_malformed_token_is_refused(token):
    """A token that is none says so."""
    with pytest.raises(Misused, match="no token"):
        Position.parse(token)
