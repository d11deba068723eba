import datetime

import msgspec
import polars as pl
import pytest

from headwater.lineage.ask import QUESTIONS, ask
from headwater.lineage.client import connect
from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.event import Position
from headwater.lineage.landing import Landing
from headwater.lineage.names import things
from headwater.lineage.record import Record, fact
from headwater.lineage.show import frame_html
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, START, WALL, document, landings, name, sample_records

DECISION, PLAN = name("decision"), Position(BROKER, "plans", 0, 17)
CREW, CREW_DECISION = name("crew activation"), name("crew decision")


def cascade() -> list[Record]:
    """What the plan of the sample's decision woke: an activation of another rule, its decision, and the event that published."""
    cause = {"topic": "plans", "partition": 0, "offset": 17, "id": name("effect"), "key": "EWR"}
    data = {"rule": "plans_made", "key": "EWR", "phase": "opened", "episode": CREW, "value": 1.0, "count": 1, "total": 1, "events": [cause]}
    fired = fact("activation", "detect", "rules", CREW, logged=WALL + 300_000, parents=(str(PLAN),), at=START + 99, data=data)
    decided = {
        "agent": "crew", "version": "3", "activation": CREW, "state": "acted", "summary": "call the reserve", "confidence": 0.9,
        "options": [], "choice": "call the reserve",
    }  # fmt: skip
    chose = fact("decision", "decide/crew", "decide", CREW_DECISION, logged=WALL + 310_000, parents=(CREW,), at=START + 99, data=decided)
    return [fired, chose]


def versions() -> list[Record]:
    """Flight 1503 told anew: the same text as version 3, another as version 4."""
    first = document(Position(BROKER, "flights", 0, 3))
    again = document(Position(BROKER, "flights", 0, 40))
    data = {**first.data, "version": 3, "event": "again"}
    third = msgspec.structs.replace(again, ref=first.ref, outcome="unchanged", logged=WALL + 400_000, data=data)
    chunk = {**first.data["chunks"][0], "id": name("chunk", 4), "hash": "cd" * 16, "text": "United flight UA 1503 departed."}
    fourth = fact(
        "document", "index", "upsert", first.ref, logged=WALL + 500_000, where=Position(BROKER, "flights", 0, 41), at=START + 41,
        outcome="indexed", data={**first.data, "version": 4, "event": "later", "chunks": [chunk]},
    )  # fmt: skip
    return [third, fourth]


@pytest.fixture(scope="module")
def store():
    with Store(":memory:", clock=lambda: 1) as opened:
        opened.land(landings(sample_records()))
        opened.land([Landing(BROKER, 0, 900, [*cascade(), *versions()])])
        yield opened


@pytest.mark.parametrize(
    "id", [DECISION, CREW_DECISION, name("effect"), name("activation"), CREW, "flights/0@3", "2013-02-08-EWR-UA-1503/cancelled"]
)
def test_any_id_of_a_correlation_leads_to_all_of_it(store, id):
    """From wherever one starts, the trace is the same: forwards through what was published, and back to what began it."""
    found = ask(store, "trace", id)
    assert found["id"].to_list() == ask(store, "trace", DECISION)["id"].to_list()
    assert {DECISION, CREW_DECISION, name("effect"), CREW} <= set(found["id"])


def test_a_trace_is_in_the_order_it_happened(store):
    """Rows rise in wall clock from nought, and an activation comes before its decision."""
    found = ask(store, "trace", DECISION)
    assert found["ms"].is_sorted() and found["ms"][0] == 0
    order = found["id"].to_list()
    assert order.index(name("activation")) < order.index(DECISION) < order.index(CREW) < order.index(CREW_DECISION)
    assert found.schema["logged"] == pl.Datetime("us", "UTC")


def test_a_trace_leaves_out_what_is_of_other_correlations(store):
    """A later version of a document that one of its events made is no part of it, nor is what never led to a decision."""
    found = ask(store, "trace", DECISION)
    assert not any("departed" in what for what in found["what"])
    assert not any("not JSON" in what for what in found["what"])


def test_every_row_of_a_trace_says_something(store):
    """Each kind of record has words of its own."""
    assert all(ask(store, "trace", DECISION)["what"].str.len_chars() > 3)


def test_a_history_tells_each_version_and_who_saw_it(store):
    """Versions in the order they came; what changed; only those that saw a version are told beside it."""
    found = ask(store, "history", "2013-02-08-EWR-UA-1503")
    assert found["version"].to_list() == [2, 3, 4]
    assert found["changed"].to_list() == [1, 0, 1]
    assert found["outcome"].to_list() == ["indexed", "unchanged", "indexed"]
    assert found["ms"][0] == 41 and found["time"][0] == datetime.datetime.fromtimestamp((START + 3) / 1e6, datetime.UTC)
    seen = ask(store, "history", "flight_status/2013-02-08-EWR-UA-1500")
    assert seen["decisions"].to_list() == [[DECISION]] and seen["seen_by"].to_list() == [1]


def test_two_decisions_side_by_side(store):
    """Every field of both, in one list; what one lacks is null, and a decision compared with itself differs in nothing."""
    same = ask(store, "compare", DECISION, DECISION)
    assert same["same"].all() and {"woken by", "saw", "model", "options", "rulings", "effects"} <= set(same["part"])
    other = ask(store, "compare", DECISION, CREW_DECISION)
    rows = {(row["part"], row["field"]): row for row in other.to_dicts()}
    assert rows["decision", "agent"] == {"part": "decision", "field": "agent", "a": "recover", "b": "crew", "same": False}
    assert rows["woken by", "key"]["same"] and rows["model", "model"]["b"] is None
    parts = other["part"].to_list()
    assert parts == sorted(parts, key=parts.index)


def test_only_decisions_can_be_compared(store):
    """An id of something else is refused, naming what it is."""
    with pytest.raises(Misused, match="activation, no decision"):
        ask(store, "compare", DECISION, CREW)


def test_cost_conservation_and_freshness(store):
    """The questions without an id answer over everything."""
    assert ask(store, "freshness").row(0, named=True)["p50_ms"] == 41
    assert set(ask(store, "conservation").columns) == {"flow", "topic", "outcome", "positions"}
    assert ask(store, "cost").height > 0


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (("tracee", "x"), Misused, "there are trace, history"), (("trace",), Misused, "headwater ask trace ID"),
        (("compare", DECISION), Misused, "DECISION DECISION"), (("cost", "x"), Misused, "takes no id"),
        (("history", "nobody"), NotFound, "nobody"), (("trace", "nothing-of-the-kind"), NotFound, "no record names"),
        (("history", "'; DROP TABLE records"), NotFound, "DROP"),
    ],
)  # fmt: skip
def test_wrong_questions_say_what_to_ask(store, asked, error, says):
    """No such question, another number of ids, an unknown id: each error says what to write instead."""
    with pytest.raises(error, match=says):
        ask(store, *asked)


def test_an_empty_store_answers_with_empty_frames():
    """Questions without an id answer before anything has landed, with the same columns."""
    with Store(":memory:", clock=lambda: 1) as empty:
        for name_, question in QUESTIONS.items():
            if not question.takes:
                assert ask(empty, name_).is_empty()


def test_the_sample_names_what_is_asked_for(store):
    """The doubles above are linked as the flows link theirs: the crew's activation is found by the plan's position."""
    assert ("position", str(PLAN)) in set(things(cascade()[0]))


def test_growth_accounts_for_every_record_and_text_once(tmp_path):
    """Every record and every text is counted once; events and decisions are those that there are; the file's bytes are all dealt out."""
    with Store(tmp_path / "lineage.duckdb", clock=lambda: 1) as store:
        store.land(landings(sample_records()))
        young = ask(store, "growth")["file_bytes"].sum()
        with store.cursor() as cursor:
            cursor.execute("CHECKPOINT")
            records, texts = cursor.execute("SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM contents)").fetchall()[0]
            used = cursor.execute("SELECT block_size * used_blocks FROM pragma_database_size()").fetchall()[0][0]
        grown = ask(store, "growth")
    assert young > 0, "nothing but the write-ahead log was there yet"
    assert grown["what"].to_list() == ["event", "decision"] and grown["things"].to_list() == [13, 1]
    assert (grown["records"].sum(), grown["texts"].sum()) == (records, texts)
    assert abs(grown["file_bytes"].sum() - used) <= 2 and grown["bytes_each"].min() > 100


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_answers_with_a_page(store, question):
    """Whatever a question's columns hold, its answer is a page as well, with as many rows."""
    ids = {"trace": [DECISION], "history": [versions()[0].ref], "compare": [DECISION, CREW_DECISION]}.get(question, [])
    frame = ask(store, question, *ids)
    assert frame_html(frame, question).count("<tr>") == frame.height + 1


def test_the_difference_of_two_times_is_a_duration(tmp_path):
    """What SQL answers as an interval comes as a duration, of a file that is stopped too; none at all and empty answers as well."""
    Store(tmp_path / "lineage.duckdb", clock=lambda: 1).close()
    asked = "TIMESTAMP '2013-02-08 12:00:01.5' - TIMESTAMP '2013-02-06 12:00:00'"
    with connect(str(tmp_path / "lineage.duckdb")) as lineage:
        frame = lineage.sql(f"SELECT {asked} AS took, NULL::INTERVAL AS none, INTERVAL 1 MONTH AS month, -({asked}) AS back")
        nothing = lineage.sql("SELECT INTERVAL 1 DAY AS took WHERE false")
    took = datetime.timedelta(days=2, seconds=1, microseconds=500_000)
    assert frame.rows() == [(took, None, datetime.timedelta(days=30), -took)]
    assert (nothing.height, str(nothing.schema["took"])) == (0, "Duration(time_unit='us')")
