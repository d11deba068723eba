"""The process that the bench `recovery` kills: `index`, `detect` and `audit` over the broker it is told, as `headwater up` runs them.

python -m headwater.flows.bench.survivor HOME BOOTSTRAP METERS VECTORS

A file `until.json` in its home, [[partition, offset], …], asks it to stop once index and rules have come so far; it touches `there` as soon
as they have come as far as `caught-up.json` says, and goes on.
"""

import json
import sys
import threading
from pathlib import Path

from headwater.flows.bench.meters import METERS, Prepared, app, texts
from headwater.flows.settings import Settings
from headwater.flows.up import Up

LOOK_S = 0.05


def main(home: Path, bootstrap: str, meters: int, vectors: Path) -> int:
    settings = Settings(home=home, kafka={"bootstrap.servers": bootstrap})
    flows, embedder = ("index", "detect", "audit"), Prepared(vectors, texts(meters))
    with Up(app(home), settings, flows=flows, http=False, idle=False, embedder=embedder) as up:
        while not up.failed.wait(LOOK_S):
            if _come(up, home / "caught-up.json"):
                (home / "there").touch()
            if _come(up, home / "until.json"):
                break
    if up.failure is not None:
        print(f"{up.failure[0]} failed: {up.failure[1]!r}", file=sys.stderr)
    if up.undrained:
        print(f"not drained: {', '.join(up.undrained)}", file=sys.stderr)
    return 1 if up.failure or up.undrained else 0


def _come(up: Up, asked: Path) -> bool:
    if not asked.exists():
        return False
    places = {(METERS.name, partition): offset for partition, offset in json.loads(asked.read_text())}
    return all(up.run.meter.await_reached(flow, places, 0) for flow in ("index", "detect"))


if __name__ == "__main__":
    threading.current_thread().name = "survivor"
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
