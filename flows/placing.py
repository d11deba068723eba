"""Where the messages of a flush lie, known from few reports: the Kafka client takes the interpreter once for each message it tells of, and
may wait a millisecond for it while a loop computes.

A message's partition follows from its key, so it is reckoned here as the client would. Of what goes to one partition only the first and
the last are told of: where as many offsets lie between as messages, all lie there, for an idempotent producer keeps their order. Else
somebody wrote in between, and it is read where each lies.
"""

import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from headwater.flows.drain import scan
from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Unavailable

FRESH_S = 60.0
"""How long a topic's number of partitions is believed; the client itself asks every five minutes."""
_WORTH = 3
"""Messages of one topic from which on its partitions are reckoned."""
_MURMUR = frozenset(("murmur2", "murmur2_random"))
_SEED, _M, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The hash by which Java clients and `murmur2_random` choose a partition, 32 bits (Austin Appleby's MurmurHash2)."""
    whole = len(key) & ~3
    found = _SEED ^ len(key)
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        word = word * _M & _MASK
        found = found * _M & _MASK ^ (word ^ word >> 24) * _M & _MASK
    if whole < len(key):
        found = (found ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    found = (found ^ found >> 13) * _M & _MASK
    return found ^ found >> 15


def partition_of(key: bytes, count: int) -> int:
    """The partition of `count` that a key belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % count


@dataclass(slots=True)
class Run:
    """What a flush sends to one partition (-1: the client chooses), in order. `ids` are the events', `offsets` where they lie."""

    topic: str
    partition: int
    ids: list[str] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)

    def asks(self, number: int) -> bool:
        """Whether the delivery of this message is to be told: of the first and the last."""
        return self.partition < 0 or number in (0, len(self.ids) - 1)


class Placing:
    """Plans flushes of one producer. `clock` gives seconds, of which only differences count."""

    def __init__(self, kafka: Kafka, clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka, self._clock = kafka, clock
        self._reckons = kafka.properties.get("partitioner", "murmur2_random") in _MURMUR
        self._counts: dict[str, tuple[int, float]] = {}

    def plan(self, messages: Sequence[tuple[str, bytes, str]]) -> list[tuple[Run, int]]:
        """(topic, key, event id) of each message, in the order in which they are produced → its run, and its number in it."""
        many: dict[str, int] = {}
        for topic, _, _ in messages:
            many[topic] = many.get(topic, 0) + 1
        counts = {topic: self._count(topic) if number >= _WORTH else 0 for topic, number in many.items()}
        runs: dict[tuple[str, int], Run] = {}
        planned = []
        for topic, key, id in messages:
            partition = partition_of(key, counts[topic]) if counts[topic] else -1
            run = runs.setdefault((topic, partition), Run(topic, partition))
            planned.append((run, len(run.ids)))
            run.ids.append(id)
        return planned

    def complete(self, runs: Iterable[Run]) -> None:
        """Fill in the offsets that nobody was told. Raises Unavailable, if they have to be read and cannot."""
        for run in runs:
            last = len(run.ids) - 1
            if len(run.offsets) > last or not {0, last} <= run.offsets.keys():  # all is known; or the owner is closing, and did not wait
                continue
            first = run.offsets[0]
            if run.offsets[last] - first == last:
                run.offsets = {number: first + number for number in range(last + 1)}
            else:
                self._read(run, first, run.offsets[last])

    def _read(self, run: Run, first: int, last: int) -> None:
        numbers = {id.encode(): number for number, id in enumerate(run.ids)}
        for message in scan(self._kafka, run.topic, run.partition, first, "read_uncommitted"):
            number = numbers.get(dict(message.headers).get("ce_id") or b"")
            if number is not None:
                run.offsets.setdefault(number, message.offset)
            if message.offset >= last:
                break
        if len(run.offsets) < len(run.ids):
            raise Unavailable(f"{len(run.ids) - len(run.offsets)} messages are not to be found in {run.topic}/{run.partition}")

    def _count(self, topic: str) -> int:
        """The topic's partitions; 0: not known, the client is to choose."""
        if not self._reckons:
            return 0
        count, since = self._counts.get(topic, (0, 0.0))
        now = self._clock()
        if not count or now - since > FRESH_S:
            try:
                count = self._kafka.partitions(topic)
            except Unavailable:
                count = 0
            self._counts[topic] = count, now
        return count
