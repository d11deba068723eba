"""Child processes end with their parent, and starting one never waits for a lock of another thread."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from headwater.flows.child import leashed

PARENT = """
import subprocess, sys, time
from headwater.flows.child import leashed
child = subprocess.Popen(leashed([sys.executable, "-c", "import time; time.sleep(600)"]))
print(child.pid, flush=True)
time.sleep(600)
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_dies_with_a_parent_that_is_killed():
    """Whatever kills the parent, its child does not outlive it."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while _alive(child) and time.monotonic() < until:
        time.sleep(0.01)
    alive = _alive(child)
    if alive:
        os.kill(child, signal.SIGKILL)
    assert not alive


def test_a_child_is_the_command_itself():
    """It has the command's arguments, its exit status, and the id that the parent knows."""
    script = "import os, sys; print(os.getpid(), *sys.argv[1:]); sys.exit(7)"
    child = subprocess.Popen(leashed([sys.executable, "-c", script, "a b", "", "$HOME"]), stdout=subprocess.PIPE, text=True)
    told, _ = child.communicate()
    assert told == f"{child.pid} a b  $HOME\n"
    assert child.returncode == 7


def test_no_child_runs_python_between_fork_and_exec():
    """A fork with `preexec_fn` may stand still for ever beside other threads, so none is made anywhere."""
    import headwater.flows

    root = Path(headwater.flows.__path__[0])
    assert [p.name for p in root.rglob("*.py") if "preexec_fn=" in p.read_text()] == []
