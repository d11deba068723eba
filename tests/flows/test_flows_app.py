"""The application: what its declarations bind, what they refuse, and how one is loaded."""

import sys
from pathlib import Path

import polars as pl
import pytest
from pydantic import BaseModel

from headwater import Activation, App, Context, Decision, Document, Files, Lookup, Threshold, Topic, agent, document
from headwater.flows.app import FILES, load
from headwater.flows.settings import Settings
from headwater.flows.target import application
from headwater.lineage.errors import Misused


class Reading(BaseModel):
    id: str
    metres: float


def topic(name: str = "readings", **more) -> Topic:
    return Topic(name, Reading, key="id", **more)


def rule(of: Topic, name: str = "high") -> Threshold:
    return Threshold(name, of=of, value=pl.col("metres"), opens_at=2, closes_at=1)


def decider(*rules: Threshold, name: str = "decider", publishes=()):
    async def function(activation: Activation, context: Context) -> Decision:
        return Decision(None)

    function.__name__ = name
    return agent(wakes_on=rules, publishes=publishes)(function)


def text(of: Topic, name: str = "text"):
    def function(reading, facts):
        return Document(reading.id, "text")

    function.__name__ = name
    return document(of)(function)


def test_topics_are_all_that_are_named():
    """Topics of documents, rules, effects and look-ups, each once; internal ones among the partitions."""
    readings, alarms = topic(partitions=3), topic("alarms")
    high = rule(readings)
    app = App("a", documents=[text(readings), Files("*.md")], triggers=[high], agents=[decider(high, publishes=[alarms])], activations=5)
    assert set(app.topics) == {"readings", "alarms", FILES}
    assert set(app.indexed) == {"readings", FILES}
    assert set(app.watched) == {"readings"}
    assert app.partitions["readings"] == 3
    assert app.partitions["headwater.activations"] == app.partitions["headwater.decisions"] == 5


@pytest.mark.parametrize("what", ["documents", "triggers", "agents", "topics"])
def test_duplicates_are_named(what):
    """Two of one name are refused, naming it."""
    readings = topic()
    high = rule(readings)
    wrong = {
        "documents": lambda: App("a", documents=[text(readings), text(readings)]),
        "triggers": lambda: App("a", triggers=[high, rule(readings)]),
        "agents": lambda: App("a", triggers=[high], agents=[decider(high), decider(high)]),
        "topics": lambda: App("a", documents=[text(readings)], triggers=[rule(topic())]),
    }
    names = {"documents": "'text'", "triggers": "'high'", "agents": "'decider'", "topics": "'readings'"}
    with pytest.raises(Misused, match=f"two {what} are called {names[what]}"):
        wrong[what]()


def test_an_agent_wakes_on_declared_rules_only():
    """A rule that is not among the triggers would never wake anybody: refused."""
    with pytest.raises(Misused, match="decider wakes on 'high'"):
        App("a", agents=[decider(rule(topic()))])


def test_lookups_lie_beside_the_application(tmp_path):
    """A relative look-up file is resolved against the application's folder, not the working directory."""
    (tmp_path / "places.csv").write_text("id,place\n1,here\n")
    readings = topic(enrich={"place": Lookup("places.csv", on="id")})
    App("a", documents=[text(readings)], root=tmp_path)
    assert readings.enrich["place"].facts(Reading(id="1", metres=0), 0)["place"] == "here"


FILE = """
from pydantic import BaseModel
from headwater import App, Topic, document, Document
class R(BaseModel):
    id: str
rs = Topic("rs", R)
@document(rs)
def text(r: R, facts: dict) -> Document:
    return Document(r.id, "text")
app = App("one", documents=[text])
other = App("two")
wrong = 1
"""


def test_a_file_or_a_module_is_loaded(tmp_path, monkeypatch):
    """FILE.py, FILE.py:NAME, MODULE and MODULE:NAME; the root is the file's folder."""
    (tmp_path / "loadable_app.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load("loadable_app.py").name == load(str(tmp_path / "loadable_app.py")).name == "one"
    assert load("loadable_app.py:other").name == "two"
    assert load("loadable_app").name == "one"
    assert load("loadable_app:other").name == "two"
    assert load("loadable_app.py").root == load("loadable_app").root == tmp_path
    sys.modules.pop("loadable_app", None)


@pytest.mark.parametrize("target", ["own_app.py", "own_app:app"])
def test_what_lies_beside_the_application_can_be_imported(tmp_path, monkeypatch, target):
    """As beside any script, though a command was started; but it hides nothing that is installed."""
    (tmp_path / "own_words.py").write_text("NAME = 'one'\n")
    (tmp_path / "msgspec.py").write_text("1 / 0\n")
    (tmp_path / "own_app.py").write_text("from own_words import NAME\nimport msgspec\n" + FILE.replace('"one"', "NAME"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        assert load(target).name == "one"
        assert sys.path.count(str(tmp_path)) == 1
    finally:
        for name in ("own_app", "own_words"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere.py", "headwater init"),
        ("no_such_module_at_all", "no_such_module_at_all"),
        ("loadable_app.py:nothing", "no App called 'nothing'"),
        ("loadable_app.py:wrong", "no App called 'wrong'"),
    ],
)
def test_what_cannot_be_loaded_is_named(tmp_path, monkeypatch, target, told):
    """Misused, with what to do."""
    (tmp_path / "loadable_app.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misused, match=told):
        load(target)


def test_a_mistake_in_the_file_is_told_as_such(tmp_path):
    """A file that raises while it loads: the error is named with its line, as misuse."""
    (tmp_path / "broken_app.py").write_text("x = 1\ny = undefined_name\n")
    with pytest.raises(Misused, match=r"broken_app\.py.*line 2.*undefined_name"):
        load(str(tmp_path / "broken_app.py"))


def test_where_the_application_comes_from(tmp_path, monkeypatch):
    """Command line, else HEADWATER_APP, else ./app.py, else a sentence that names `headwater init`."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misused, match="headwater init"):
        application(Settings(), None)
    Path("app.py").write_text(FILE)
    Path("second.py").write_text(FILE.replace('"one"', '"second"'))
    Path("third.py").write_text(FILE.replace('"one"', '"third"'))
    assert application(Settings(), None).name == "one"
    assert application(Settings(app="second.py"), None).name == "second"
    assert application(Settings(app="second.py"), "third.py").name == "third"
