"""`headwater triggers test`: over a topic's history, the rule's activations, id by id, and what really fired beside them."""

import itertools
import json
import random
import re
import xml.etree.ElementTree as ET

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from rich.console import Console
from typer.testing import CliRunner

from headwater import App, Document, Rate, Standing, Threshold, Topic, document
from headwater.agents.meaning import Meaning
from headwater.enrichers.testing import HashEmbedder
from headwater.flows import trial_page, trial_show
from headwater.flows.cli import cli
from headwater.flows.history import Read
from headwater.flows.settings import Settings
from headwater.flows.trial import tried
from headwater.flows.trigger_commands import named_rule
from headwater.flows.up import Up
from headwater.lineage.client import connect
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Event
from headwater.testing import walk

S = 1_000_000
APPLICATION = '''
import polars as pl
from pydantic import BaseModel
from headwater import App, Rate, Threshold, Topic


class Reading(BaseModel):
    id: str
    gauge: str
    metres: float


readings = Topic("readings", Reading, key="id", partitions=3)
others = Topic("others", Reading)
high = Threshold("high", of=readings, value=pl.col("metres"), per="gauge", within="10s", stat="max", opens_at={level}, closes_at=2)
many = Rate("many", of=readings, where=pl.col("metres") > 3, per="gauge", within="20s", opens_at=0.7, closes_at=0.3, at_least=3)
app = App("lake", triggers=[high, many], gateways=[])
'''


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A running application whose rules have seen four gauges for ten minutes, the last of it long ago."""
    home = tmp_path_factory.mktemp("lake")
    (home / "app.py").write_text(APPLICATION.format(level=4))
    (home / "other.py").write_text(APPLICATION.format(level=4.5))
    from headwater.flows.app import load

    app = load(str(home / "app.py"))
    with Up(app, Settings(home=home, http_port=0), embedder=HashEmbedder()) as up:
        chance = random.Random(3)
        topic = app.topics["readings"]
        start = up.run.clock() - 3600 * S
        rows = [(start + n * S, f"g{n % 4}", round(chance.uniform(0, 5), 2)) for n in range(600)]
        events = [
            Event(id=f"e{n}", source="t", type="r", time=at, data=json.dumps({"id": f"r{n}", "gauge": gauge, "metres": metres}).encode())
            for n, (at, gauge, metres) in enumerate(rows)
        ]
        up.gateway.publish(topic, events, "test")
        yield home, up, rows


def run(*arguments):
    result = CliRunner().invoke(cli, ["triggers", "test", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def fired(up, rule, eventually):
    """All activations of the rule, once the rules have seen everything."""
    with connect(up.address) as lineage:
        query = f"select id from activations where rule = '{rule}'"
        assert up.run.meter.await_watermark(["readings"], up.run.clock() - 60 * S, 60)
        counted = eventually(lambda: up.run.meter.counts().get("activations"), 60)
        eventually(lambda: lineage.sql("select count(*) from activations").item() == counted, 60)
        return set(lineage.sql(query)["id"])


@pytest.fixture
def eventually():
    import time

    def wait(look, seconds):
        until = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < until
            time.sleep(0.05)
        return found

    return wait


def written(up):
    """How far every topic goes that does not merely tell that time passes."""
    return {place: offset for topic in up.app.partitions if "lineage" not in topic for place, offset in up.run.meter.written(topic).items()}


@pytest.mark.parametrize("rule", ["high", "many"])
def test_a_trial_of_the_running_rule_gives_what_fired(lake, rule, eventually):
    """The same ids as lineage has, but for what the clock closed after the last event; nothing is written on the way."""
    home, up, _ = lake
    real = fired(up, rule, eventually)
    before = written(up)
    told = json.loads(run(rule, home / "app.py", "--replay", "readings", "--home", home, "--json"))
    here = {each["id"] for each in told["activations"]}
    assert len(here) > 10 and here <= real and told["events"] == 600
    assert {each["live"] for each in told["activations"]} == {"fired"}
    assert all(each["phase"] == "closed" for each in told["only_live"]) and len(told["only_live"]) == len(real - here) <= 4
    assert before == written(up)


def test_another_level_is_compared_with_what_fired(lake, eventually):
    """A rule with another level fires otherwise; the table says what is only in the test and what fired only live."""
    home, up, _ = lake
    fired(up, "high", eventually)
    told = json.loads(run("high", home / "other.py", "--home", home, "--json"))
    assert told["only_live"] and {each["live"] for each in told["activations"]} <= {"fired", "only in the test"}
    screen = run("high", home / "other.py", "--home", home)
    assert "really fired" in screen and "fired only live" in screen and "opens at 4.5" in screen


def test_a_span_tells_the_same_of_less(lake):
    """--from and --to choose what is told; windows before the span are full all the same."""
    home, _, rows = lake
    from headwater.lineage.duration import format_time

    start, end = (format_time(rows[n][0]) for n in (200, 400))
    whole = json.loads(run("high", home / "app.py", "--home", home, "--json"))["activations"]
    part = json.loads(run("high", home / "app.py", "--home", home, "--json", "--from", start, "--to", end))["activations"]
    assert part == [each for each in whole if start <= each["at"] < end] and 0 < len(part) < len(whole)


def test_a_file_gives_what_the_broker_gives(lake, tmp_path):
    """The same events as rows of a CSV file or as lines of JSON open the same episodes; no broker and no lineage is asked."""
    home, _, rows = lake
    from headwater.lineage.duration import format_time

    told = [{"id": f"r{n}", "gauge": gauge, "metres": metres, "when": format_time(at)} for n, (at, gauge, metres) in enumerate(rows)]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, told)))
    pl.DataFrame(told).write_csv(tmp_path / "r.csv")
    whole = json.loads(run("high", home / "app.py", "--home", home, "--json"))["activations"]
    for name in ("r.jsonl", "r.csv"):
        given = json.loads(run("high", home / "app.py", "--home", tmp_path, "--json", "--file", tmp_path / name, "--time", "when"))
        assert [(each["at"], each["key"], each["phase"]) for each in given["activations"]] == [
            (each["at"], each["key"], each["phase"]) for each in whole
        ]
        assert given["only_live"] is None
    with pytest.raises(Misused, match=r"row 1: time tells no time.*--time"):
        run("high", home / "app.py", "--file", tmp_path / "r.jsonl", "--home", tmp_path)


def test_pictures_are_well_formed_and_escape(lake, tmp_path):
    """An SVG that parses, a page that holds it and every episode."""
    home, _, _ = lake
    run("high", home / "app.py", "--home", home, "--svg", tmp_path / "p.svg", "--html", tmp_path / "p.html")
    picture = ET.fromstring((tmp_path / "p.svg").read_text())
    assert len(picture.findall(".//{*}path")) == 4
    page = (tmp_path / "p.html").read_text()
    assert page.count("<tr>") > 10 and "https://" not in page.replace("http://www.w3.org", "")


class Thing(BaseModel):
    name: str
    level: float


things = Topic("things", Thing)
NASTY = '<script>"&'


def test_what_comes_from_events_is_escaped(tmp_path):
    """A key that is markup stays text."""
    rule = Threshold("r", of=things, value=pl.col("level"), per="name", opens_at=1, closes_at=0)
    (tmp_path / "t.jsonl").write_text(json.dumps({"name": NASTY, "level": 2, "time": "2026-01-01T00:00:00Z"}))
    trial = tried(rule, (), {"things": 1}, Read(tmp_path / "t.jsonl", things, "time"))
    assert len(trial.activations) == 1
    page = trial_page.page(trial, None, 0, 2**51)
    assert "<script>" not in page and "&lt;script&gt;" in page
    with open(tmp_path / "screen", "w") as file:
        trial_show.show(Console(file=file, width=150), trial, None, trial.first, trial.last + 1)
    assert NASTY in (tmp_path / "screen").read_text()


def test_what_cannot_be_read_is_counted(tmp_path):
    """Rows that are no events of the topic are told of, the others go on."""
    rule = Threshold("r", of=things, value=pl.col("level"), opens_at=1, closes_at=0)
    lines = ['{"name": "a", "level": 3, "time": "2026-01-01T00:00:00Z"}', "nonsense", '{"level": "x", "time": "2026-01-01T00:00:01Z"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    rows = Read(tmp_path / "t.jsonl", things, "time")
    trial = tried(rule, (), {"things": 1}, rows)
    assert (trial.events, rows.unread, len(trial.activations)) == (1, 2, 1)


def test_unknown_names_are_refused_with_the_nearest():
    """Rule and topic, each with what there is."""
    rule = Rate("cancellations", of=things, where=pl.col("level") > 1, within="1h", opens_at=0.5, closes_at=0.1)
    other = Threshold("other", of=Topic("others", Thing), value=pl.col("level"), opens_at=1, closes_at=0)
    app = App("nyc", triggers=[rule, other])
    with pytest.raises(Misused, match=re.escape("no rule 'cancelations'; did you mean cancellations? it has cancellations, other")):
        named_rule(app, "cancelations", None)
    with pytest.raises(Misused, match="no topic 'thing'; did you mean things"):
        named_rule(app, "cancellations", "thing")
    with pytest.raises(Misused, match="looks at things, not at others"):
        named_rule(app, "cancellations", "others")
    assert named_rule(app, "cancellations", "things") is rule


def test_a_stopped_home_says_what_can_be_done(tmp_path, monkeypatch):
    """The embedded broker keeps nothing: the refusal says so, and offers a file."""
    monkeypatch.delenv("HEADWATER_KAFKA__BOOTSTRAP_SERVERS", raising=False)
    (tmp_path / "app.py").write_text(APPLICATION.format(level=4))
    with pytest.raises(Unavailable, match=r"keeps nothing when it stops.*--file events\.jsonl"):
        run("high", tmp_path / "app.py", "--home", tmp_path)


@given(st.lists(st.tuples(st.integers(0, 999), st.floats(0, 10)), min_size=1, max_size=40), st.integers(1, 50))
def test_columns_hold_every_extreme(line, many):
    """Whatever the width, the highest level is in a column, and before the first event there is none."""
    found = trial_show.columns(line, 0, 1000, many)
    assert len(found) == many
    assert max(level for level in found if level is not None) == max(level for _, level in line)
    first = min(at for at, _ in line)
    assert all(level is None for level in found[: int(first / (1000 / many))])


class Said(BaseModel):
    port: str
    text: str


said = Topic("said", Said, key="port")


@document(said)
def report(told, facts):
    return Document(id=told.port, text=told.text)


spill = Standing("spill", of=report, like="oil on the water", similarity=0.6, within="1m", per="port", update_step=1)


def test_a_standing_query_can_be_tried(tmp_path):
    """A rule that asks for meaning weighs the texts of the history by the embedder that it is given, as the walk does, id by id."""
    texts = ["oil on the water", "a ship arrives", "oil on the water again", "the harbour is quiet"]
    lines = [{"port": "bay", "text": text, "time": f"2026-01-01T00:0{n}:00Z"} for n, text in enumerate(texts)]
    (tmp_path / "said.jsonl").write_text("\n".join(map(json.dumps, lines)))
    trial = tried(spill, (), {"said": 1}, Read(tmp_path / "said.jsonl", said, "time"), lambda: Meaning(HashEmbedder()))
    events = [(said, Said(port="bay", text=line["text"]), line["time"]) for line in lines]
    walked = walk(App("port", documents=[report], triggers=[spill]), events).activations
    assert [(each.id, each.phase, each.value) for each in trial.activations] == [(each.id, each.phase, each.value) for each in walked]
    assert [each.phase for each in trial.activations] == ["opened", "closed", "opened", "closed"]
    with pytest.raises(Misused, match="rule spill asks for meaning"):
        tried(spill, (), {"said": 1}, ())


@pytest.mark.parametrize(
    ("rule", "metres", "levels", "furthest"),
    [
        ("Change('r', within='1m', against='9m', side='below', opens_at=1, closes_at=0, update_step=1, {})", [9, 5, 1], [0, 4, 6], -6.0),
        ("Anomaly('r', history=4, at_least=2, least=1, opens_at=2, closes_at=1, update_step=1, {})", [5, 5, 1, 9], [0, 4], -4.0),
        ("Threshold('r', opens_at=1, closes_at=0, update_step=1, {})", [1.7e308, -1.7e308], [1.7e308, -1.7e308], 1.7e308),
    ],
)
def test_a_plot_shows_levels_and_the_table_what_was_told(tmp_path, rule, metres, levels, furthest):
    """A level counts outwards, on the side where its rule opens, whatever sign the activations' values have; huge ones fit too."""
    application = APPLICATION.replace("Rate, ", "Anomaly, Change, ").partition("high = ")[0]
    declared = rule.format("of=readings, value=pl.col('metres')")
    application += f"rule = {declared}\napp = App('lake', triggers=[rule])\n"
    (tmp_path / "app.py").write_text(application)
    rows = [{"id": f"{n}", "gauge": "g", "metres": each, "time": f"2030-01-01T00:{n:02}:00Z"} for n, each in enumerate(metres)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    arguments = ["r", tmp_path / "app.py", "--file", tmp_path / "rows.json"]
    told = json.loads(run(*arguments, "--json"))
    assert told["activations"]
    said = run(*arguments, "--svg", tmp_path / "r.svg")
    assert f"{furthest:g}"[:8] in said
    assert "nan" not in (tmp_path / "r.svg").read_text()
    assert [level for level, _ in itertools.groupby(round(level, 6) for _, level in told["levels"]["all"])] == levels
