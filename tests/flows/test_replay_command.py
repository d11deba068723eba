"""Deciding again from a stopped home: the starter application, its real model, one high reading."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import headwater.flows.init
import headwater.flows.settings as settings
from headwater.enrichers.embed import minilm
from headwater.flows.app import load
from headwater.flows.replay_command import Wish, run
from headwater.lineage.client import connect
from headwater.lineage.errors import Misused, NotFound, Unavailable
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
    assert "of 2 decide the same" in told and "2 of 2" not in told
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
        [*command, "-o", f"headwater_app={app}", str(file)], cwd=folder, capture_output=True, text=True, env=environ, timeout=120
    )


def test_a_line_that_is_no_case_is_named(tmp_path, lake):
    """A spoiled file of cases says which line, and how to write one."""
    file = tmp_path / "bad.cases.jsonl"
    file.write_text('{"id": 1}\n')
    found = _pytest(file, lake / "app.py", tmp_path)
    assert found.returncode != 0 and "line 1 is no case" in found.stdout


@pytest.mark.parametrize(
    ("wish", "error", "says"),
    [
        (Wish(), Misused, "--all"), (Wish("x", many=True), Misused, "--all"), (Wish("x", since="1h"), Misused, "--since"),
        (Wish("nothing-of-the-kind"), NotFound, "no record names"), (Wish(many=True, agent="nobody"), Misused, "no decision"),
        (Wish(many=True, since="tomorrow"), Misused, "tomorrow"), (Wish(many=True, agent="watch@7"), Misused, "version 1"),
        (Wish(many=True, now=True), Unavailable, "nothing runs"),
    ],
)  # fmt: skip
def test_wrong_wishes_say_what_to_do(replayed, wish, error, says):
    """Each refusal names what is wrong and what to write instead."""
    with pytest.raises(error, match=says):
        replayed(wish)
