"""What a process leaves in its home: locks, the run file, recovery stores; none of it can be left in a state that stops the next start."""

import json
import os
import subprocess
import sys
import threading

import pytest

import headwater.flows.door as door_module
from headwater.flows.door import door
from headwater.flows.recovery import PARTITIONS, Recovery, hold
from headwater.flows.run_file import read_run_file, remove_run_file, write_run_file, write_starting, write_whole
from headwater.flows.settings import Settings
from headwater.lineage.errors import Misused, Unavailable


def test_the_run_file_is_there_while_it_runs(tmp_path):
    """Written whole, read by others, gone after."""
    assert read_run_file(tmp_path) is None
    write_run_file(tmp_path, http="http://x")
    found = read_run_file(tmp_path)
    assert found is not None
    assert (found["pid"], found["http"]) == (os.getpid(), "http://x")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    remove_run_file(tmp_path)
    remove_run_file(tmp_path)
    assert read_run_file(tmp_path) is None


@pytest.mark.parametrize("left", ["", "{", "[]", "{}", '{"pid": 999999999}', '{"pid": "x"}'])
def test_a_run_file_that_says_nothing_true_is_none(tmp_path, left):
    """Half written by a stranger, or of a process that is dead: nothing runs."""
    (tmp_path / "run.json").write_text(left)
    assert read_run_file(tmp_path) is None


def test_a_write_is_whole_or_not_at_all(tmp_path):
    """Killed at any moment of a thousand writes, the file holds one of them whole."""
    path = tmp_path / "deep" / "file.json"
    code = (
        "import itertools, json\nfrom pathlib import Path\nfrom headwater.flows.run_file import write_whole\nprint(1, flush=True)\n"
        f"for n in itertools.count(): write_whole(Path({str(path)!r}), json.dumps([n] * 2000))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    while not path.exists():
        pass
    process.kill()
    process.wait()
    assert len(set(json.loads(path.read_text()))) == 1
    write_whole(path, "again")
    assert path.read_text() == "again"


def test_a_lock_has_one_holder(tmp_path):
    """The second is refused, naming what runs and what to do; after the first let go, another may hold it."""
    first = hold(tmp_path / "home" / "lock", "the lake")
    with pytest.raises(Misused, match=r"the lake runs already.*HEADWATER_HOME"):
        hold(tmp_path / "home" / "lock", "the lake")
    first.close()
    hold(tmp_path / "home" / "lock", "the lake").close()


def test_a_recovery_store_is_per_flow_and_broker(tmp_path):
    """Another broker's life, another flow: another store; the same one is locked against a second run."""
    first = Recovery(tmp_path, "index", "b1")
    assert len(list(first.path.glob("part-*.sqlite3"))) == PARTITIONS
    others = [Recovery(tmp_path, "index", "b2"), Recovery(tmp_path, "detect", "b1")]
    assert len({first.path, *(other.path for other in others)}) == 3
    with pytest.raises(Misused, match="flow index runs already"):
        Recovery(tmp_path, "index", "b1")
    for store in (first, *others):
        store.close()
    Recovery(tmp_path, "index", "b1").close()


def test_a_store_left_half_made_is_made_anew(tmp_path):
    """Killed while the store was being made: the next start has a whole one; a whole one is never touched."""
    path = tmp_path / "recovery" / "index" / "b1"
    path.mkdir(parents=True)
    (path / "part-0.sqlite3").write_bytes(b"half")
    store = Recovery(tmp_path, "index", "b1")
    store.close()
    parts = sorted(path.glob("part-*.sqlite3"))
    assert len(parts) == PARTITIONS and parts[0].read_bytes()[:6] == b"SQLite"
    known = [part.stat().st_mtime_ns for part in parts]
    Recovery(tmp_path, "index", "b1").close()
    assert [part.stat().st_mtime_ns for part in parts] == known


def test_who_asks_while_it_starts_waits_for_it(tmp_path, monkeypatch):
    """A home whose headwater is starting is neither stopped nor running: its files are left alone, and it is asked once it answers."""
    settings = Settings(home=tmp_path)
    write_starting(tmp_path)
    timer = threading.Timer(0.5, write_run_file, [tmp_path], {"http": "http://127.0.0.1:1"})
    timer.start()
    found = door(settings)
    timer.join()
    assert (found.running, found.address) == (True, "http://127.0.0.1:1")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    remove_run_file(tmp_path)
    assert not door(settings).running
    write_starting(tmp_path)
    monkeypatch.setattr(door_module, "STARTING_S", 0.2)
    with pytest.raises(Unavailable, match="is still starting"):
        door(settings)
    remove_run_file(tmp_path)
    assert list(tmp_path.iterdir()) == []
