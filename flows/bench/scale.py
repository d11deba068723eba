"""scale: what the work costs when two processes share it, against one process that does it all."""

import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from headwater.flows.bench.bed import Bed, Spoiled
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.readings import readings
from headwater.flows.bench.streams import check

PATIENCE_S = 300.0
PROCESSES = 2


def rounds(bed: Bed) -> Iterator[Round]:
    """CPU seconds of all processes together, user and system, per million events."""
    count = readings(bed)
    while True:
        yield Round(cost(bed, count, PROCESSES), cost(bed, count, 1))


def cost(bed: Bed, count: int, processes: int) -> float:
    """Run the flow `ingest` as a cluster. Raises Spoiled if it does not do all of the work once, or one process does nothing."""
    told = _run(bed, processes)
    totals: Counter[str] = Counter()
    for each in told:
        totals.update(each["totals"])
    check(totals, count)
    if not all(each["read"] for each in told):
        raise Spoiled("one of the processes had no partition to read: the work was not shared")
    return float(sum(each["cpu"] for each in told)) / count * 1_000_000


def _run(bed: Bed, processes: int) -> list[dict[str, Any]]:
    """What each process told at its end."""
    peers = ",".join(f"127.0.0.1:{port}" for port in _ports(processes)) if processes > 1 else ""
    with ExitStack() as running:
        members = [_start(running, [bed.kafka.address, bed.broker.id, peers, str(number)]) for number in range(processes)]
        told = [member.communicate(timeout=PATIENCE_S)[0] for member in members]
    for member in members:
        if member.returncode:
            raise Spoiled(f"a process of the cluster ended with status {member.returncode}")
    return [json.loads(text.splitlines()[-1]) for text in told]


def _start(running: ExitStack, arguments: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "headwater.flows.bench.member", *arguments]
    member = running.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
    running.callback(member.kill)  # before its end is waited for, should another have failed
    return member


def _ports(count: int) -> list[int]:
    """Ports that are free at this moment."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


BENCH = Bench(
    "scale",
    "CPU of the flow `ingest`, accounting on, as 2 processes",
    "s per million events",
    (Target("≤", 1.15),),
    rounds,
    "the same as 1 process",
)
