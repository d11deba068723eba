"""The events that the streaming benchmarks read: 170 bytes of JSON each, from a thousand devices, with an id as plain producers do."""

import msgspec

from headwater.flows.bench.bed import Bed
from headwater.flows.sink import Outgoing
from headwater.lineage.topic import Topic

SIZE = 170
DEVICES = 1000
COUNT = 300_000
HOT = 85.0
_AT_ONCE = 20_000


class Reading(msgspec.Struct, frozen=True):
    """One measurement. `celsius` from 20 to 90; 4 or 5 in 71 are hot."""

    id: str
    device: str
    site: str
    at: str
    celsius: float
    humidity: float
    note: str


READINGS: Topic[Reading] = Topic("bench-readings", Reading, key="device", partitions=4)


def reading(number: int) -> Reading:
    """The reading of this number, always the same."""
    one = Reading(
        f"reading-{number:08d}", f"device-{number * 7919 % DEVICES:04d}", f"hall-{number % 40:02d}", f"2026-01-01T{number % 24:02d}:00:00Z",
        20.0 + number % 71, 30.0 + number % 50, "",
    )  # fmt: skip
    return msgspec.structs.replace(one, note="." * (SIZE - len(READINGS.encode(one))))


def hot(count: int) -> int:
    """How many of the first `count` readings are hot."""
    return sum(20.0 + number % 71 > HOT for number in range(count))


def readings(bed: Bed) -> int:
    """See to it that the topic holds its readings; how many."""
    count = bed.many(COUNT)

    def fill(count: int) -> None:
        for start in range(0, count, _AT_ONCE):
            bed.writer.write(_message(reading(number)) for number in range(start, min(start + _AT_ONCE, count)))

    bed.filled(READINGS.name, READINGS.partitions, count, fill)
    return count


def _message(one: Reading) -> Outgoing:
    return Outgoing(READINGS.name, one.device.encode(), READINGS.encode(one), [("ce_id", one.id.encode())])
