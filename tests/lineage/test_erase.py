import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from headwater.agents.case import case_of
from headwater.lineage.ask import ask
from headwater.lineage.chain import GENESIS, LEAF, ROOT, Head, link
from headwater.lineage.client import connect
from headwater.lineage.columns import columns_of
from headwater.lineage.erase import plan
from headwater.lineage.errors import NotFound, Unavailable
from headwater.lineage.event import Position
from headwater.lineage.keep import Kept
from headwater.lineage.landing import Landing, named, table
from headwater.lineage.migrations import LEDGER, MIGRATIONS
from headwater.lineage.names import names_of
from headwater.lineage.record import outcomes, run_of
from headwater.lineage.reviews import reviews
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, document, landings, name, sample_records
from headwater.lineage.verify import verify
from headwater.lineage.why import why

FLIGHT = "2013-02-08-EWR-UA-1500"
TEXT = "United flight UA 1500 is cancelled."
OTHER = "United flight UA 1501 is cancelled."
GONE = "erased on 2026-11-29"


def told(store, subject=FLIGHT):
    return plan(store, subject, by="ann", why="asked by the passenger", day="2026-11-29")


def landed(path, records=None):
    with Store(path, clock=lambda: 1) as store:
        for landing in landings(records or sample_records(), 9):
            store.land([landing])
    return path


def landed_before(path):
    """A file as it was written before contents were kept apart."""
    records = [record for landing in landings(sample_records(), 100) for record in landing.records]
    with duckdb.connect(str(path)) as old:
        old.execute("SET GLOBAL TimeZone = 'UTC'")
        old.execute(LEDGER)
        for migration in MIGRATIONS[:2]:
            for statement in migration.statements:
                old.execute(statement)
            old.execute("INSERT INTO migrations VALUES (?, ?, now())", [migration.number, migration.name])
        old.register("landing", table(columns_of(records, open=False), 0, 1))
        old.execute(f"INSERT INTO records BY NAME SELECT * EXCLUDE (held), {LEAF} AS leaf FROM landing ORDER BY seq")
        root = old.execute(f"SELECT {ROOT} FROM records").fetchall()[0][0]
        old.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, now())", [*link(Head(0, 0, GENESIS), len(records), root)])
        old.execute("INSERT INTO offsets VALUES (?, 0, 1)", [BROKER])
        names, places = zip(*((text, n) for n, record in enumerate(records) for text in names_of(record)), strict=True)
        old.register("naming", named(Kept([], pa.nulls(0), [names], [np.array(places)]), 0))
        old.execute("INSERT INTO names_new FROM naming")
    return path


def test_the_file_of_an_older_headwater_is_read_as_well(tmp_path):
    """A stopped headwater's file opens directly whatever its form, and its texts are where they were."""
    with connect(landed_before(tmp_path / "lineage.duckdb")) as lineage:
        assert set(lineage.sql("select text from chunks")["text"]) >= {TEXT, OTHER}
        assert lineage.sql("select choice from decisions")["choice"].to_list() == ["rebook passengers"]
        assert lineage.why(FLIGHT).documents[0].text == TEXT


def bytes_of(path):
    return b"".join(each.read_bytes() for each in path.parent.iterdir() if each.is_file())


@pytest.mark.parametrize("made", [landed, landed_before])
def test_what_is_erased_is_nowhere_and_all_else_proves_as_before(made, tmp_path):
    """A subject's texts leave every record and the file's bytes; the chain, older heads and all others' texts stand as they were."""
    path = made(tmp_path / "lineage.duckdb")
    assert TEXT.encode() in bytes_of(path) and b"cancelled flights at EWR" in bytes_of(path)
    with Store(path, clock=lambda: 2) as store:
        before = store.head()
        found, removal = told(store)
        assert found.documents == (f"flight_status/{FLIGHT}",) and found.decisions == (name("decision"),)
        assert verify(store, in_flight_ok=False).ok, "looking changes nothing"
        store.remove(removal)
        assert verify(store, in_flight_ok=False, kept=[before, store.head()]).ok
        seen = why(store, name("decision")).decisions[0]
        assert [chunk.text for chunk in seen.retrievals[0].results] == ["When a fifth of departures is cancelled, rebook passengers.", GONE]
        assert seen.retrievals[0].query == seen.rationale == seen.summary == seen.models[0]["prompt"] == GONE
        assert seen.choice == seen.tools[0]["arguments"] == {"erased": GONE} and seen.confidence == 0.81
        assert why(store, FLIGHT).documents[0].text == ask(store, "history", FLIGHT)["text"][0] == GONE
        assert case_of(store, name("decision")).answer.summary == GONE
        assert why(store, "flights/0@1").documents[0].text == OTHER
        with store.cursor() as cursor:
            said = cursor.execute('SELECT subject, removed_by, why, texts >= 5 FROM removals').fetchall()
            assert said == [(FLIGHT, "ann", "asked by the passenger", True)]
            if made is landed:
                assert {GONE, OTHER} <= {row[0] for row in cursor.execute("SELECT text FROM chunks").fetchall()}
                assert cursor.execute("SELECT choice, rationale FROM decisions").fetchall() == [(GONE, GONE)]
                assert cursor.execute("SELECT query FROM retrievals").fetchall() == [(GONE,)]
        place = Position(BROKER, "flights", 0, 13)
        later = [run_of("consumed", "index", place, 14, 1, 1), document(place), *outcomes("index", [(place, "indexed")], 1)]
        assert store.land([Landing("later", 0, 0, later)]).rows == 3
        assert verify(store, in_flight_ok=False).ok, "what lands afterwards is chained on"
        store.remove(told(store)[1])
    held = bytes_of(path)
    for text in (TEXT, "cancelled flights at EWR", "<b>deep</b>", "The procedure says so."):
        assert text.encode() not in held
    assert OTHER.encode() in held
    assert [each.name for each in tmp_path.iterdir()] == ["lineage.duckdb"]


def test_a_text_is_stored_once_and_says_nothing_of_another_document(tmp_path):
    """The same words of one document are one content wherever they stand; of two documents they are two, with other hashes."""
    records = sample_records()
    twin = msgspec.structs.replace(records[3], data={**records[3].data, "chunks": [{**records[3].data["chunks"][0], "text": TEXT}]})
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings([*records[:3], twin, *records[4:]]))
        again = [msgspec.structs.replace(record, id=f"{record.id}+") for record in records if record.kind == "model"]
        store.land([Landing(BROKER, 1, 0, again)])
        with store.cursor() as cursor:
            same = cursor.execute("SELECT sha256(salt || body) FROM contents WHERE body = ?", [f'"{TEXT}"']).fetchall()
            assert len(same) == len(set(same)) == 2
            assert cursor.execute("SELECT count(*) FROM contents WHERE body = '\"EWR\"'").fetchall() == [(1,)]
        store.remove(told(store)[1])
        with store.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM chunks WHERE text = ?", [TEXT]).fetchall() == [(1,)], "the other's words stay"


FORGERIES = {
    "a text is changed": ("UPDATE contents SET body = '\"x\"' WHERE n = 2", "changed afterwards"),
    "a text is changed with its salt": ("UPDATE contents SET body = '\"x\"', salt = 'y' WHERE n = 2", "changed afterwards"),
    "a text is dropped": ("DELETE FROM contents WHERE n = 2", "content 2 of record"),
    "a text is passed for an erased one": (
        "UPDATE contents SET body = '\"erased on 2026-11-29\"', salt = NULL WHERE n = 2", "no removal tells of it"),
    "references are exchanged": (
        "UPDATE records SET held = (SELECT held FROM records WHERE seq = 3) WHERE seq = 4", "record 4 (document"),
    "a record is passed for a pruned one": (
        "INSERT INTO pruned SELECT seq, batch, leaf, 'x' FROM records WHERE seq = 4; DELETE FROM records WHERE seq = 4", "taken out"),
    "the erasure is dropped": ("DELETE FROM records WHERE kind = 'erasure'", "now holds 0"),
    "an erasure is told otherwise": (
        "UPDATE records SET data = replace(data::VARCHAR, 'ann', 'bob') WHERE kind = 'erasure'", "(erasure"),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_contents_are_as_proof_as_records(forgery, tmp_path):
    """Law 8: a text changed, dropped or passed for erased is found, and so is an erasure that nobody recorded."""
    path = landed(tmp_path / "lineage.duckdb")
    with Store(path, clock=lambda: 2) as store:
        store.remove(told(store)[1])
        assert verify(store, in_flight_ok=False).ok
    edit, words = FORGERIES[forgery]
    with duckdb.connect(str(path)) as connection:
        connection.execute(edit)
    with Store(path, clock=lambda: 3) as store:
        assert any(words in offence for offence in verify(store, in_flight_ok=False).offences)


def test_a_reader_that_stays_delays_the_bytes_not_the_erasure(tmp_path):
    """With a reader inside the file cannot be exchanged: the erasure stands at once, the bytes go when the file is opened next."""
    path = landed(tmp_path / "lineage.duckdb")
    store = Store(path, clock=lambda: 2, patience_s=0.01)
    with store.cursor():
        with pytest.raises(Unavailable, match="1 readers"):
            store.remove(told(store)[1])
        assert why(store, FLIGHT).documents[0].text == GONE
    store.close()
    (tmp_path / "lineage.duckdb.rewriting").write_text("half a file, of a process that was killed")
    with Store(path, clock=lambda: 3) as store:
        assert verify(store, in_flight_ok=False).ok
    assert TEXT.encode() not in bytes_of(path) and b"half a file" not in bytes_of(path)


def test_a_subject_that_nobody_names_is_refused(tmp_path):
    """Nothing is erased by a name that is misspelt."""
    with Store(landed(tmp_path / "lineage.duckdb"), clock=lambda: 1) as store, pytest.raises(NotFound, match="no record is about"):
        told(store, "2013-02-08-EWR-UA-15")


def test_a_key_is_a_subject(tmp_path):
    """What was decided for a key goes with it, its review included; the documents of other keys stay."""
    with Store(landed(tmp_path / "lineage.duckdb", sample_records(state="waiting")), clock=lambda: 1) as store:
        found, removal = told(store, "EWR")
        assert found.documents == () and found.decisions == (name("decision"),)
        store.remove(removal)
        asked = reviews(store)[0][0]
        assert asked.question == GONE and asked.key == "EWR"
        assert why(store, "flights/0@1").documents[0].text == OTHER
        assert verify(store, in_flight_ok=True).ok
