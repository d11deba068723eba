"""Bare consumer loops, no dataflow around them: what the client itself can do."""

from collections import Counter
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from headwater.flows.bench.bed import Bed, demand
from headwater.flows.bench.readings import HOT, READINGS, Reading
from headwater.flows.bench.streams import HOT_KEY, check

AT_ONCE = 1000
AHEAD = 3
"""Batches that may lie ready."""
_FASTEST = {
    "queued_min_messages": 100_000,
    "queued_max_messages_kbytes": 65_536,
    "fetch_message_max_bytes": 4_000_000,
    "isolation_level": "read_uncommitted",
}
"""More memory than a flow may take, and no transactions: nothing that would make the loop faster is left out."""


def best(bed: Bed, count: int, at_once: int = AT_ONCE) -> None:
    """`consume(1000)` (of 200 to 5,000 the fastest), the same decoder, the same counting."""
    decode = msgspec.json.Decoder(Reading).decode
    totals: Counter[str] = Counter()
    for batch in _batches(_consumer(bed), at_once):
        models = [decode(message.value() or b"") for message in batch]
        totals.update([one.device for one in models])
        totals[HOT_KEY] += sum([one.celsius > HOT for one in models])
    check(totals, count)


def ahead(bed: Bed, count: int) -> None:
    """The same with a thread that consumes ahead: the client waits for and sorts messages without Python's lock."""
    decode = msgspec.json.Decoder(Reading).decode
    totals: Counter[str] = Counter()
    consumed: SimpleQueue[list[Message] | None] = SimpleQueue()
    room = BoundedSemaphore(AHEAD)

    def consume() -> None:
        for batch in _batches(_consumer(bed), 5000):
            room.acquire()
            consumed.put(batch)
        consumed.put(None)

    thread = Thread(target=consume, name="bench-ahead", daemon=True)
    thread.start()
    while (batch := consumed.get()) is not None:
        room.release()
        models = [decode(message.value() or b"") for message in batch]
        totals.update([one.device for one in models])
        totals[HOT_KEY] += sum([one.celsius > HOT for one in models])
    thread.join()
    check(totals, count)


def client_only(bed: Bed, count: int) -> None:
    """Only what the client costs: messages made and let go of."""
    demand(sum(map(len, _batches(_consumer(bed), AT_ONCE))), count, "events read")


def decoded_only(bed: Bed, count: int) -> None:
    """The client and the decoder, nothing counted: what no consumer in this interpreter goes below."""
    decode = msgspec.json.Decoder(Reading).decode
    read = sum(len([decode(message.value() or b"") for message in batch]) for batch in _batches(_consumer(bed), AT_ONCE))
    demand(read, count, "events decoded")


def by_message(bed: Bed, count: int, loads: Callable[[bytes], dict[str, Any]]) -> None:
    """`poll()` for each message, as most consumers are written; no validation."""
    totals: dict[str, int] = {HOT_KEY: 0}
    consumer, left = _consumer(bed), READINGS.partitions
    while left:
        message = consumer.poll(0.1)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            left -= _ended(error)
            continue
        one = loads(message.value() or b"")
        device = one["device"]
        totals[device] = totals.get(device, 0) + 1
        if one["celsius"] > HOT:
            totals[HOT_KEY] += 1
    consumer.close()
    check(totals, count)


def _consumer(bed: Bed) -> Consumer:
    consumer = bed.kafka.consumer("headwater-bench-loop", **_FASTEST)
    consumer.assign([TopicPartition(READINGS.name, partition, 0) for partition in range(READINGS.partitions)])
    return consumer


def _batches(consumer: Consumer, at_once: int) -> Iterator[list[Message]]:
    left = READINGS.partitions
    while left:
        found = consumer.consume(at_once, 0.005)
        batch = [message for message in found if message.error() is None]
        left -= sum(_ended(message.error()) for message in found if message.error() is not None)
        if batch:
            yield batch
    consumer.close()


def _ended(error: KafkaError) -> bool:
    return bool(error.code() == KafkaError._PARTITION_EOF)
