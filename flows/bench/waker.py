"""What `agents` measures with, in a process of its own as senders and readers are: it wakes an agent at a steady rate and reads what comes.

python -m headwater.flows.bench.waker BOOTSTRAP FIRST COUNT RATE      prints one line of JSON: sent_s, last_s, cpu_s, took_ms
"""

import gc
import json
import sys
import threading
import time
from collections.abc import Collection
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headwater.agents.activation import Activation, activation_event, activation_id
from headwater.agents.rules import Threshold
from headwater.flows.drain import drain
from headwater.flows.kafka import Kafka
from headwater.flows.sink import Outgoing, outgoing
from headwater.lineage.topic import ACTIVATIONS, Topic

HOT, HOT_PER_S = 10, 4
"""Hot keys, and how often each is woken in a second: its calls follow each other, and five of 200 ms fill it."""
PATIENCE_S, MISSED_S = 30.0, 10.0
"""How long answers may stay out after the last one was sent; from when on they are looked for again from the beginning."""
FETCH_MS, LINGER_MS, TICK_S = 10, 10, 0.002
"""What asks the embedded broker every millisecond takes most of a processor there, and each of its answers costs it more the more batches
a partition has. So what is due within a tick is sent at once, and shares a batch with what comes soon after. What these add is in the
figure."""
WARM = 64
"""Activations that are sent and answered before the clock starts: a new producer waits for its id from the broker, most of a second, and
a flow that has just begun for its journals. What is measured is how a stream is answered, not how a queue from then is worked off."""


class Sent(msgspec.Struct):
    """What the agent publishes: the number of its activation."""

    at: int


SENT = Topic("bench-sent", Sent)
WOKEN = Threshold("bench", of=SENT, value=pl.col("at"), opens_at=1, closes_at=0)


class Answers:
    """Reads what the agent publishes as it becomes readable. While the clock runs only moments are noted; `came` reads what came then."""

    def __init__(self, kafka: Kafka) -> None:
        from confluent_kafka import TopicPartition

        self.many = 0
        self._kafka = kafka
        self._found: list[tuple[float, list[Any]]] = []
        self._consumer = kafka.consumer("headwater-bench-answers", fetch_wait_max_ms=FETCH_MS)
        self._parts = range(kafka.partitions(SENT.name))
        self._consumer.assign([TopicPartition(SENT.name, partition, 0) for partition in self._parts])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="bench-answers", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            first = self._consumer.poll(0.05)  # returns with the first that comes
            if first is None:
                continue
            found = [first, *self._consumer.consume(10_000, 0)]
            self._found.append((time.perf_counter(), [message.value() for message in found if message.error() is None]))
            self.many += len(self._found[-1][1])
        self._consumer.close()

    def came(self) -> dict[int, float]:
        """Number of the activation → when its answer came first (seconds of `perf_counter`)."""
        came: dict[int, float] = {}
        for when, values in self._found[:]:
            for value in values:
                came.setdefault(SENT.decode(value).at, when)
        return came

    def wait(self, numbers: Collection[int]) -> bool:
        """Whether all of these have come; waits for it, but not for ever."""
        begun = time.perf_counter()
        while self.many < len(numbers) or not self.came().keys() >= set(numbers):
            if time.perf_counter() > begun + PATIENCE_S:
                return False
            if time.perf_counter() > begun + MISSED_S:
                self._look_again()
            time.sleep(0.05)
        return True

    def _look_again(self) -> None:
        """What the embedded broker had not stored when it showed what follows (`flows.gaps`) comes only now."""
        there = [message.value for partition in self._parts for message in drain(self._kafka, SENT.name, partition, 0)]
        self._found.append((time.perf_counter(), there))
        self.many += len(there)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def messages(first: int, count: int, rate: int) -> list[Outgoing]:
    """Activations of many keys, among them the hot ones, made before the clock starts. Their event time is their number."""
    every = max(1, rate // (HOT * HOT_PER_S))
    made = []
    for at in range(first, first + count):
        key = f"hot-{at // every % HOT}" if at % every == 0 else f"key-{at}"
        id = activation_id(WOKEN.name, key, at)
        woken = Activation(id=id, rule=WOKEN.name, key=key, phase="opened", at=at, value=1.0, episode=id)
        made.append(outgoing(ACTIVATIONS, activation_event(woken), key))
    return made


def warm(producer: Any, answers: Answers, first: int) -> None:
    """Have a few of other numbers than those measured go the whole way."""
    numbers = range(-first - WARM, -first)
    for message in messages(numbers.start, WARM, WARM):
        producer.produce(message.topic, message.value, message.key, headers=message.headers)
    producer.flush(10)
    answers.wait(numbers)


def send(producer: Any, made: list[Outgoing], rate: int) -> float:
    """Each at its moment, whether or not the ones before were answered. Gives when it began."""
    topic, sent = ACTIVATIONS, 0
    start = time.perf_counter()
    while sent < len(made):
        due = min(len(made), int((time.perf_counter() - start) * rate) + 1)
        for message in made[sent:due]:
            producer.produce(topic, message.value, message.key, headers=message.headers)
        sent = due
        time.sleep(TICK_S)
    return start


def main(bootstrap: str, first: str, count: str, rate: str) -> None:
    kafka = Kafka({"bootstrap.servers": bootstrap})
    begin, many, per_s = int(first), int(count), int(rate)
    producer = kafka.producer(linger_ms=LINGER_MS)
    made, answers = messages(begin, many, per_s), Answers(kafka)
    warm(producer, answers, begin)
    gc.collect()
    gc.freeze()  # what was made beforehand is not looked through again while the clock runs
    used = time.process_time()
    start = send(producer, made, per_s)
    sent = time.perf_counter() - start
    producer.flush(10)
    numbers = range(begin, begin + many)
    answers.wait(numbers)
    used = time.process_time() - used
    answers.close()
    found = answers.came()
    came = [(at - begin, found[at]) for at in numbers if at in found]
    took = np.array([when - start - n / per_s for n, when in came]) * 1000
    last = max((when for _, when in came), default=start) - start
    told = {
        "answered": len(came), "sent_s": sent, "last_s": last, "cpu_s": used,
        "took_ms": {str(p): float(np.percentile(took, p)) for p in (50, 90, 99)},
    }  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
