"""`run.json` tells of a process that runs, and of none that has ended."""

import os
import select
import subprocess
import sys

from headwater.flows.run_file import read_run_file

WRITES = """
import sys
from pathlib import Path

from headwater.flows.run_file import write_run_file

write_run_file(Path(sys.argv[1]), http="x")
print(flush=True)
sys.stdin.read()
"""


def test_a_killed_process_counts_for_nothing_before_its_parent_has_heard_of_it(tmp_path):
    """A shell may ask for the next command before it has taken note of the kill: what runs nowhere is not asked."""
    command = [sys.executable, "-c", WRITES, str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        told = read_run_file(tmp_path)
        assert told is not None and told["pid"] == child.pid
        end = os.pidfd_open(child.pid)
        child.kill()
        select.select([end], [], [], 30)  # it has ended; nobody has waited for it
        os.close(end)
        assert read_run_file(tmp_path) is None
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
