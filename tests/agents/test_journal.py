import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.agent import Option
from headwater.agents.book import Book
from headwater.agents.journal import Answered, Calling, Decided, Done, Judged, Outgoing, Started, decode, decode_page, encode, pages
from headwater.agents.testing import Died, MemoryJournal, MemoryLog
from headwater.lineage.errors import Undecodable
from headwater.lineage.record import fact

words = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words, lambda inner: st.lists(inner, max_size=2), max_leaves=3
)
outgoings = st.builds(
    Outgoing, id=words, ordinal=st.integers(0, 9), topic=words, type=words, source=words, time=st.integers(0, 2**53),
    data=values.map(lambda value: msgspec.Raw(msgspec.json.encode(value))), key=st.none() | words,
)  # fmt: skip
callings = st.builds(
    Calling, id=words, ordinal=st.integers(0, 9), tool=words, scope=words, kind=st.sampled_from(["plain", "idempotent", "reconcilable"]),
    arguments=st.dictionaries(words, values, max_size=2),
)  # fmt: skip
options = st.builds(Option, words, st.floats(0, 1))
ids = st.sampled_from(["d0", "d1", "d2"])
decideds = st.builds(
    Decided, id=ids, agent=words, by=words, version=words, digest=words, activation=words, key=words, at=st.integers(0, 2**53),
    state=st.sampled_from(["acted", "waiting", "no_action"]), position=words, choice=values, options=st.tuples(options),
    without=st.dictionaries(words, options, max_size=2), effects=st.lists(outgoings, max_size=2).map(tuple),
    calls=st.lists(callings, max_size=2).map(tuple), review=st.none() | outgoings,
    records=words.map(lambda ref: (fact("note", "decide/x", "decide", ref, logged=1, data={"text": ref}),)),
)  # fmt: skip
startedes = st.builds(Started, id=ids, effect=words, at=st.integers(0, 9))
dones = st.builds(Done, id=ids, effects=st.tuples(words), at=st.integers(0, 9), positions=st.tuples(words))
answers = st.builds(
    Answered, id=ids, effect=words, state=st.sampled_from(["done", "failed", "unknown"]), at=st.integers(0, 9), answer=values, error=words
)
judgeds = st.builds(
    Judged, id=ids, review=words, verdict=st.sampled_from(["approved", "declined", "expired"]), at=st.integers(0, 9), by=words,
    choice=values,
)  # fmt: skip
entries = st.one_of(decideds, startedes, answers, dones, judgeds)


@given(entries)
def test_an_entry_survives_its_message(entry):
    """encode, then decode, is the identity."""
    assert decode(encode(entry)) == entry


@pytest.mark.parametrize("value", [b"", b"{}", b'{"entry": "begun"}', b"\xff"])
def test_what_is_no_entry_is_refused(value):
    """Undecodable, with words, and nothing else."""
    with pytest.raises(Undecodable, match="journal entry"):
        decode(value)


def test_events_are_ready_to_send():
    """The event has the effect's id and exactly the bytes the topic encoded."""
    outgoing = Outgoing(id="e", ordinal=0, topic="plans", type="plans", source="s", time=9, data=msgspec.Raw(b'{"a": 1}'), causationid="d")
    event = (
        decode(
            encode(
                Decided(
                    id="d", agent="a", by="a", version="1", digest="", activation="x", key="k", at=1, state="acted", effects=(outgoing,)
                )
            )
        )
        .effects[0]
        .event
    )
    assert (event.id, event.time, event.data, event.causationid) == ("e", 9, b'{"a": 1}', "d")


@given(st.lists(entries, max_size=8))
def test_the_first_in_log_order_is_the_decision(log):
    """Law 2: of several `decided` of one id the first counts, whatever follows."""
    book = Book(log)
    for decision in ("d0", "d1", "d2"):
        mine = [entry for entry in log if entry.id == decision]
        assert book.decided(decision) == next((entry for entry in mine if isinstance(entry, Decided)), None)
        assert (book.state(decision) == "unknown") == (not mine)
        course = book.course(decision)
        for judged in (entry for entry in mine if isinstance(entry, Judged)):
            assert course.judged[judged.review] == next(e for e in mine if isinstance(e, Judged) and e.review == judged.review)
        for answered in (entry for entry in mine if isinstance(entry, Answered)):
            assert course.answered[answered.effect] == next(e for e in mine if isinstance(e, Answered) and e.effect == answered.effect)


@given(st.lists(entries, max_size=8), st.integers(1, 3))
def test_an_ended_decision_stays_ended(log, kept):
    """After `end`, later entries change nothing, and at most `kept` ends are remembered."""
    book = Book(kept=kept)
    ended = []
    for entry in log:
        book.apply(entry)
        if isinstance(entry, Decided) and book.ended(entry.id) is None:
            book.end(book.decided(entry.id), "acted")
            ended.append(entry)
    for entry in ended[-kept:]:
        book.apply(entry)
        assert book.decided(entry.id) is None and book.state(entry.id) == "done"
        assert book.ended(entry.id).state == "acted"
    assert sum(book.ended(decision) is not None for decision in ("d0", "d1", "d2")) <= kept


def test_dead_stays_dead():
    """A journal that died writes nothing more; what was written before is in the log."""
    log = MemoryLog()
    journal = MemoryJournal(log, lives=1)
    with pytest.raises(Died):
        asyncio.run(journal.append([Started(id="d", effect="e", at=1)]))
    with pytest.raises(Died):
        asyncio.run(journal.append([Started(id="d", effect="f", at=1)]))
    assert log.read() == [Started(id="d", effect="e", at=1)]
    assert log.book().state("d") == "started"


@given(st.lists(st.one_of(decideds, startedes, dones, answers), max_size=12), st.integers(0, 3000))
def test_pages_hold_all_entries_in_order(entries, largest):
    """What is written as pages is read as it was, in order; a page of several entries keeps to its size, give or take its commas."""
    written = list(pages(entries, largest))
    assert [entry for page in written for entry in decode_page(page.value)] == entries == [e for page in written for e in page.entries]
    assert all(len(page.value) <= largest + 2 for page in written if len(page.entries) > 1)
    assert all(page.value == encode(page.entries[0]) for page in written if len(page.entries) == 1)
    with pytest.raises(Undecodable):
        decode_page(b'[{"entry":"done"}]')
