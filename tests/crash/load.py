"""Readings at a steady rate, until its standard input ends; then the number written. Arguments: BROKER EVENTS_PER_SECOND BYTES

A reading carries a ballast that the application has no field for: what is kept of it anywhere shows.
"""

import json
import select
import sys

from headwater.flows.kafka import Kafka
from headwater.flows.sink import Outgoing, Writer, outgoing
from headwater.lineage.decode import MARK
from headwater.lineage.event import Event

START = 1_900_000_000_000_000
BURST_S = 0.05


def reading(n: int, ballast: str) -> Outgoing:
    """Of forty gauges two rise and fall in turn: one event in twenty fires."""
    gauge, turn = n % 40, n // 40
    data = {"id": f"r{n}", "gauge": f"g{gauge}", "metres": 2.5 if gauge % 20 == 0 and turn % 2 else 0.5, "ballast": ballast}
    event = Event(id=f"event-{n}", source="/load", type="reading", time=START + n * 1000, data=json.dumps(data).encode())
    return outgoing("readings", event, f"g{gauge}", gauge % 2)


def main(address: str, rate: int, size: int) -> None:
    kafka = Kafka({"bootstrap.servers": address})
    writer = Writer(kafka, kafka.broker_id())
    ballast, written = "x" * size, 0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], BURST_S)[0]:
        many = int(rate * BURST_S)
        writer.write(reading(n, ballast) for n in range(written, written + many))
        written += many
    marks = [Event(id=f"mark-{p}", source="/load", type=MARK, time=START + 10**12) for p in range(2)]
    writer.write(outgoing("readings", mark, mark.id, p) for p, mark in enumerate(marks))
    print(written + len(marks), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
