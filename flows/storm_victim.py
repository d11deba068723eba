"""The process that `headwater demo --crash` kills: `index`, `detect` and `decide` of the reference application, at a broker elsewhere.

    python -m headwater.flows.storm_victim HOME BROKER

They are one process, for the embedded index belongs to one. It says `ready` once it runs, and runs until it is killed or told to stop.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from headwater.flows.child import die_with_parent
from headwater.flows.nyc.app import app
from headwater.flows.screen import causes
from headwater.flows.settings import load
from headwater.flows.up import Up

FLOWS = ("index", "detect", "decide")


def main(home: str, broker: str) -> None:
    """Run, and end with 1 if a flow fails."""
    die_with_parent()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stop.set())
    settings = load({"HEADWATER_HOME": home, "HEADWATER_KAFKA__BOOTSTRAP_SERVERS": broker})
    up = Up(app, settings, flows=FLOWS, http=False, idle=False)
    up.start()
    (Path(home) / "ready").write_text(str(os.getpid()))
    while not stop.wait(0.1) and not up.failed.is_set():
        pass
    if up.failure is not None:
        sys.stderr.write(f"{up.failure[0]} failed: {causes(up.failure[1])}\n")
        sys.stderr.flush()
        os._exit(1)
    up.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
