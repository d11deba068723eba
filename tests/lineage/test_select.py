"""Select: headers alone tell the same as the decoded event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.lineage.errors import Misused
from headwater.lineage.event import STRUCTURED, Event, from_binary, to_binary, to_structured
from headwater.lineage.select import Select, together, unwanted

TYPES = ("reading", "reading.corrected", "t")
ORIGINS = ("http", "webhook/crm", "webhook/erp", "drop/inbox", "")
CONTENTS = ("application/json", "application/json; charset=utf-8", "Text/CSV", "application/cloudevents-batch+json", "")


def some(words):
    return st.one_of(st.just(()), st.lists(st.sampled_from(words), min_size=1, max_size=2).map(tuple))


selects = st.tuples(
    some(("low", "normal", "high")), some(("http", "webhook/crm", "webhook/*", "drop/*")), some(("reading", "reading*", "t")),
    some(("application/json", "text/csv")),
).filter(any).map(lambda given: Select(*given))  # fmt: skip


@st.composite
def messages(draw):
    """Headers as a producer may write them: some missing, some given twice, some empty."""
    headers = [("ce_id", b"1")]
    for name, values in (
        ("ce_priority", ("low", "normal", "high", "")), ("ce_origin", ORIGINS), ("ce_type", (*TYPES, "")), ("content-type", CONTENTS)
    ):  # fmt: skip
        headers += [(name, draw(st.sampled_from(values)).encode()) for _ in range(draw(st.integers(0, 2)))]
    return draw(st.permutations(headers))


@given(selects, messages())
def test_headers_tell_what_the_event_tells(select, headers):
    """Whether a message is wanted is the same by its raw headers and by the event decoded from them."""
    event = from_binary(headers, b"{}", topic="t", appended=0)
    assert select.wants(headers, "t") is select.wants_event(event)


@given(selects, messages())
def test_a_structured_message_is_not_told_by_its_headers(select, headers):
    """None: its attributes lie in its value; and the event then tells the same as in binary mode."""
    event = from_binary(headers, b"{}", topic="t", appended=0)
    structured = [("content-type", STRUCTURED.encode())]
    assert select.wants(structured, "t") is None
    again = from_binary(structured, to_structured(event), topic="t", appended=0)
    assert select.wants_event(again) is select.wants_event(event)
    assert select.wants(to_binary(again)[0], "t") is select.wants_event(event)


@given(st.lists(selects, max_size=3), messages())
def test_a_message_is_unwanted_if_nobody_wants_it(given_selects, headers):
    """Of several subscribers one is enough; nobody who selects: everything is wanted."""
    nobody = bool(given_selects) and not any(select.wants(headers, "t") for select in given_selects)
    assert unwanted(given_selects, headers, "t") is nobody


def test_one_who_wants_all_makes_all_wanted():
    """`together` of subscribers is empty as soon as one of them selects nothing."""
    one, other = Select(priority="high"), Select(type="reading")
    assert together([one, other, one]) == (one, other)
    assert together([one, None]) == together([]) == ()


@pytest.mark.parametrize(("wrong", "told"), [({"priority": "urgent"}, "'urgent' is none of low, normal, high"), ({}, "at least one")])
def test_what_selects_nothing_that_there_is_is_refused(wrong, told):
    """Misused, naming what is wrong."""
    with pytest.raises(Misused, match=told):
        Select(**wrong)


def test_an_event_without_priority_is_normal():
    """Producers that know nothing of priorities are neither urgent nor not."""
    assert Select(priority="normal").wants_event(Event(id="1", source="s", type="t", time=0))
    assert not Select(priority=("low", "high")).wants_event(Event(id="1", source="s", type="t", time=0))
