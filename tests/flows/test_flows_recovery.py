"""Recovery stores: one per broker life, made once, never half."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from headwater.flows.recovery import LIVES_KEPT, PARTITIONS, SLOTS_UNTOLD, Recovery, hold
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


def test_a_cluster_shares_a_store_and_no_other_gets_in(tmp_path):
    """Processes of one cluster share it, whichever comes first, each once; another cluster or a run by itself is refused."""
    ours = ["a:1", "b:1"]
    second = Recovery(tmp_path, "index", "b", process=1, addresses=ours)
    first = Recovery(tmp_path, "index", "b", process=0, addresses=ours)
    with pytest.raises(Misused, match=r"flow index runs already \(its lock .*/lock-1 is held\)"):
        Recovery(tmp_path, "index", "b", process=1, addresses=ours)
    for addresses in ([], ["a:1"], ["c:1", "d:1"]):
        with pytest.raises(Misused, match=r"flow index in another cluster \(a:1;b:1\) runs already \(its lock .*/lock"):
            Recovery(tmp_path, "index", "b", addresses=addresses)
    first.close()
    with pytest.raises(Misused, match=r"another cluster .*/lock-1 is held"):
        Recovery(tmp_path, "index", "b")
    second.close()
    Recovery(tmp_path, "index", "b").close()
    Recovery(tmp_path, "index", "b", process=1, addresses=["c:1", "d:1"]).close()


def test_a_run_by_itself_keeps_clusters_out(tmp_path):
    """One process without a cluster holds the store as well as a cluster does."""
    alone = Recovery(tmp_path, "index", "b")
    with pytest.raises(Misused, match=r"another cluster \(one process\) runs already"):
        Recovery(tmp_path, "index", "b", process=1, addresses=["a:1", "b:1"])
    alone.close()


@pytest.mark.parametrize("killed", [False, True])
def test_the_lock_goes_with_its_process(tmp_path, killed):
    """Another process is refused while the first lives, and let in once it is gone, however it went."""
    code = (
        "import sys, time; from pathlib import Path; from headwater.flows.recovery import Recovery\n"
        "recovery = Recovery(Path(sys.argv[1]), 'index', 'b', process=1, addresses=['a:1', 'b:1']); print('held', flush=True)\n"
        "time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    try:
        with pytest.raises(Misused, match="another cluster"):
            Recovery(tmp_path, "index", "b")
        Recovery(tmp_path, "index", "b", process=0, addresses=["a:1", "b:1"]).close()
    finally:
        other.kill() if killed else other.terminate()
        other.wait()
        other.stdout.close()
    Recovery(tmp_path, "index", "b").close()


def test_the_number_of_slots_is_the_stores(tmp_path):
    """It is written when the store is made and stays, whatever is asked for later; stores from before it was written had eight."""
    made = Recovery(tmp_path, "index", "b", slots=100)
    assert made.slots == 100
    made.close()
    again = Recovery(tmp_path, "index", "b", slots=64)
    assert again.slots == 100
    again.close()
    (again.path / "slots").unlink()
    old = Recovery(tmp_path, "index", "b")
    assert old.slots == SLOTS_UNTOLD == 8
    old.close()


@pytest.mark.parametrize(("fronts", "kept"), [({0: 6, 1: 5}, [2, 3, 4]), ({0: 6}, [2, 3, 4, 5]), ({}, [2])])
def test_what_no_execution_completed_is_not_resumed_from(tmp_path, fronts, kept):
    """Snapshots at or beyond the epoch that is resumed from go, so that no later start takes up a state ahead of its source."""
    first = Recovery(tmp_path, "detect", "b")
    first.close()
    with closing(sqlite3.connect(first.path / "part-0.sqlite3")) as part, part:
        part.executemany("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (?, 2, ?)", [(0, 1), (1, 3)])
        part.executemany("INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (1, ?, ?)", fronts.items())
    with closing(sqlite3.connect(first.path / "part-0.sqlite3")) as part, part:
        rows = [("detect.rules", "readings", epoch, b"state") for epoch in range(2, 9)]
        part.executemany("INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)", rows)
    Recovery(tmp_path, "detect", "b").close()
    with closing(sqlite3.connect(first.path / "part-0.sqlite3")) as part:
        assert [row[0] for row in part.execute("SELECT snap_epoch FROM snaps ORDER BY 1")] == kept


def begin(home, life, how):
    """A life of the flow in resumed.py."""
    program = [sys.executable, str(Path(__file__).parent / "resumed.py"), str(home), life, how]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill_between_state_and_epoch(life, store):
    """Kill it when the state that 15 made is in the store, and that its epoch is over is not."""
    parts = {part: sqlite3.connect(part) for part in store.glob("part-*.sqlite3")}
    [fronts] = [part for part in parts if parts[part].execute("SELECT 1 FROM exs").fetchone()]
    parts[fronts].execute("BEGIN IMMEDIATE")  # the engine waits to write how far it is
    life.stdin.write("go on\n")
    life.stdin.flush()
    there = "SELECT 1 FROM snaps WHERE state_key = 'k' AND snap_epoch >= 15"
    while not any(parts[part].execute(there).fetchone() for part in parts if part != fronts):
        assert life.poll() is None
        time.sleep(0.005)
    life.kill()
    life.communicate()
    for part in parts.values():
        part.close()


@pytest.mark.parametrize(("how", "met"), [("cut", 5), ("uncut", 15)])
def test_killed_twice_in_a_row_no_state_is_ahead_of_its_source(tmp_path, how, met):
    """What a killed life wrote of an epoch it did not complete is not taken up by the life after the next; without the cut it would be."""
    first = begin(tmp_path, "first", how)
    assert [first.stdout.readline() for _ in range(2)] == ["5 0\n", "15 5\n"]
    kill_between_state_and_epoch(first, tmp_path / "recovery" / "small" / "b")
    idle = begin(tmp_path, "idle", how)
    assert idle.communicate(timeout=500)[0] == ""
    assert (first.returncode, idle.returncode) == (-signal.SIGKILL, -signal.SIGKILL)
    last = begin(tmp_path, "last", how)
    assert last.communicate(timeout=500)[0] == f"15 {met}\n"
    assert last.returncode == 0


KILLED = 100
"""What shared.py hands out last in a life that is killed."""


def cluster(home, processes, last):
    """What a cluster of shared.py printed until it ended."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(processes if processes > 1 else 0)]
    ports = " ".join(f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes)
    for probe in probes:
        probe.close()
    program = [sys.executable, str(Path(__file__).parent / "shared.py"), str(home)]
    lives = [subprocess.Popen([*program, str(n), ports, str(last)], stdout=subprocess.PIPE, text=True) for n in range(processes)]
    if last == KILLED:
        lives[0].wait(timeout=500)
        for life in lives[1:]:
            life.kill()
    said = [line.split() for life in lives for line in life.communicate(timeout=500)[0].splitlines()]
    return [line for line in said if line[0] in "abcde"]  # the engine says when it waits for another process


@pytest.mark.long
@pytest.mark.parametrize("processes", [(1, 3), (3, 1)])
def test_any_number_of_processes_shares_a_store(tmp_path, processes):
    """A store made by one process and killed goes on with three, and the other way round: no state is lost, none counted twice."""
    made, later = processes
    assert cluster(tmp_path, made, KILLED)
    [store] = (tmp_path / "recovery" / "shared").iterdir()
    assert len(list(store.glob("part-*.sqlite3"))) == made * PARTITIONS
    told = cluster(tmp_path, later, 120)
    assert all(number == count for _, number, count in told)
    assert {name for name, number, _ in told if number == "120"} == set("abcde")
