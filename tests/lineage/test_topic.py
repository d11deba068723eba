"""Topics: models decode, and what does not is told apart."""

import contextlib
from typing import Literal

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.lineage.decode import decode
from headwater.lineage.duration import duration, format_time, parse_time
from headwater.lineage.errors import HeadwaterError, Invalid, Misused, Oversized, Undecodable
from headwater.lineage.event import Message
from headwater.lineage.topic import Topic


class Fast(msgspec.Struct):
    id: str
    status: Literal["due", "departed"]


class Rich(pydantic.BaseModel):
    id: str
    status: Literal["due", "departed"]


@pytest.mark.parametrize("model", [Fast, Rich])
def test_a_topic_decodes_what_it_encodes(model):
    """encode and decode are each other's inverse, with both kinds of model."""
    topic = Topic("t", model, key="id")
    data = model(id="7", status="due")
    assert topic.decode(topic.encode(data)) == data
    assert topic.key_of(data) == "7"


@pytest.mark.parametrize("model", [Fast, Rich])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"rubbish", Undecodable),
        (b"", Undecodable),
        (b"\xff\xfe", Undecodable),
        (b'{"id":"7"}', Invalid),
        (b'{"id":"7","status":"gone"}', Invalid),
        (b"[]", Invalid),
        (b'{"id":"' + b"x" * 2000 + b'"}', Oversized),
    ],
)
def test_what_a_topic_refuses_has_its_cause(model, value, error):
    """Not JSON, not the model, too large: three causes, the same for both kinds of model."""
    with pytest.raises(error):
        Topic("t", model, max_bytes=1000).decode(value)


class Level(pydantic.BaseModel):
    id: str
    metres: float


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_json_number_is_undecodable(word):
    """JSON has no such numbers, whatever the model's library takes: other readers would fail on them. In a text they are letters."""
    with pytest.raises(Undecodable):
        Topic("t", Level).decode(b'{"id":"7","metres":%s}' % word)
    assert Topic("t", Level).decode(b'{"id":"%s","metres":1}' % word).id == word.decode()


@pytest.mark.parametrize("model", [Fast, Rich])
@given(value=st.binary(max_size=100))
def test_no_bytes_crash_a_topic(model, value):
    """Any bytes give a model or an error of the tree."""
    with contextlib.suppress(Undecodable, Invalid):
        Topic("t", model).decode(value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "headwater.x"}, "headwater's own"),
        ({"partitions": 0}, "at least 1"),
        ({"key": "nope"}, "no field of Fast"),
        ({"lateness": "soon"}, "no duration"),
    ],
)
def test_a_wrong_declaration_says_what(arguments, words):
    """A topic that cannot be is refused when it is declared."""
    with pytest.raises(Misused, match=words):
        Topic(**{"name": "t", "model": Fast, **arguments})


@given(st.integers(0, 4_102_444_800_000_000))
def test_instants_round_trip(us):
    """An instant's text is the instant."""
    assert parse_time(format_time(us)) == us


@pytest.mark.parametrize(
    ("text", "us"), [("1h", 3_600_000_000), ("1h 30m", 5_400_000_000), ("250ms", 250_000), ("1.5s", 1_500_000), ("2d", 172_800_000_000)]
)
def test_durations(text, us):
    """Durations read as people write them."""
    assert duration(text) == us


def test_a_forged_timestamp_is_a_failure_not_a_fall():
    """A producer may set a message's timestamp to anything; what no time can be is refused, and the rest of the batch goes on."""
    ids = [("ce_id", b"1")]
    messages = [Message("t", 0, n, stamp, None, b'{"id":"7","status":"due"}', ids) for n, stamp in enumerate((2**62, -1, 0))]
    received, failures = decode(Topic("t", Fast), "b", messages)
    assert [one.position.offset for one in received] == [2]
    assert [(each.position.offset, each.error.cause) for each in failures] == [(0, "invalid"), (1, "invalid")]


@pytest.mark.parametrize("model", [Fast, Rich])
@pytest.mark.parametrize("wrong", [b"{", b'{"id":"1","status":"lost"}', b'{"id":"' + b"1" * 200 + b'","status":"due"}', b"\xff", b""])
def test_many_decode_as_each_does(model, wrong):
    """`decode_all` gives what `decode` gives one by one; where one is wrong it raises what `decode` raises for that one."""
    topic = Topic("t", model, max_bytes=100)
    values = [b'{"id":"%d","status":"due"}' % n for n in range(20)]
    assert topic.decode_all(values) == [topic.decode(value) for value in values]
    assert topic.decode_all([]) == []
    with pytest.raises(HeadwaterError) as one:
        topic.decode(wrong)
    with pytest.raises(type(one.value)) as many:
        topic.decode_all([*values[:7], wrong, *values[7:]])
    assert str(many.value) == str(one.value)
