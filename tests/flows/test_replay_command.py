"""Deciding again from a stopped home: the starter application, its real model, one high reading."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import headwater.flows.cases as cases
import headwater.flows.init
import headwater.flows.replay_command as replay_command
import headwater.flows.settings as settings
from headwater.enrichers.embed import minilm
from headwater.enrichers.fingerprint import fingerprint, keep
from headwater.enrichers.generations import EdgeGenerations
from headwater.enrichers.index import Indexer
from headwater.flows.app import load
from headwater.flows.replay_command import Wish, run
from headwater.lineage.client import connect
from headwater.lineage.decode import Received
from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.event import Event, Position
from headwater.lineage.landing import Landing
from headwater.lineage.store import Store
from headwater.testing import walk

INIT = Path(next(iter(headwater.flows.init.__path__)))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A folder with the starter application, and in its home the lineage of what it decided."""
    folder = tmp_path_factory.mktemp("lake")
    shutil.copytree(INIT, folder, dirs_exist_ok=True)
    app = load(str(folder / "app.py"))
    reading = app.topics["readings"].model
    high = [reading(id="1", gauge="pier", metres=2.1), reading(id="2", gauge="weir", metres=1.6)]
    walked = walk(app, [(app.topics["readings"], one) for one in high], embedder=minilm())
    with Store(folder / "home" / "lineage.duckdb", clock=lambda: 1) as store:
        store.land([Landing("walk", 0, 0, walked.records)])
    return folder


@pytest.fixture
def replayed(lake, capsys, monkeypatch):
    def call(wish: Wish, *, as_json: bool = False, export: Path | None = None, app: Path | None = None) -> str:
        found = settings.load({"HEADWATER_HOME": str(lake / "home")}, {}, None)
        run(found, str(app or lake / "app.py"), wish, as_json=as_json, export=export)
        return capsys.readouterr().out

    return call


@pytest.fixture(scope="module")
def decision(lake):
    with connect(lake / "home" / "lineage.duckdb") as lineage:
        return lineage.sql("from decisions where key = 'pier'")["id"][0]


def test_the_same_agent_with_the_same_model_decides_the_same(replayed, decision):
    """The bundled model on what was seen then: the same context hash and the same answer, said in words and as data."""
    told = replayed(Wish(decision))
    assert "the same context" in told and "the same answer" in told and "nothing was done now" in told
    [data] = json.loads(replayed(Wish(decision), as_json=True))
    assert data["context_then"] == data["context_now"] and data["difference"] == "" and data["agrees"] and abs(data["shift"]) < 1e-6


def test_without_a_chunk_the_context_differs_there(replayed, decision, lake):
    """The chunk that was left out is named by its place."""
    with connect(lake / "home" / "lineage.duckdb") as lineage:
        chunk = lineage.sql(f"select chunk from evidence where decision = '{decision}' order by rank")["chunk"][0]
    [data] = json.loads(replayed(Wish(decision, without=(chunk,)), as_json=True))
    assert data["difference"].startswith("retrieval 1.results[") and data["context_then"] != data["context_now"]


def test_a_back_test_over_all(replayed, lake, tmp_path):
    """Every decision, summed; with a threshold that nothing reaches all of them differ, and the table says from what to what."""
    assert "2 of 2 decide the same (100.0%)" in replayed(Wish(many=True))
    strict = tmp_path / "strict.py"
    strict.write_text((lake / "app.py").read_text().replace("act_above=0.6", "act_above=1.0"))
    told = replayed(Wish(many=True), app=strict)
    assert "of 2 decide the same" in told and "2 of 2 decide" not in told and "2 of 2 saw exactly the same" in told
    assert "(acted) → " in told and " (waiting)" in told
    assert len(json.loads(replayed(Wish(many=True, agent="watch"), as_json=True))) == 2


def test_recorded_decisions_are_regression_tests(replayed, lake, tmp_path):
    """`--export` writes cases that pytest collects: they pass for the application that decided so, and fail for one that does not."""
    file = tmp_path / "lake.cases.jsonl"
    assert "2 cases written" in replayed(Wish(many=True), export=file)
    strict = tmp_path / "strict.py"
    strict.write_text((lake / "app.py").read_text().replace("act_above=0.6", "act_above=1.0"))
    passed, failed = (_pytest(file, app, tmp_path) for app in (lake / "app.py", strict))
    assert passed.returncode == 0 and "2 passed" in passed.stdout, passed.stdout
    assert failed.returncode == 1 and "waiting" in failed.stdout and "what it saw is the same" in failed.stdout, failed.stdout


def _pytest(file: Path, app: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "headwater.pytest_plugin", "-q", "-c", os.devnull, "--rootdir", str(folder)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    return subprocess.run(
        [*command, "-o", f"headwater_app={app}", str(file)], cwd=folder, capture_output=True, text=True, env=environ, timeout=500
    )


def test_a_line_that_is_no_case_is_named(tmp_path, lake):
    """A spoiled file of cases says which line, and how to write one."""
    file = tmp_path / "bad.cases.jsonl"
    file.write_text('{"id": 1}\n')
    found = _pytest(file, lake / "app.py", tmp_path)
    assert found.returncode != 0 and "line 1 is no case" in found.stdout


def test_a_chunk_that_was_not_seen_is_none_to_leave_out(replayed, decision):
    """Leaving out what was not there is a slip, and the answer names what was there."""
    with pytest.raises(Misused, match=r"did not see a chunk 'nonsense'; it saw [0-9a-f]{8}-"):
        replayed(Wish(decision, without=("nonsense",)))


def test_what_is_known_now_is_searched_in_the_index_of_a_stopped_home(replayed, decision, lake):
    """`--now` needs nothing that runs: the index that the last run left is searched; here it holds another text than was found then."""
    embedder, app = minilm(), load(str(lake / "app.py"))
    topic = app.topics["readings"]
    index = EdgeGenerations(lake / "home" / "index").current(embedder.size)
    keep(index, fingerprint(embedder, app.document_types))
    event, reading = Event(id="e", source="s", type="t", time=1), topic.model(id="3", gauge="pier", metres=9)
    gone = Received(Position("b", "readings", 0, 0), event, reading, 1)
    Indexer(index, embedder, app.document_types, clock=lambda: 1).index([gone])
    index.close()
    [data] = json.loads(replayed(Wish(decision, now=True), as_json=True))
    assert data["difference"].startswith("retrieval 1.results[0]") and data["context_then"] != data["context_now"]
    shutil.rmtree(lake / "home" / "index")


def test_one_that_cannot_be_decided_again_holds_up_none_of_the_others(replayed, lake, tmp_path, monkeypatch):
    """A back-test tells how many were lost and why, and goes on; the same while exporting. If all are lost it says so."""
    real = cases.case_of
    first: list[str] = []

    def pruned(source, id):
        first.append(id)
        if id == first[0]:
            raise Misused("pruned")
        return real(source, id)

    monkeypatch.setattr(cases, "case_of", pruned)
    assert "1 of 1 decide the same" in replayed(Wish(many=True))
    file = tmp_path / "lake.cases.jsonl"
    assert "1 case written" in replayed(Wish(many=True), export=file) and len(file.read_text().splitlines()) == 1
    renamed = tmp_path / "renamed.py"
    renamed.write_text((lake / "app.py").read_text().replace("watch", "guard"))
    with pytest.raises(Misused, match=r"none of 2 can be decided again; the first, .*: pruned"):
        replayed(Wish(many=True), app=renamed)


def test_a_back_test_that_is_interrupted_tells_what_it_has(replayed, monkeypatch, capsys):
    """Ctrl-C after the first of two: its sums are printed, and the exit status says that it was cut short."""
    real, done = replay_command.Again.decide, []

    def decide(again, case):
        if done:
            raise KeyboardInterrupt
        done.append(case)
        return real(again, case)

    monkeypatch.setattr(replay_command.Again, "decide", decide)
    with pytest.raises(typer.Exit) as cut:
        replayed(Wish(many=True))
    told = capsys.readouterr()
    assert cut.value.exit_code == 130 and "1 of 1 decide the same" in told.out and "interrupted after 1 of 2" in told.err


def test_an_export_is_whole_or_not_there(replayed, tmp_path, monkeypatch):
    """What fails midway leaves no file that passes for the whole; a folder that is not there is named."""
    monkeypatch.setattr(replay_command, "line_of", lambda case: 1 / 0)
    file = tmp_path / "lake.cases.jsonl"
    with pytest.raises(ZeroDivisionError):
        replayed(Wish(many=True), export=file)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Misused, match="nowhere"):
        replayed(Wish(many=True), export=tmp_path / "nowhere" / "x.cases.jsonl")


@pytest.mark.parametrize(
    ("wish", "error", "says"),
    [
        (Wish(), Misused, "--all"), (Wish("x", many=True), Misused, "--all"), (Wish("x", since="1h"), Misused, "--since"),
        (Wish("nothing-of-the-kind"), NotFound, "no record names"), (Wish(many=True, agent="nobody"), Misused, "no decision"),
        (Wish(many=True, since="tomorrow"), Misused, "tomorrow"), (Wish(many=True, agent="watch@7"), Misused, "version 1"),
        (Wish(many=True, now=True), NotFound, "no index lies there"), (Wish(many=True, agent="watch@1", now=True), NotFound, "no index"),
    ],
)  # fmt: skip
def test_wrong_wishes_say_what_to_do(replayed, wish, error, says):
    """Each refusal names what is wrong and what to write instead."""
    with pytest.raises(error, match=says):
        replayed(wish)
