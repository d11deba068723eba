"""A drop as a process to be killed: BOOTSTRAP ROOT HOME TOPIC. Small batches, so that there is much to interrupt."""

import sys
import threading
import time
from pathlib import Path

from pydantic import BaseModel

import headwater.flows.dropping as dropping
from headwater import Drop, Topic
from headwater.flows.gateway import Gateway
from headwater.flows.kafka import Kafka
from headwater.flows.parcel import Sender
from headwater.flows.sink import Writer


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


if __name__ == "__main__":
    bootstrap, root, home, topic = sys.argv[1:]
    dropping.BATCH = 40
    part = dropped(Kafka({"bootstrap.servers": bootstrap}), Path(root), Path(home), topic)
    while part.status()["files"] == 0:
        part.turn()
