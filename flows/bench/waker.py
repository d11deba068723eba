"""What `agents` measures with, in a process of its own as senders and readers are: it wakes an agent at a steady rate and reads what comes.

python -m headwater.flows.bench.waker BOOTSTRAP FIRST COUNT RATE      prints one line of JSON: sent_s, last_s, added_ms
"""

import json
import sys
import threading
import time
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headwater.agents.activation import Activation, activation_event, activation_id
from headwater.agents.rules import Threshold
from headwater.flows.kafka import Kafka
from headwater.flows.sink import Outgoing, outgoing
from headwater.lineage.topic import ACTIVATIONS, Topic

HOT, HOT_PER_S = 10, 4
"""Hot keys, and how often each is woken in a second: its calls follow each other, and five of 200 ms fill it."""
PATIENCE_S = 30.0
"""How long answers may stay out after the last one was sent."""
FETCH_MS, LINGER_MS = 5, 3
"""What asks the embedded broker every millisecond takes most of a processor there. What these add is in the figure."""
WARM = 64
"""Activations that are sent and answered before the clock starts: a new producer waits for its id from the broker, most of a second, and
a flow that has just begun for its journals. What is measured is how a stream is answered, not how a queue from then is worked off."""


class Sent(msgspec.Struct):
    """What the agent publishes: the number of its activation."""

    at: int


SENT = Topic("bench-sent", Sent)
WOKEN = Threshold("bench", of=SENT, value=pl.col("at"), opens_at=1, closes_at=0)


class Answers:
    """Reads what the agent publishes as it becomes readable: number of the activation → when (seconds of `perf_counter`)."""

    def __init__(self, kafka: Kafka) -> None:
        from confluent_kafka import TopicPartition

        self.came: dict[int, float] = {}
        self._consumer = kafka.consumer("headwater-bench-answers", fetch_wait_max_ms=FETCH_MS)
        parts = kafka.partitions(SENT.name)
        self._consumer.assign([TopicPartition(SENT.name, partition, 0) for partition in range(parts)])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="bench-answers", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(1000, 0.002):
                if message.error() is None:
                    self.came.setdefault(SENT.decode(message.value()).at, time.perf_counter())
        self._consumer.close()

    def wait(self, numbers: range) -> None:
        """Until all of these have come; not for ever."""
        until = time.perf_counter() + PATIENCE_S
        while sum(at in self.came for at in numbers) < len(numbers) and time.perf_counter() < until:
            time.sleep(0.05)

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
    start = time.perf_counter()
    for n, message in enumerate(made):
        wait = start + n / rate - time.perf_counter()
        if wait > 0.0005:
            producer.poll(0)
            time.sleep(wait)
        producer.produce(message.topic, message.value, message.key, headers=message.headers)
    return start


def main(bootstrap: str, first: str, count: str, rate: str) -> None:
    kafka = Kafka({"bootstrap.servers": bootstrap})
    begin, many, per_s = int(first), int(count), int(rate)
    producer = kafka.producer(linger_ms=LINGER_MS)
    made, answers = messages(begin, many, per_s), Answers(kafka)
    warm(producer, answers, begin)
    start = send(producer, made, per_s)
    sent = time.perf_counter() - start
    producer.flush(10)
    numbers = range(begin, begin + many)
    answers.wait(numbers)
    answers.close()
    came = [(at - begin, answers.came[at]) for at in numbers if at in answers.came]
    took = np.array([when - start - n / per_s for n, when in came]) * 1000
    last = max((when for _, when in came), default=start) - start
    told = {"answered": len(came), "sent_s": sent, "last_s": last, "took_ms": {str(p): float(np.percentile(took, p)) for p in (50, 90, 99)}}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
