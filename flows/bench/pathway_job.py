"""Kafka → JSON → count per device, and a filter, as Pathway's documentation writes it. Runs where Pathway is; imports nothing of ours.

python pathway_job.py BOOTSTRAP TOPIC COUNT HOT_COUNT HOT
"""

import json
import os
import sys
import time
from typing import Any

FASTEST = {
    "fetch.wait.max.ms": "10",
    "fetch.queue.backoff.ms": "5",
    "queued.min.messages": "100000",
    "queued.max.messages.kbytes": "65536",
    "fetch.message.max.bytes": "4000000",
}
"""What makes our own client fast on this broker, so that the client is not what is compared."""


def main(bootstrap: str, topic: str, count: int, hot_count: int, hot: float) -> None:
    import pathway as pw  # type: ignore[import-not-found,unused-ignore]

    class Reading(pw.Schema):  # type: ignore[misc,unused-ignore]
        id: str
        device: str
        site: str
        at: str
        celsius: float
        humidity: float
        note: str

    settings = {"bootstrap.servers": bootstrap, "group.id": f"pathway-{os.getpid()}", "auto.offset.reset": "earliest", **FASTEST}
    read = pw.io.kafka.read(settings, topic=topic, schema=Reading, format="json", autocommit_duration_ms=100)
    devices = read.groupby(pw.this.device).reduce(name=pw.this.device, many=pw.reducers.count())
    above = read.filter(pw.this.celsius > hot).reduce(name="", many=pw.reducers.count())
    totals: dict[str, int] = {}

    def changed(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if is_addition:
            totals[row["name"]] = row["many"]

    def through(time_: int) -> None:
        if sum(many for name, many in totals.items() if name) == count and totals.get("", 0) == hot_count:
            print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)
            os._exit(0)  # its Kafka reader never ends by itself

    pw.io.subscribe(devices, on_change=changed, on_time_end=through)
    pw.io.subscribe(above, on_change=changed, on_time_end=through)
    begun = time.perf_counter()
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
