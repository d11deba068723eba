"""One process of the cluster that `scale` measures: runs the flow `ingest` once and prints what it took, as one line of JSON.

python -m headwater.flows.bench.member BOOTSTRAP BROKER PEERS NUMBER
"""

import json
import resource
import sys

from bytewax._bytewax import cluster_main

from headwater.flows.bench.streams import Totals, ingest_flow
from headwater.flows.collector import collect_seldom
from headwater.flows.kafka import Kafka
from headwater.flows.recovery import EPOCH
from headwater.flows.sink import Writer


class Meanwhile:
    """The CPU seconds of this process, user and system, since its source took up its first partition: starting up is not the flow's."""

    def __init__(self) -> None:
        self._from = 0.0
        self.read = 0

    def begun(self, topic: str, partition: int, offset: int) -> None:
        self._from = self._from or cpu()

    def told(self, topic: str, partition: int, following: int, appended: int) -> None:
        self.read += 1

    @property
    def spent(self) -> float:
        return cpu() - self._from if self._from else 0.0


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(bootstrap: str, broker: str, peers: str, number: str) -> None:
    collect_seldom()
    kafka, totals, meanwhile = Kafka({"bootstrap.servers": bootstrap}), Totals(), Meanwhile()
    # A part per partition: they are dealt out in turn, so that two processes have as many of them each.
    flow = ingest_flow(kafka, broker, totals, Writer(kafka, broker), begun=meanwhile.begun, read=meanwhile.told, slots=None)
    cluster_main(flow, peers.split(",") if peers else [], int(number), epoch_interval=EPOCH)  # type: ignore[no-untyped-call]
    print(json.dumps({"cpu": meanwhile.spent, "read": meanwhile.read, "totals": totals.newest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
