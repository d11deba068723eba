"""A drop as a process to be killed: BOOTSTRAP ROOT HOME TOPIC. Small batches, so that there is much to interrupt."""

import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

import headwater.flows.dropping as dropping
from headwater import Drop, Topic
from headwater.flows.gateway import Gateway
from headwater.flows.kafka import Kafka
from headwater.flows.parcel import Sender
from headwater.flows.sink import Outgoing, Writer
from headwater.lineage.event import Position


class Reading(BaseModel):
    id: str
    metres: float


def dropped(kafka: Kafka, root: Path, home: Path, topic: str, writer: Writer | None = None, clock=None) -> dropping.Dropping:
    """A drop at work on `inbox/*` into a topic of two partitions."""
    clock = clock or (lambda: time.time_ns() // 1000)
    into = Topic(topic, Reading, key="id", partitions=2)
    broker = kafka.broker_id()
    writer = writer or Writer(kafka, broker)
    drop = Drop("inbox/*", into=into, settle="0s")
    gateway = Gateway({topic: into}, writer, clock)
    sender = Sender(gateway, writer, clock, into, drop.origin, drop.priority, drop.model, drop.as_, drop.time)
    return dropping.Dropping(drop, root, home, sender, kafka, broker, clock, threading.Event())


class Slow(Writer):
    """However fast the machine, and however late whoever is to kill it: there is time to."""

    def write(self, messages: Iterable[Outgoing]) -> list[Position]:
        time.sleep(0.02)
        return super().write(messages)


if __name__ == "__main__":
    bootstrap, root, home, topic = sys.argv[1:]
    dropping.BATCH = 40
    kafka = Kafka({"bootstrap.servers": bootstrap})
    part = dropped(kafka, Path(root), Path(home), topic, Slow(kafka, kafka.broker_id()))
    while part.status()["files"] == 0:
        part.turn()
