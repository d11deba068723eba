from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.enrichers.enrich import Known, enrich
from headwater.enrichers.latest import Latest
from headwater.enrichers.lookup import Lookup
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import EnricherFailed, EnricherUnavailable, Misused, Unavailable
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

HOUR = 3_600_000_000


class Flight(BaseModel):
    id: str
    carrier: str = "UA"
    origin: str = "EWR"


class Weather(BaseModel):
    origin: str
    wind: int


WEATHER: Topic[Weather] = Topic("weather", Weather, key="origin")


def received(model, time=0, id="e", offset=0, type="t"):
    return Received(Position("b", "flights", 0, offset), Event(id=id, source="s", type=type, time=time), model, 0)


@pytest.fixture
def airlines(tmp_path):
    (tmp_path / "airlines.csv").write_text("carrier,name\nUA,United\nB6,JetBlue\nUA,Second\n")
    return Lookup("airlines.csv", on="carrier").bind(tmp_path)


def test_a_row_by_its_key_and_nulls_for_a_missing_one(airlines):
    """A known key gives its first row, an unknown one the columns with None, so that texts can say so."""
    assert airlines.facts(Flight(id="1"), 0) == {"carrier": "UA", "name": "United"}
    assert airlines.facts(Flight(id="1", carrier="ZZ"), 0) == {"carrier": None, "name": None}


def test_the_key_column_defaults_to_on_then_to_the_first(tmp_path):
    """`key` names the column; else the one called like the field; else the first."""
    (tmp_path / "a.csv").write_text("code,carrier\nX,UA\n")
    (tmp_path / "b.csv").write_text("code,city\nEWR,Newark\n")
    assert Lookup("a.csv", on="carrier").bind(tmp_path).facts(Flight(id="1"), 0)["code"] == "X"
    assert Lookup("a.csv", on="carrier", key="code").bind(tmp_path).facts(Flight(id="1"), 0)["code"] is None
    assert Lookup("b.csv", on="origin").bind(tmp_path).facts(Flight(id="1"), 0)["city"] == "Newark"


def test_a_wrong_file_or_column_is_misused(tmp_path):
    """Messages name the file, and the columns there are."""
    (tmp_path / "a.csv").write_text("code,name\n")
    with pytest.raises(Misused, match=r"no\.csv"):
        Lookup("no.csv", on="carrier").bind(tmp_path).facts(Flight(id="1"), 0)
    with pytest.raises(Misused, match="code, name"):
        Lookup("a.csv", on="carrier", key="x").bind(tmp_path).facts(Flight(id="1"), 0)


def rewrite(path, text):
    """Put a whole file in the old one's place."""
    (new := path.with_suffix(".new")).write_text(text)
    new.replace(path)


def test_a_changed_file_is_read_again_and_a_broken_one_keeps_the_last_good_rows(airlines, tmp_path):
    """Events after a change see the new rows under a new digest; what cannot be read, lacks a
    column, or is gone, changes nothing until it can."""
    file = tmp_path / "airlines.csv"

    def asked():
        [known] = airlines.facts_of([received(Flight(id="1"))])
        return known

    first = asked()
    assert first.facts["name"] == "United" and first.reads.startswith("airlines.csv#")
    rewrite(file, "carrier,name\nUA,Untied\n")
    second = asked()
    assert second.facts["name"] == "Untied" and second.reads != first.reads
    for broken in ("no,such\n1\n2,3,4\n", "code,name\nUA,United\n", "carrier,title\nUA,United\n"):
        rewrite(file, broken)
        assert asked() == second
    file.unlink()
    assert asked() == second
    rewrite(file, "carrier,name\nUA,United\nB6,JetBlue\nUA,Second\n")
    assert asked() == first


def test_an_unchanged_file_is_not_read_again(airlines, monkeypatch):
    """A look at the file's stamp is all that a batch costs."""
    airlines.facts(Flight(id="1"), 0)
    monkeypatch.setattr("headwater.enrichers.lookup.pl.read_csv", lambda *args, **more: 1 / 0)
    assert airlines.facts(Flight(id="1"), 0)["name"] == "United"


def test_latest_says_which_event_it_read():
    """Lineage hears the position of the row, or the topic's name where there is none; a tombstone takes the row from its time on."""
    table = Latest(WEATHER, on="origin")
    table.feed([Received(Position("b", "weather", 0, 17), Event(id="w", source="s", type="t", time=5), Weather(origin="EWR", wind=3), 0)])
    table.forget("EWR", 9, "b/weather/0/18", "weather/0@18")
    asked = [received(Flight(id="1"), time=time) for time in (4, 5, 8, 9)]
    assert [(known.facts["wind"], known.reads) for known in table.facts_of(asked)] == [
        (None, "weather"), (3, "weather/0@17"), (3, "weather/0@17"), (None, "weather/0@18"),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=40), st.integers(0, 30))
def test_latest_is_the_newest_not_later_than_the_event(rows, hour):
    """Whatever the order of arrival, the fact is the newest row at or before the event's time, ties by event id."""
    table = Latest(WEATHER, on="origin", history="1000h")
    table.feed([received(Weather(origin="EWR", wind=wind), time * HOUR, id=f"{n:03}") for n, (time, wind) in enumerate(rows)])
    known = [(time, n, wind) for n, (time, wind) in enumerate(rows) if time <= hour]
    expected = {"origin": "EWR", "wind": max(known)[2]} if known else {"origin": None, "wind": None}
    assert table.facts(Flight(id="1"), hour * HOUR) == expected


def test_latest_keeps_a_bounded_history_and_what_counted_at_its_beginning():
    """Rows older than the history go, but the one that was in force at its beginning stays."""
    table = Latest(WEATHER, on="origin", history="3h")
    for hour in range(0, 20, 2):
        table.feed([received(Weather(origin="EWR", wind=hour), hour * HOUR, id=str(hour))])
        table.feed([received(Weather(origin="EWR", wind=hour), hour * HOUR, id=str(hour))])
    assert table.facts(Flight(id="1"), 15 * HOUR)["wind"] == 14
    assert table.facts(Flight(id="1"), 13 * HOUR)["wind"] is None
    assert len(table._rows["EWR"]) == 3


def test_latest_may_be_fed_while_it_is_read():
    """Feeding and reading from several threads loses nothing."""
    table = Latest(WEATHER, on="origin", history="1000h")
    with ThreadPoolExecutor(4) as pool:
        feeds = [pool.submit(table.feed, [received(Weather(origin="EWR", wind=n), n, id=str(n))]) for n in range(400)]
        reads = [pool.submit(table.facts, Flight(id="1"), n) for n in range(400)]
        assert all(read.result()["wind"] is None or read.result()["wind"] <= n for n, read in enumerate(reads))
    assert [feed.result() for feed in feeds] == [None] * 400
    assert [table.facts(Flight(id="1"), n)["wind"] for n in range(400)] == list(range(400))


def test_latest_by_a_field_the_model_lacks_is_misused():
    """The key must be a field of the other topic's model."""
    with pytest.raises(Misused, match="origin, wind"):
        Latest(WEATHER, on="carrier")


def test_enrich_fills_facts_and_isolates_failures(airlines):
    """One event's failing enricher is that event's failure, named; marks pass untouched."""

    class Broken:
        def facts(self, model, time):
            if model.id == "bad":
                raise ZeroDivisionError("oops")
            return {"fine": time}

    topic = Topic("flights", Flight, enrich={"airline": airlines, "broken": Broken()})
    mark = received(None, 1, type=MARK)
    batch = [received(Flight(id="good"), 7), received(Flight(id="bad")), mark]
    enriched, failures = enrich(topic, batch)
    assert enriched == [batch[0], mark] and mark.facts == {}
    assert batch[0].facts == {"airline": {"carrier": "UA", "name": "United"}, "broken": {"fine": 7}}
    assert batch[0].reads["airline"].startswith("airlines.csv#") and "broken" not in batch[0].reads
    [(failed, error)] = failures
    assert failed is batch[1] and isinstance(error, EnricherFailed) and error.details["enricher"] == "broken"


@pytest.mark.parametrize(("raised", "kind"), [
    (ConnectionError("no route"), EnricherUnavailable), (TimeoutError(), EnricherUnavailable), (Unavailable("x"), EnricherUnavailable),
    (ValueError("wrong"), EnricherFailed), (Misused("wrong"), EnricherFailed),
])  # fmt: skip
def test_what_an_enricher_raises_fails_for_now_or_for_good(raised, kind):
    """Connection and time-out errors, and our own Retryable, may pass; everything else never will. Both have the cause enricher_failed."""

    class Raising:
        def facts(self, model, time):
            raise raised

    topic = Topic("flights", Flight, enrich={"x": Raising()})
    one = Received(Position("b", "flights", 0, 0), Event(id="e", source="s", type="t", time=1), Flight(id="f"), 1)
    enriched, [(failed, error)] = enrich(topic, [one])
    assert not enriched and failed is one and type(error) is kind and error.cause == "enricher_failed"


def test_an_enricher_that_answers_for_a_batch_fails_what_it_cannot_answer():
    """`facts_of` gives one answer per event; an exception among them, or for all, fails those events and no others."""

    class Doubling:
        def facts_of(self, batch):
            if any(one.model.id == "all" for one in batch):
                raise TimeoutError
            return [ValueError("odd") if int(one.model.id) % 2 else Known(int(one.model.id) * 2, "arithmetic") for one in batch]

    topic = Topic("flights", Flight, enrich={"double": Doubling()})
    enriched, [(failed, error)] = enrich(topic, [received(Flight(id=str(n))) for n in (2, 3, 4)])
    assert [one.facts["double"] for one in enriched] == [4, 8] and enriched[0].reads == {"double": "arithmetic"}
    assert failed.model.id == "3" and type(error) is EnricherFailed
    nothing, failures = enrich(topic, [received(Flight(id="2")), received(Flight(id="all"))])
    assert nothing == [] and [type(error) for _, error in failures] == [EnricherUnavailable] * 2


def test_lineage_is_told_what_was_read(edge_world, airlines):
    """The record of a document version names, for each enricher, where its facts came from."""
    said = edge_world.said("a", 1, "text")
    said.reads = {"airline": "airlines.csv#123"}
    [record] = edge_world.writer().index([said]).records
    assert record.data["reads"] == {"airline": "airlines.csv#123"}
