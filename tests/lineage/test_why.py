import io

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.event import Position
from headwater.lineage.names import beginning, number
from headwater.lineage.queries import conservation, cost, decisions, documents, freshness, life, showpiece, why
from headwater.lineage.record import fact
from headwater.lineage.show import why_html, why_tree
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import BROKER, document, landings, name, sample_records

DECISION, ACTIVATION = name("decision"), name("activation")
CHUNK = name("chunk", Position(BROKER, "flights", 0, 0))


@pytest.fixture(scope="module")
def store():
    with Store(":memory:", clock=lambda: 1) as opened:
        opened.land(landings(sample_records()))
        yield opened


@pytest.mark.parametrize(
    ("id", "kind"),
    [
        (DECISION, "decision"), (ACTIVATION, "activation"), (name("effect"), "effect"), (CHUNK, "chunk"),
        ("2013-02-08-EWR-UA-1503/cancelled", "event"), ("flight_status/2013-02-08-EWR-UA-1503", "document"),
        ("2013-02-08-EWR-UA-1503", "document"), (f"{BROKER}/flights/0/3", "position"), ("flights/0@3", "position"),
        (name("dead", Position(BROKER, "flights", 0, 12)), "dead_letter"), ("headwater.activations/0@0", "position"),
    ],
)  # fmt: skip
def test_any_id_is_found_under_its_kind(store, id, kind):
    """Every id that a record names is found, and told as what it is."""
    assert why(store, id).kind == kind


@pytest.mark.parametrize("id", [DECISION, ACTIVATION, name("effect"), CHUNK])
def test_a_unique_beginning_will_do(store, id):
    """Six characters of an id are enough where no other begins so, in any case and with or without dashes."""
    assert why(store, id[:6]).id == why(store, id[:12].upper()).id == why(store, id.replace("-", "")[:20]).id == id


def test_beginnings_of_ids_that_are_no_hex_digits(store):
    """An event or document is found by the beginning of its id too."""
    assert why(store, "2013-02-08-EWR-UA-1503/canc").kind == "event"
    assert why(store, "flight_status/2013-02-08-EWR-UA-1507").documents[0].position == f"{BROKER}/flights/0/7"


def test_ambiguous_beginnings_are_listed(store):
    """Several ids that begin alike are an error that lists them."""
    with pytest.raises(Misused, match="give more characters") as caught:
        why(store, "2013-02-08-EWR")
    assert ["event", "2013-02-08-EWR-UA-1500/cancelled"] in caught.value.details["candidates"]


UNKNOWN = ["nope", "nothing-of-the-kind", "ffffffff", f"{BROKER}/flights/0/999", "flights/7@1", "", "%", "'; DROP TABLE records"]


@pytest.mark.parametrize("id", UNKNOWN)
def test_unknown_ids_say_what_to_do(store, id):
    """An id that nothing names is not found, and the error says what can be asked."""
    with pytest.raises(NotFound, match="no record names"):
        why(store, id)


def test_from_a_decision_back_to_its_events(store):
    """Backwards: activation, its events with what they said, chunks with the choice without them, options, rulings, effects."""
    decision = why(store, DECISION).decisions[0]
    assert (decision.agent, decision.outcome, decision.summary, decision.confidence) == ("recover", "acted", "rebook passengers", 0.81)
    activation = decision.activation
    assert activation.id == ACTIVATION and activation.count == 12
    assert [event.short for event in activation.events] == [f"flights/0@{offset}" for offset in range(11, -1, -1)]
    assert activation.events[0].text == "United flight UA 1511 is cancelled."
    chunks = decision.retrievals[0].results
    assert [(chunk.used, chunk.without.name, chunk.without.confidence) for chunk in chunks] == [
        (True, "keep watching", 0.44), (True, "rebook passengers", 0.79),
    ]  # fmt: skip
    assert decision.options[0].name == "rebook passengers"
    assert decision.rulings[0]["allowed"] is True and decision.models[0]["model"] == "local"
    assert decision.effects[0].position == f"{BROKER}/plans/0/17"


def test_what_was_noted_and_remembered_is_told(tmp_path):
    """A decision tells its notes, among them what held its agent back, and its memory before and after, on every door."""
    records = sample_records()
    decided = next(record for record in records if record.kind == "decision")
    told = {**decided.data, "recalled": {"times": 1}, "remembered": {"times": 2}}
    note = fact("note", decided.flow, "decide", f"{decided.ref}:n0", logged=1, data={"text": "recover is not asked: <b>open</b>"})
    changed = [msgspec.structs.replace(each, data=told) if each is decided else each for each in records]
    with Store(tmp_path / "told.duckdb", clock=lambda: 1) as store:
        store.land(landings([*changed, note]))
        found = why(store, decided.ref)
        decision = found.decisions[0]
        assert [each["text"] for each in decision.notes] == ["recover is not asked: <b>open</b>"]
        assert (decision.recalled, decision.remembered) == ({"times": 1}, {"times": 2})
        page = why_html(found)
        assert "recover is not asked: &lt;b&gt;open" in page and "remembers" in page


def test_of_many_decisions_the_newest_are_told_and_the_others_counted():
    """A text that 53 decisions were shown names the newest 50 and says that there are three before these, in the tree and on the page."""
    records = sample_records()
    ids = [f"{n:08x}-0000-5000-8000-000000000000" for n in range(53)]
    made = [
        fact(each.kind, each.flow, each.step, each.ref.replace(DECISION, id), logged=each.logged, parents=(ACTIVATION,), at=each.at,
             outcome=each.outcome, data=each.data)
        for id in ids for each in records if each.kind in ("decision", "retrieval")
    ]  # fmt: skip
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings([*(record for record in records if record.kind not in ("decision", "retrieval")), *made]))
        for asked in ("flight_status/2013-02-08-EWR-UA-1500", CHUNK, ACTIVATION, "flights/0@3"):
            found = why(store, asked)
            assert ([decision.id for decision in found.decisions], found.more) == (ids[3:], 3)
            console = Console(file=io.StringIO(), width=160)
            console.print(why_tree(found))
            assert "3 decisions before these" in console.file.getvalue() and "3 decisions before these" in why_html(found)
        assert why(store, ids[0]).more == 0


def test_from_an_event_to_its_effects(store):
    """Forwards: the document it became, the outcomes in each flow, the activation it woke, the decision and what that did."""
    found = why(store, "2013-02-08-EWR-UA-1503/cancelled")
    assert [event.outcomes for event in found.events] == [{"detect": "passed", "index": "indexed"}]
    assert [document.id for document in found.documents] == ["flight_status/2013-02-08-EWR-UA-1503"]
    assert [activation.id for activation in found.activations] == [ACTIVATION]
    assert [effect.id for decision in found.decisions for effect in decision.effects] == [name("effect")]


def test_from_what_was_seen_and_what_was_done_to_the_decision(store):
    """A chunk, a document, an effect and the activation's own position lead to the decision."""
    for id in (CHUNK, "2013-02-08-EWR-UA-1500", name("effect"), "headwater.activations/0@0"):
        assert [decision.id for decision in why(store, id).decisions] == [DECISION]
    assert why(store, "2013-02-08-EWR-UA-1503").decisions == ()


def test_a_dead_letter_is_explained():
    """A spoiled message's place tells cause and outcome; a review leads to its decision."""
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings(sample_records(state="waiting")))
        found = why(store, "flights/0@12")
        assert found.dead_letters[0]["cause"] == "undecodable" and found.events[0].outcomes["index"] == "dead_lettered"
        assert why(store, name("review")).decisions[0].outcome == "waiting"


def test_the_newest_life_answers_short_places():
    """`topic/partition@offset` means the newest broker's; a whole token means its own."""
    with Store(":memory:", clock=lambda: 1) as store:
        for n, broker in enumerate(("old", "new")):
            records = [record for record in sample_records(broker) if record.kind in ("consumed", "outcome", "document")]
            store.land([Landing(broker, 0, n, records)])
        assert why(store, "flights/0@3").id == "new/flights/0/3"
        assert why(store, "old/flights/0/3").id == "old/flights/0/3"


def test_one_events_life(store):
    """A life has its stages in the order of time, each with the milliseconds since the one before."""
    stages = life(store, f"{BROKER}/flights/0/11")
    assert [(stage.name, stage.ms) for stage in stages] == [
        ("appended", 0), ("searchable", 41), ("activation", 22), ("decision", 96), ("published", 8),
    ]  # fmt: skip
    assert life(store, Position(BROKER, "flights", 0, 0))[0].name == "appended"
    with pytest.raises(NotFound):
        life(store, Position(BROKER, "flights", 0, 99))


def test_named_questions(store):
    """The named queries agree with the records they were made of."""
    fresh = freshness(store)
    assert (fresh.documents, fresh.p50_ms, fresh.p99_ms) == (12, 41.0, 41.0)
    assert conservation(store).filter(flow="index", outcome="indexed")["positions"].to_list() == [12]
    assert cost(store).filter(unit="input_tokens")["total"].to_list() == [210.0]
    assert showpiece(store) == (DECISION, f"{BROKER}/flights/0/11")
    assert decisions(store, agent="recover", key="EWR", outcome="acted")["choice"].to_list() == ["rebook passengers"]
    assert decisions(store, agent="nobody").is_empty()
    assert decisions(store)["id"].to_list() == [DECISION] and decisions(store, skip=1).is_empty()


def test_documents_are_listed_newest_first():
    """Each document once, by what was last told of it, deleted ones left out; page after page."""
    places = [Position(BROKER, "flights", 0, offset) for offset in range(6)]
    told = [document(place) for place in places]
    again = msgspec.structs.replace(document(Position(BROKER, "flights", 0, 6)), ref=told[1].ref)
    gone = msgspec.structs.replace(document(Position(BROKER, "flights", 0, 7)), ref=told[3].ref, outcome="deleted")
    with Store(":memory:", clock=lambda: 1) as store:
        assert documents(store).is_empty()
        store.land(landings([*told, again, gone]))
        newest = [told[n].ref for n in (1, 5, 4, 2, 0)]
        assert documents(store)["document"].to_list() == newest
        assert [documents(store, limit=2, skip=skip)["document"].to_list() for skip in (0, 2, 4)] == [newest[:2], newest[2:4], newest[4:]]


VIEWS = {
    "consumed": 3, "outcomes": 5, "absent": 0, "documents": 12, "chunks": 12, "freshness": 12, "activations": 1, "decisions": 1,
    "options": 3,
    "retrievals": 1, "evidence": 2, "effects": 1, "dead_letters": 1, "retries": 0, "reviews": 0, "rulings": 1, "runs": 0, "events": 27,
    "notes": 0, "removals": 0,
}  # fmt: skip


def test_views_hold_one_row_per_thing(store):
    """Each view has a row for each thing of its name."""
    with store.cursor() as cursor:
        listed = [row[0] for row in cursor.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()]
        counted = {view: cursor.execute(f"SELECT count(*) FROM (FROM {view})").fetchall()[0][0] for view in listed}
    assert counted == VIEWS


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=30) | st.uuids().map(str)))
def test_names_in_sql_and_python_are_one(store, texts):
    """The number of a name is the same computed in SQL at landing and in Python at look-up."""
    from headwater.lineage.names import NAME

    with store.cursor() as cursor:
        rows = cursor.execute(f"SELECT text, {NAME} FROM (SELECT unnest(?::VARCHAR[]) AS text)", [texts]).fetchall()
    assert dict(rows) == {text: number(text) for text in texts}


@given(st.uuids().map(str), st.integers(6, 36))
def test_a_beginning_covers_its_ids(id, length):
    """The range of a beginning holds the name of every id that begins so."""
    low, high = beginning(id[:length])
    assert low <= number(id) <= high
