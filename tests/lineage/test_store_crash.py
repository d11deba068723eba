import os
import signal
import subprocess
import sys

from headwater.lineage.store import Store
from headwater.lineage.verify import verify

MESSAGES = 60
LANDER = f"""
import sys
from headwater.lineage.event import Position
from headwater.lineage.record import outcomes, run_of
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import document

def message(n):
    places = [Position("b", "flights", 0, offset) for offset in range(n * 20, n * 20 + 20)]
    consumed = run_of("consumed", "index", places[0], n * 20 + 20, 20, 1)
    return [consumed, *map(document, places), *outcomes("index", [(p, "indexed") for p in places], 1)]

store = Store(sys.argv[1], clock=lambda: 1)
for n in range(store.offsets("b").get(0, 0), {MESSAGES}):
    store.land([Landing("b", 0, n, message(n))])
    print(n, flush=True)
store.close()
"""


def test_killed_and_resumed_nothing_is_lost_or_twice(tmp_path):
    """Law 1: the landing process killed -9 twice and resumed from its offsets leaves what an undisturbed run leaves."""
    path = tmp_path / "lineage.duckdb"
    for kill_after in (7, 19, None):
        with subprocess.Popen([sys.executable, "-c", LANDER, str(path)], stdout=subprocess.PIPE, text=True) as process:
            for count, _ in enumerate(process.stdout, 1):
                if count == kill_after:
                    os.kill(process.pid, signal.SIGKILL)
    with Store(path, clock=lambda: 1) as store:
        verdict = verify(store, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        assert verdict.totals == {"index": {"indexed": MESSAGES * 20}} and verdict.replayed == 0
        assert verdict.records == MESSAGES * 22 and store.offsets("b") == {0: MESSAGES}
