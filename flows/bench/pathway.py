"""The job of `ingest` on Pathway, where it is installed: never a dependency, only something to be measured against.

It is looked for in this interpreter, and in the one that HEADWATER_TEST_PATHWAY names.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from headwater.flows.bench.bed import Bed, demand
from headwater.flows.bench.readings import HOT, READINGS, hot

JOB = Path(__file__).with_name("pathway_job.py")
PATIENCE_S = 300.0


class Took(NamedTuple):
    """Seconds: with the interpreter's start and the import of Pathway, and from its `run` on."""

    whole: float
    run: float


def interpreter() -> str | None:
    """The Python that has Pathway; None: there is none."""
    named = os.environ.get("HEADWATER_TEST_PATHWAY")
    if named:
        return named
    return sys.executable if importlib.util.find_spec("pathway") is not None else None


def ingest(bed: Bed, count: int, python: str) -> Took:
    """Read all readings, count them per device, filter the hot ones. Raises Spoiled."""
    start = time.perf_counter()  # -I: this folder must not be looked in, for this very module has its name
    asked = [python, "-I", str(JOB), bed.kafka.address, READINGS.name, str(count), str(hot(count)), str(HOT)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    whole = time.perf_counter() - start
    demand(done.returncode, 0, f"the status of Pathway ({done.stderr.strip()[-300:]})")
    return Took(whole, float(json.loads(done.stdout.splitlines()[-1])["seconds"]))
