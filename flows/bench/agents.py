"""agents: inline calls to a model that takes 200 ms, the journal on, one worker, ten hot keys among many.

A message goes the whole way: activation on its topic → decided, journaled → the event of its effect, readable to others. What the way adds
to the model's 200 ms is the figure beside. `op.map`, the reference, waits for each call.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import bytewax.operators as op
import msgspec
import numpy as np
import polars as pl
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from headwater.agents.activation import Activation, activation_event, activation_id
from headwater.agents.agent import Agent, Decision, Publish
from headwater.agents.context import Context
from headwater.agents.rules import Threshold
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import App
from headwater.flows.bench.bed import Bed, Spoiled, now, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.settings import Settings
from headwater.flows.sink import outgoing
from headwater.flows.up import Up
from headwater.lineage.topic import ACTIVATIONS, Topic

CALL_S = 0.2
RATE = 2_400
"""Activations per second: a fifth more than is demanded, for what is sent bounds what is answered."""
SECONDS = 6
HOT, HOT_PER_S = 10, 4
"""Hot keys, and how often each is woken in a second: its calls follow each other, and five of 200 ms fill it."""
PARTITIONS = 4
PATIENCE_S = 60.0
P99 = "p99 added"


class Sent(msgspec.Struct):
    """What the agent publishes: when its activation was sent (wall clock, µs)."""

    at: int


SENT = Topic("bench-sent", Sent)
WOKEN = Threshold("bench", of=SENT, value=pl.col("at"), opens_at=1, closes_at=0)


async def call(activation: Activation, context: Context) -> Decision[str]:
    """The agent: a model that takes its time."""
    await asyncio.sleep(CALL_S)
    return Decision("answered").with_effects(Publish(SENT, Sent(activation.at)))


class Answers:
    """Reads what the agent publishes as it becomes readable: event id → milliseconds since its activation was sent."""

    def __init__(self, up: Up) -> None:
        self.took: dict[str, float] = {}
        self.last = 0.0
        self._consumer = up.run.kafka.consumer("headwater-bench-answers", isolation_level="read_committed")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(up.run.counts[SENT.name],), name="bench-answers", daemon=True)
        self._thread.start()

    def _read(self, parts: int) -> None:
        from confluent_kafka import TopicPartition

        self._consumer.assign([TopicPartition(SENT.name, partition, 0) for partition in range(parts)])
        while not self._stop.is_set():
            for message in self._consumer.consume(1000, 0.005):
                if message.error() is None:
                    self._note(message)
        self._consumer.close()

    def _note(self, message: Any) -> None:
        self.last = time.perf_counter()
        id = next(value for name, value in message.headers() or () if name == "ce_id").decode()
        self.took.setdefault(id, (now() - SENT.decode(message.value()).at) / 1000)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def rounds(bed: Bed) -> Iterator[Round]:
    """Calls per second, and beside it what the way adds at the 99th of a hundred."""
    agent = Agent("call", call, (WOKEN,), (SENT,))
    app = App("bench", triggers=[WOKEN], agents=[agent], activations=PARTITIONS, root=bed.folder)
    up = Up(app, Settings(home=bed.home(), http_port=0), flows=("decide", "audit"), http=False, embedder=HashEmbedder())
    with up:
        answers = Answers(up)
        try:
            number = 0
            while True:
                count = bed.many(RATE * SECONDS, 20)
                before = len(answers.took)
                began = time.perf_counter()
                wake(up, number, count, RATE)
                wait_for(up, answers, before + count)
                found = list(answers.took.values())[before:]
                added = float(np.percentile(found, 99)) - 1000 * CALL_S
                number += count
                yield Round(count / (answers.last - began), mapped(), {P99: added})
        finally:
            answers.close()


def wake(up: Up, first: int, count: int, rate: int) -> None:
    """Activation after activation, `rate` a second, each at its moment. Raises Spoiled where the machine is too busy to send so fast."""
    producer = up.run.kafka.producer(linger_ms=1)
    every = max(1, rate // (HOT * HOT_PER_S))
    start = time.perf_counter()
    for n in range(count):
        wait = start + n / rate - time.perf_counter()
        if wait > 0.001:
            producer.poll(0)
            time.sleep(wait)
        key = f"hot-{n // every % HOT}" if n % every == 0 else f"key-{first + n}"
        at = now()
        id = activation_id(WOKEN.name, key, at)
        event = activation_event(Activation(id=id, rule=WOKEN.name, key=key, phase="opened", at=at, value=1.0, episode=id))
        message = outgoing(ACTIVATIONS, event, key)
        producer.produce(message.topic, message.value, message.key, headers=message.headers)
    took = time.perf_counter() - start
    producer.flush(10)
    if took > 1.2 * count / rate + 1:
        raise Spoiled(f"the sender made only {count / took:.0f} of {rate} activations/s: the machine is too busy")


def wait_for(up: Up, answers: Answers, wanted: int) -> None:
    """Until so many answers are readable. Raises Spoiled."""
    until = time.monotonic() + PATIENCE_S
    while len(answers.took) < wanted:
        if up.failure is not None:
            raise Spoiled(f"flow {up.failure[0]} failed: {up.failure[1]!r}")
        if time.monotonic() > until:
            raise Spoiled(f"{wanted - len(answers.took)} of {wanted} calls had no answer after {PATIENCE_S:.0f} s")
        time.sleep(0.01)


def mapped(count: int = 10) -> float:
    """Calls per second where each is waited for."""
    flow, sink = Dataflow("mapped"), list[int]()

    def wait(number: int) -> int:
        time.sleep(CALL_S)
        return number

    op.output("out", op.map("call", op.input("in", flow, TestingSource(range(count))), wait), TestingSink(sink))
    return count / seconds(lambda: run_main(flow))  # type: ignore[no-untyped-call]


BENCH = Bench(
    "agents",
    f"inline calls to a model that takes 200 ms, journal on, one worker, {HOT} hot keys",
    "calls/s",
    (Target("≥", 2_000, "value", "calls/s"), Target("<", 25, P99, "ms")),
    rounds,
    "op.map",
)
