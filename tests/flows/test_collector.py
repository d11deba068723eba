"""The cycle collector of a process that runs flows."""

import subprocess
import sys


def test_what_is_loaded_is_not_looked_through_again():
    """Once all is loaded it is set aside, and once only: what comes and goes later is collected; nobody complains at the end."""
    script = (
        "import gc, duckdb\n"
        "from headwater.flows.collector import keep_what_is_loaded\n"
        "keep_what_is_loaded()\n"
        "first = gc.get_freeze_count()\n"
        "class Ring: pass\n"
        "ring = Ring(); ring.itself = ring; del ring\n"
        "keep_what_is_loaded()\n"
        "print(first > 1000, gc.get_freeze_count() <= first, gc.collect() > 0)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "True", "True"] and told.stderr == ""
