"""The `headwater` command as people use it, beside a running application."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog

from headwater.enrichers.fingerprint import fingerprint, keep
from headwater.enrichers.generations import EdgeGenerations
from headwater.enrichers.index import Indexer
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import load
from headwater.flows.cli import cli, main
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing
from headwater.flows.up import Up
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Position

APPLICATION = Path(__file__).parents[1] / "walk" / "application.py"
PATIENCE_S = 60.0


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def process(*arguments: str, home: Path, **variables: str) -> Done:
    """The command in a process of its own; nothing of this process's HEADWATER_ settings leaks in."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    known |= {"HEADWATER_HOME": str(home), "COLUMNS": "200", **variables}
    command = [sys.executable, "-m", "headwater", *arguments]
    done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=500, cwd=home, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def headwater(monkeypatch, capsys) -> Callable[..., Done]:
    """The command in this process, as its console script runs it: a process for each would take a second each."""

    def run(*arguments: str, home: Path, stdin: str = "", **variables: str) -> Done:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
                patch.delenv(name)
            for name, value in {"HEADWATER_HOME": str(home), "COLUMNS": "200", **variables}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["headwater", *arguments])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            patch.chdir(home)
            code: int | str | None = 0
            try:
                main()
            except SystemExit as end:
                code = end.code
        return Done(int(code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A running application, with one event in it that was acted on and one that is dead."""
    home = tmp_path_factory.mktemp("lake")
    with Up(load(str(APPLICATION)), Settings(home=home, http_port=0), embedder=HashEmbedder()) as up:
        [where] = up.run.writer.write([Outgoing("readings", b"k", b"{not json", [("ce_id", b"bad")])])
        up.bad = where  # type: ignore[attr-defined]
        yield up


@pytest.fixture
def home(lake) -> Path:
    return lake.settings.home


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` gives once it is truthy."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"never came true; last: {found!r}"
        time.sleep(0.1)
    return found


def published(headwater, home, **reading) -> tuple[str, str]:
    """Id and token of one reading, published by the command."""
    done = headwater("publish", "readings", "-", home=home, stdin=json.dumps(reading))
    assert done.returncode == 0, done.stderr
    id, token = done.stdout.split()
    return id, token


def test_your_own_event_is_found_by_its_token(headwater, lake, home):
    """publish, then search --after the token: the event is there."""
    _, token = published(headwater, home, id="mine", gauge="mine", metres=0.5)
    done = headwater("search", "gauge mine", "--after", token, home=home)
    assert done.returncode == 0, done.stderr
    assert "level/mine" in done.stdout
    assert re.search(r"\d+ ms stale", done.stdout)
    found = json.loads(headwater("search", "gauge mine", "--after", token, "--where", "gauge=mine", "--json", home=home).stdout)
    assert [hit["position"] for hit in found["results"]] == [token]


@pytest.mark.parametrize(
    "text",
    [
        '{"id":"1","gauge":"f","metres":1}',
        '{\n  "id": "1",\n  "gauge": "f",\n  "metres": 1\n}',
        '[{"id":"1","gauge":"f","metres":1}]',
        '{"id":"1","gauge":"f","metres":1}\n{"id":"2","gauge":"f","metres":1}\n',
    ],
    ids=["one", "one over lines", "array", "lines"],
)
def test_files_of_every_form_are_published(headwater, lake, home, tmp_path, text):
    """A JSON object on one line or many, an array, or a line each: as many ids and tokens as events."""
    (tmp_path / "events").write_text(text)
    done = headwater("publish", "readings", str(tmp_path / "events"), home=home)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2 * text.count('"id"')


def test_why_sql_and_verify_beside_the_running_flows(headwater, lake, home):
    """From an event above the level: sql finds the decision, why tells its path, verify finds nothing wrong."""
    published(headwater, home, id="high", gauge="high", metres=3.5)
    query = "from decisions where key = 'high' order by agent"
    rows = eventually(lambda: len(told := json.loads(headwater("sql", query, "--json", home=home).stdout)) == 2 and told)
    rows = [row for row in rows if row["agent"] == "warn"]
    assert rows[0]["choice"].startswith("warn residents")
    told = headwater("why", rows[0]["id"], home=home)
    assert told.returncode == 0 and "high_water" in told.stdout, told
    page = headwater("why", rows[0]["id"], "--html", str(home / "why.html"), home=home)
    assert page.returncode == 0 and "<html" in (home / "why.html").read_text()
    assert json.loads(headwater("why", rows[0]["id"], "--json", home=home).stdout)
    table = headwater("sql", "select agent, outcome from decisions where key = 'high' order by agent", home=home)
    assert [line.split() for line in table.stdout.splitlines()[1:3]] == [["log", "acted"], ["warn", "acted"]]
    verdict = headwater("audit", "verify", home=home)
    assert verdict.returncode == 0 and "every offset of every flow accounted for" in verdict.stdout, verdict
    assert json.loads(headwater("audit", "verify", "--json", home=home).stdout)["ok"] is True


def test_dead_letters_are_listed_and_shown(headwater, lake, home):
    """dead list names cause and place, dead show the whole; an id that is none is a sentence and exit 1."""
    rows = eventually(lambda: json.loads(headwater("dead", "list", "--json", home=home).stdout))
    assert [(row["cause"], row["short"]) for row in rows] == [("undecodable", lake.bad.short)]
    assert "undecodable" in headwater("dead", "list", home=home).stdout
    assert "no dead letters" in headwater("dead", "list", "--cause", "oversized", home=home).stdout
    shown = headwater("dead", "show", rows[0]["id"][:8], home=home)
    assert shown.returncode == 0 and rows[0]["id"] in shown.stdout
    wrong = headwater("dead", "show", "zzz", home=home)
    assert wrong.returncode == 1 and "headwater dead list" in wrong.stderr


def test_topics_of_the_application(headwater, lake, home):
    """Name, model, key, partitions, readers and publishers."""
    done = headwater("topics", str(APPLICATION), "--json", home=home)
    rows = {row["topic"]: row for row in json.loads(done.stdout)}
    assert rows["readings"]["partitions"] == 3 and rows["readings"]["detect"] and rows["alarms"]["published by"] == ["warn"]
    assert "readings" in headwater("topics", str(APPLICATION), home=home).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["search", "x", "--after", "another/readings/0/0"], 1, "another broker's life"),
        (["search", "x", "--after", "nonsense"], 2, "topic/partition/offset"),
        (["search", "x", "--where", "gauge"], 2, "FIELD=VALUE"),
        (["publish", "rivers", "-"], 1, "no topic 'rivers'"),
        (["publish", "readings", "-"], 1, "body"),
        (["publish", "readings", "/nowhere/file"], 2, "/nowhere/file"),
        (["why", "nothing-of-the-kind"], 1, "nothing-of-the-kind"),
        (["sql", "drop table records"], 1, "SELECT"),
        (["sql", "select nonsense from nowhere"], 2, "nowhere"),
        (["topics", "nowhere.py"], 2, "headwater init"),
        (["up", "nowhere.py"], 2, "headwater init"),
        (["up"], 2, "headwater init"),
        (["run", "nothing"], 2, "index, detect, decide, bridge, audit"),
        (["run", "index"], 2, "HEADWATER_KAFKA__BOOTSTRAP_SERVERS"),
        (["search", "x", "--url", "http://127.0.0.1:1"], 75, "does not answer"),
        (["demo", "--from", "soon"], 2, "2013-02-08"),
    ],
)
def test_errors_are_one_sentence_with_an_exit_code(headwater, lake, home, arguments, code, told):
    """What is wrong, which item, what to do: on one line of stderr, without a traceback; 2 for misuse, 75 for try again, 1 for the rest."""
    done = headwater(*arguments, home=home)
    assert (done.returncode, told in done.stderr) == (code, True), (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("headwater: ")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2  # DuckDB adds a line: Did you mean …


def test_a_second_up_is_refused_naming_why(lake, home):
    """The home belongs to the one that runs."""
    done = process("up", str(APPLICATION), home=home)
    assert done.returncode == 2
    assert "runs already" in done.stderr and "HEADWATER_HOME" in done.stderr


ENGINES = {"torch", "sentence_transformers", "bytewax", "qdrant_edge", "qdrant_client", "fastapi", "pydantic_ai", "duckdb"}


@pytest.mark.parametrize(
    ("unused", "asked"),
    [
        (
            ENGINES | {"polars", "pyarrow", "numpy"},
            [["search", "gauge"], ["why", "readings/0@0"], ["dead", "list"], ["publish", "readings", "-"], ["audit", "verify"], ["config"]],
        ),
        (ENGINES, [["sql", "show tables"], ["ask", "conservation"]]),
    ],
    ids=["plain", "frames"],
)
def test_looking_loads_no_model_and_no_engine(lake, home, unused, asked):
    """Beside a running headwater the reading commands, all of them together, load no model, engine or database: that takes seconds."""
    code = (
        "import sys\nfrom headwater.flows.cli import main\n"
        f"for arguments in {asked!r}:\n"
        "    sys.argv[1:] = arguments\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code, (arguments, end.code)\n"
        f"    loaded = {unused!r} & set(sys.modules)\n"
        "    assert not loaded, (arguments, loaded)\n"
    )
    known = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")} | {"HEADWATER_HOME": str(home)}
    reading = b'{"id":"1","gauge":"light","metres":1}'
    done = subprocess.run([sys.executable, "-c", code], env=known, input=reading, capture_output=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_importing_headwater_costs_nothing():
    """`import headwater`, and every public name but what needs them: neither torch nor Bytewax."""
    code = (
        "import sys, headwater\n"
        "assert not {'torch', 'bytewax', 'duckdb', 'polars'} & set(sys.modules)\n"
        "names = [getattr(headwater, name) for name in headwater.__all__]\n"
        "assert not {'torch', 'bytewax', 'sentence_transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr


def commands(group=cli, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group, by name."""
    found = [path]
    found += [(*path, command.name or command.callback.__name__.replace("_", "-")) for command in group.registered_commands]
    for each in group.registered_groups:
        found += commands(each.typer_instance, (*path, each.name))
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help(command):
    """--help of everything says what it does, at once."""
    from typer.testing import CliRunner

    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output
    assert len(result.output.split("Usage", 1)[1].splitlines()[2].strip()) > 20


def test_config_tells_origins_and_no_secret(headwater, tmp_path):
    """Value and origin of every setting; secrets as stars, in text and as data; unknown variables warned of, wrong values refused."""
    (tmp_path / ".env").write_text("HEADWATER_LOG=info\n")
    secret = {
        "HEADWATER_QDRANT__API_KEY": "hunter2",
        "HEADWATER_KAFKA__BOOTSTRAP_SERVERS": "a:1",
        "HEADWATER_KAFKA__SASL_PASSWORD": "hunter2",
        "HEADWATER_HOM": "x",
    }
    for more in ([], ["--json"]):
        done = headwater("config", *more, home=tmp_path, **secret)
        assert done.returncode == 0, done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        assert "did you mean HEADWATER_HOME?" in done.stderr
    rows = {row["name"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}
    assert rows["HEADWATER_LOG"] == ("info", ".env")
    assert rows["HEADWATER_HOME"] == (str(tmp_path), "environment")
    assert rows["HEADWATER_MODEL"] == ("local", "default")
    flag = json.loads(headwater("config", "--json", "--home", "/elsewhere", home=tmp_path).stdout)
    assert {"name": "HEADWATER_HOME", "value": "/elsewhere", "origin": "flag"} in flag
    wrong = headwater("config", home=tmp_path, HEADWATER_HTTP__PORT="many")
    assert wrong.returncode == 2 and "HEADWATER_HTTP__PORT='many'" in wrong.stderr


def test_where_nothing_runs_and_nothing_lies(headwater, tmp_path):
    """Every looking command says so in a sentence that names a way to start."""
    looking = (["search", "x"], ["sql", "from records"], ["why", "x"], ["audit", "verify"], ["dead", "list"], ["publish", "t", "-"])
    for arguments in (*looking, ["mcp"]):
        done = headwater(*arguments, home=tmp_path)
        assert done.returncode in (1, 75), (arguments, done.stdout, done.stderr)
        assert "headwater up" in done.stderr and len(done.stderr.strip().splitlines()) == 1, (arguments, done.stderr)


OWN_MODEL = """
from headwater import App, Document, Topic, document
from headwater.enrichers.testing import HashEmbedder
from pydantic import BaseModel


class Note(BaseModel):
    id: str


class Spoken(HashEmbedder):
    name = "spoken"

    def embed(self, texts):
        print("spoken by the application's own model")
        return super().embed(texts)


@document(Topic("notes", Note, key="id"))
def note(note, facts):
    return Document(note.id, note.id)


app = App("own", documents=[note], embedder=Spoken(24))
"""


def test_a_stopped_index_is_searched_by_the_model_it_was_made_with(headwater, tmp_path):
    """The application's own embedder, where the index is its; without the application by words alone, and that is said."""
    file, home = tmp_path / "own.py", tmp_path / "home"
    file.write_text(OWN_MODEL)
    app = load(str(file))
    topic = app.document_types[0].topic
    index = EdgeGenerations(home / "index").current(24)
    keep(index, fingerprint(app.embedder, app.document_types))
    event = Event(id="e", source="s", type="t", time=1)
    said = Received(Position("b", "notes", 0, 0), event, topic.model(id="snow"), 1)
    Indexer(index, app.embedder, app.document_types, clock=lambda: 1).index([said])
    index.close()
    done = headwater("search", "snow", "--json", home=home, HEADWATER_APP=str(file))
    assert done.returncode == 0, done.stderr
    assert "spoken by the application's own model" in done.stdout and '"note/snow"' in done.stdout
    fresh = headwater("search", "snow", "--max-staleness", "1s", "--wait", "0s", home=home, HEADWATER_APP=str(file))
    assert fresh.returncode == 75 and "nothing runs that could mend it: headwater up" in fresh.stderr and "ask again" not in fresh.stderr
    alone = headwater("search", "snow", "--json", home=home)
    assert [hit["document"] for hit in json.loads(alone.stdout)["results"]] == ["note/snow"]
    assert "made with spoken (24 dimensions)" in alone.stderr and "words alone" in alone.stderr


def test_init_writes_an_application_that_loads(headwater, tmp_path):
    """A small application to start from; a folder that holds something is left alone."""
    done = headwater("init", "lake", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lake" / "test_app.py").is_file() and list((tmp_path / "lake" / "procedures").iterdir())
    assert load(str(tmp_path / "lake" / "app.py")).name == "lake"
    again = headwater("init", "lake", home=tmp_path)
    assert again.returncode == 2 and "not empty" in again.stderr


def test_logs_go_to_standard_error(headwater, home, monkeypatch):
    """What a command prints as data is data alone, whatever is logged meanwhile."""

    def search(*asked: object) -> None:
        structlog.get_logger("headwater").warning("something happened")
        print('{"results": []}')

    monkeypatch.setattr("headwater.flows.look_commands.search", search)
    done = headwater("search", "x", "--json", home=home)
    assert json.loads(done.stdout) == {"results": []}
    assert "something happened" in done.stderr


def test_a_taken_port_is_told_before_anything_starts(headwater, tmp_path):
    """Which port, and what to do next; no broker was started and nothing opened for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = headwater("up", str(APPLICATION), home=tmp_path, HEADWATER_HTTP__PORT=port)
    assert done.returncode == 75
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr and "HEADWATER_HTTP__PORT" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"lock"}


def test_a_process_that_may_open_too_few_files_says_so_and_ends(tmp_path):
    """One sentence with what to do, instead of a trace from wherever the files ran out."""
    command = f'ulimit -n 64; exec "{sys.executable}" -m headwater up "{APPLICATION}"'
    known = {**os.environ, "HEADWATER_HOME": str(tmp_path), "HEADWATER_HTTP__PORT": "0", "COLUMNS": "200"}
    done = subprocess.run(["sh", "-c", command], env=known, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 2
    assert "ulimit -n" in done.stderr and "Traceback" not in done.stderr
