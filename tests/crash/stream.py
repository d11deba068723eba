"""What every run is given: the same events in the same places, so that what any two runs leave can be compared."""

import json
import random
import zlib

from headwater.flows.sink import Outgoing, outgoing
from headwater.lineage.decode import MARK
from headwater.lineage.duration import parse_time
from headwater.lineage.event import Event
from headwater.lineage.topic import ACTIVATIONS, DEAD, DECISIONS, REVIEWS

PARTITIONS = {"readings": 3, "alarms": 2, "notes": 1, ACTIVATIONS: 2, DECISIONS: 2, REVIEWS: 1, DEAD: 1}
GAUGES = [f"gauge{n}" for n in range(7)]
EVENTS = 300
START = parse_time("2031-01-01T00:00:00Z")


def readings() -> list[Outgoing]:
    """Walks of seven gauges, interleaved: some broken, some removed; a few late, malformed, or sent twice."""
    chance = random.Random(2031)
    metres = dict.fromkeys(GAUGES, 1.0)
    found: list[Outgoing] = []
    for n in range(EVENTS):
        gauge = chance.choice(GAUGES)
        metres[gauge] = min(6.0, max(0.0, metres[gauge] + chance.uniform(-1, 1.1)))
        state = chance.choices(["ok", "broken", "removed"], [80, 15, 5])[0]
        at = START + n * 1_000_000 - (chance.randrange(900_000) if chance.random() < 0.9 else 20_000_000)
        data = {"id": f"r{n}", "gauge": gauge, "metres": round(metres[gauge], 2), "state": state}
        body = b'{"metres":"much"}' if n % 13 == 12 else json.dumps(data).encode()
        event = Event(id=f"event-{n}", source="/crash", type="reading", time=at, data=body)
        again = found and n % 29 == 28
        found.append(found[-1] if again else outgoing("readings", event, gauge, zlib.crc32(gauge.encode()) % 3))
    return found


def marks() -> list[Outgoing]:
    """Ends of time, one for each partition."""
    times = (Event(id=f"mark-{p}", source="/crash", type=MARK, time=START + 10**10) for p in range(3))
    return [outgoing("readings", mark, f"mark-{p}", p) for p, mark in enumerate(times)]
