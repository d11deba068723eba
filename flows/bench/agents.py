"""agents: inline calls to a model that takes 200 ms, the journal on, one worker, ten hot keys among many.

What a call adds to the model's 200 ms is taken from lineage: from when its activation came to the agent until its decision and the event
of its effect are committed. That is what stands in the place of `op.map`, the reference, which waits for each call. Beside it is the whole
way, with the broker at both ends: activation sent → event readable to others. Who sends and reads is a process of its own (`waker`), as
elsewhere.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from headwater.agents.activation import Activation
from headwater.agents.agent import Agent, Decision, Publish
from headwater.agents.context import Context
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import App
from headwater.flows.bench.bed import Bed, Spoiled, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.waker import HOT, SENT, WOKEN, Sent
from headwater.flows.drain import drain
from headwater.flows.settings import Settings
from headwater.flows.up import Up
from headwater.lineage.message import decode_batch
from headwater.lineage.record import Record
from headwater.lineage.topic import LINEAGE

CALL_S = 0.2
RATE = 2_100
"""Activations per second: a twentieth more than is demanded, for what is sent bounds what is answered. Not much more: what is sent
beyond what can be taken becomes a queue, and what a call adds is its length then."""
SECONDS = 6
PATIENCE_S = 120.0
P50, P99 = "p50 added", "p99 added"
WAY50, WAY99 = "p50 added on the whole way", "p99 on it"


async def call(activation: Activation, context: Context) -> Decision[str]:
    """The agent: a model that takes its time."""
    await asyncio.sleep(CALL_S)
    return Decision("answered").with_effects(Publish(SENT, Sent(activation.at)))


def rounds(bed: Bed) -> Iterator[Round]:
    """Calls per second, and beside it what a call adds at the median and at the 99th of a hundred, in milliseconds.

    The seconds are those from when the first could be answered until the last was: what piled up in the end lengthens them.

    Each round has a broker of its own: the embedded one looks through all batches of a partition for each fetch, so that every round would
    be slower than the last.
    """
    agent = Agent("call", call, (WOKEN,), (SENT,))
    app = App("bench", triggers=[WOKEN], agents=[agent], root=bed.folder)
    count = bed.many(RATE * SECONDS, 20)
    while True:
        up = Up(app, Settings(home=bed.home(), http_port=0), flows=("decide",), http=False, embedder=HashEmbedder())
        with up:
            told = wake(up, 1, count, RATE)
            inline = told_by_lineage(up, count)
        p50, p99 = np.percentile(inline, (50, 99))
        way = {name: told["took_ms"][p] - 1000 * CALL_S for name, p in ((WAY50, "50"), (WAY99, "99"))}
        yield Round(count / (told["last_s"] - CALL_S), mapped(), {P50: float(p50), P99: float(p99), **way})


def told_by_lineage(up: Up, count: int) -> list[float]:
    """What each of so many calls added, in milliseconds, once lineage tells of them all. Raises Spoiled if it does not."""
    found, begin, until = list[Record](), 0, time.monotonic() + PATIENCE_S
    while True:
        for message in drain(up.run.kafka, LINEAGE, 0, begin):
            found += decode_batch(message.value or b"")
            begin = message.offset + 1
        added = added_ms(found)
        if len(added) == count:
            return added
        if time.monotonic() > until:
            raise Spoiled(f"lineage tells of {len(added)} of {count} calls")
        time.sleep(0.2)


def added_ms(records: Iterable[Record]) -> list[float]:
    """What each measured call took beyond its model's time: from when its activation came to when its effect was committed."""
    woken, committed = dict[str, int](), dict[str, int]()
    for record in records:
        if record.kind == "decision" and record.at is not None and record.at > 0:
            woken[record.ref] = record.data["woken"]
        elif record.kind == "effect":
            committed.setdefault(record.parents[0], record.data["sent"])
    return [(committed[ref] - came) / 1000 - 1000 * CALL_S for ref, came in woken.items() if ref in committed]


def wake(up: Up, first: int, count: int, rate: int) -> dict[str, Any]:
    """What the waker found. Raises Spoiled where it could not send so fast, or not every call was answered."""
    command = [sys.executable, "-m", "headwater.flows.bench.waker", up.run.kafka.address, str(first), str(count), str(rate)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    if up.failure is not None:
        raise Spoiled(f"flow {up.failure[0]} failed: {up.failure[1]!r}")
    if done.returncode:
        raise Spoiled(f"the sender ended with status {done.returncode}: {done.stderr[-500:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if told["answered"] != count:
        raise Spoiled(f"{count - told['answered']} of {count} calls had no answer")
    if told["sent_s"] > 1.2 * count / rate + 1:
        raise Spoiled(f"the sender made only {count / told['sent_s']:.0f} of {rate} activations/s: the machine is too busy")
    return told


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
