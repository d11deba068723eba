"""Recovery stores: one per broker life, made once, never half."""

import os

import pytest

from headwater.flows.recovery import LIVES_KEPT, PARTITIONS, Recovery, hold
from headwater.flows.run_file import read_run_file, write_run_file
from headwater.lineage.errors import Misused


def test_a_store_left_half_made_is_made_again(tmp_path):
    """A kill while a store is being made leaves nothing that a later start would stumble over."""
    folder = tmp_path / "recovery" / "index" / "b"
    folder.mkdir(parents=True)
    (folder / "part-0.sqlite3").write_bytes(b"half")
    Recovery(tmp_path, "index", "b").close()
    assert len(list(folder.glob("part-*.sqlite3"))) == PARTITIONS
    assert (folder / "part-0.sqlite3").read_bytes() != b"half"


def test_a_store_that_is_made_is_kept(tmp_path):
    """Opening a store again changes nothing in it."""
    Recovery(tmp_path, "index", "b").close()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "recovery" / "index" / "b").glob("part-*.sqlite3")}
    Recovery(tmp_path, "index", "b").close()
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "recovery" / "index" / "b").glob("part-*.sqlite3")} == before


def test_stores_of_old_broker_lives_go(tmp_path):
    """However often an embedded broker starts, only the newest lives' stores are kept, the present one among them."""
    for life in range(LIVES_KEPT + 4):
        Recovery(tmp_path, "index", f"b{life}").close()
        os.utime(tmp_path / "recovery" / "index" / f"b{life}", (life, life))
    Recovery(tmp_path, "index", "now").close()
    kept = {path.name for path in (tmp_path / "recovery" / "index").iterdir()}
    assert len(kept) == LIVES_KEPT
    assert "now" in kept


def test_a_store_has_one_owner(tmp_path):
    """A second run over the same store is refused, naming the flow."""
    first = Recovery(tmp_path, "index", "b")
    with pytest.raises(Misused, match="flow index runs already"):
        Recovery(tmp_path, "index", "b")
    first.close()
    hold(tmp_path / "recovery" / "index" / "b" / "lock", "flow index").close()


def test_a_run_file_of_another_process_with_the_same_pid_counts_for_nothing(tmp_path):
    """Pids come again: the process that wrote the file is told by its start, too."""
    write_run_file(tmp_path, http="http://127.0.0.1:1")
    running = read_run_file(tmp_path)
    assert running is not None
    assert running["pid"] == os.getpid()
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace(f'"started": "{running["started"]}"', '"started": "1"'))
    assert read_run_file(tmp_path) is None
