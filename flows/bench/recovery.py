"""recovery: kill -9 a process with ten thousand keys of state and a million events behind it; when it gives something new, what is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Self

from confluent_kafka import TopicPartition

from headwater.flows.bench.bed import Bed, Spoiled, demand
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.meters import METERS, PARTITIONS, PASSES, RULE, events, marks, prepare
from headwater.flows.bench.remains import Remains, differences, remains
from headwater.flows.broker import Broker
from headwater.flows.child import leashed
from headwater.flows.drain import drain
from headwater.flows.sink import Outgoing, Writer
from headwater.lineage.topic import ACTIVATIONS

KEYS = 10_000
FIRED_PARTITIONS = 2
PATIENCE_S = 900.0
AT_ONCE = 20_000
SNAPSHOT_S = 2.0
"""How long after it caught up the process is left alone: its state is in a snapshot then."""
BEFORE_KILL = 3
"""Activations out of the million that it gives before it is killed: it is in the midst of it."""
LOST, DOUBLED, AGAIN, WHOLE = "lost", "doubled", "activations written again under their ids", "seconds until all was dealt with"


def rounds(bed: Bed) -> Iterator[Round]:
    """Seconds from starting the process again to its first new activation."""
    keys = bed.many(KEYS, least=20)
    vectors = bed.home() / "vectors.npy"
    prepare(vectors, keys)
    with Arm(bed.home(), keys, vectors) as arm:
        undisturbed = arm.undisturbed()
    while True:
        with Arm(bed.home(), keys, vectors) as arm:
            yield arm.killed(undisturbed)


class Arm:
    """One run: a broker, a home, and the processes that work there one after the other."""

    def __init__(self, home: Path, keys: int, vectors: Path) -> None:
        self._home, self._keys, self._vectors = home, keys, vectors
        self._broker = Broker(home / "broker.log")
        self._writer = Writer(self._broker.kafka, self._broker.id)
        self._ends: dict[int, int] = {}
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self._broker.kafka.create({METERS.name: PARTITIONS, ACTIVATIONS: FIRED_PARTITIONS})
        self._start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._kill()
        self._writer.close()
        self._broker.stop()

    def undisturbed(self) -> Remains:
        """The whole work by one process."""
        self._publish_first()
        self._publish_most()
        self._publish_last()
        self._finish()
        return self._remains()

    def killed(self, undisturbed: Remains) -> Round:
        """The same, killed in the midst. Raises Spoiled if what it leaves is not what the undisturbed run left."""
        self._publish_first()
        with self._standing():
            self._publish_most()
            before = self._fired()
        self._await_more(before, BEFORE_KILL)
        self._kill()
        self._publish_last()
        before = self._fired()
        begun = time.perf_counter()
        self._start()
        self._await_more(before, 1)
        first = time.perf_counter() - begun
        self._finish()
        whole = time.perf_counter() - begun
        left = self._remains()
        found = differences(left, undisturbed)
        return Round(first, None, {LOST: found.lost, DOUBLED: found.doubled, AGAIN: left.again, WHOLE: whole})

    def _start(self) -> None:
        command = [sys.executable, "-m", "headwater.flows.bench.survivor", str(self._home), self._broker.kafka.address]
        with (self._home / "survivor.log").open("ab") as log:
            self._process = subprocess.Popen(leashed([*command, str(self._keys), str(self._vectors)]), stdout=log, stderr=log)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @contextmanager
    def _standing(self) -> Iterator[None]:
        """The process stands still meanwhile, and falls behind."""
        os.kill(self._process.pid, signal.SIGSTOP)
        yield
        os.kill(self._process.pid, signal.SIGCONT)

    def _publish_first(self) -> None:
        """A measurement of each meter; returns once its state is made and kept."""
        self._publish(events(range(self._keys), self._keys))
        self._ask("caught-up.json")
        deadline = time.monotonic() + PATIENCE_S
        while not (self._home / "there").exists():
            self._alive(deadline)
            time.sleep(0.05)
        time.sleep(SNAPSHOT_S)

    def _publish_most(self) -> None:
        self._publish(events(range(self._keys, self._keys * PASSES), self._keys))

    def _publish_last(self) -> None:
        """The last pass, in which rules fire for certain: something new is to come of it however far the process had come."""
        self._publish(events(range(self._keys * PASSES, self._keys * (1 + PASSES)), self._keys))
        self._publish(marks())

    def _publish(self, messages: Iterable[Outgoing]) -> None:
        left = iter(messages)
        while some := list(islice(left, AT_ONCE)):
            for place in self._writer.write(some):
                self._ends[place.partition] = place.offset + 1

    def _ask(self, name: str) -> None:
        """Tell the process how far the topic goes now."""
        half = self._home / f"{name}.half"
        half.write_text(json.dumps(list(self._ends.items())))
        half.replace(self._home / name)

    def _finish(self) -> None:
        """Let the process deal with all there is and stop by itself."""
        self._ask("until.json")
        status = self._process.wait(PATIENCE_S)
        demand(status, 0, f"the status of the process ({self._said()})")

    def _fired(self) -> dict[str, tuple[int, int]]:
        """The activations there are: id → where."""
        messages = [message for partition in range(FIRED_PARTITIONS) for message in drain(self._broker.kafka, ACTIVATIONS, partition, 0)]
        return {dict(message.headers)["ce_id"].decode(): (message.partition, message.offset) for message in messages}

    def _await_more(self, before: Mapping[str, tuple[int, int]], many: int) -> None:
        """Wait until so many activations come that were not there before: what is written again is nothing new."""
        ends = {p: max((offset + 1 for partition, offset in before.values() if partition == p), default=0) for p in range(FIRED_PARTITIONS)}
        consumer, new = self._broker.kafka.consumer("headwater-bench-fired"), set[str]()
        consumer.assign([TopicPartition(ACTIVATIONS, partition, offset) for partition, offset in ends.items()])
        deadline = time.monotonic() + PATIENCE_S
        while len(new) < many:
            self._alive(deadline)
            found = [message for message in consumer.consume(100, 0.01) if message.error() is None]
            new.update(id for message in found if (id := dict(message.headers() or [])["ce_id"].decode()) not in before)
        consumer.close()

    def _alive(self, deadline: float) -> None:
        if self._process.poll() is not None:
            raise Spoiled(f"the process ended with {self._process.returncode}: {self._said()}")
        if time.monotonic() > deadline:
            raise Spoiled(f"nothing came in {PATIENCE_S:g} s: {self._said()}")

    def _said(self) -> str:
        return (self._home / "survivor.log").read_text()[-500:].strip()

    def _remains(self) -> Remains:
        left = remains(self._home, self._broker.kafka, self._broker.id, METERS.name, FIRED_PARTITIONS, self._keys)
        demand((len(left.state[RULE]), len(left.indexed) - 1), (self._keys, self._keys), "keys of state and documents")
        return left


BENCH = Bench(
    "recovery",
    f"kill -9 with {KEYS:,} keys of state and {KEYS * PASSES:,} events behind → the first new activation, the process's start included",
    "s",
    (Target("<", 5, "value", "s"), Target("=", 0, LOST), Target("=", 0, DOUBLED)),
    rounds,
)
