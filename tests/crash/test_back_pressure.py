"""Index, model, database or broker stands still under load (law 6): memory stays bounded, nothing is lost, and it goes on by itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from headwater.flows.broker import Broker
from headwater.lineage.store import open_database
from headwater.lineage.topic import ACTIVATIONS
from headwater.lineage.verify import verify

HERE = Path(__file__).parent
MB = 1_000_000
ROOM = 120 * MB
"""What a process may grow by while something stands still: the clients' fetch queues (16 MB each), what is in flight, and what it would
have grown by anyway as index and database do (50 MB in a minute at this load)."""
LOADS = {"short": (4, 300, 1_000), "long": (60, 300, 20_000)}
"""Seconds of standing still, events per second, bytes of an event. In the long one thrice as much comes as a process may grow by."""
READ = 'select flow, sum("count")::bigint as n from outcomes where topic = \'{}\' group by flow'


class Load:
    """The load generator's process."""

    def __init__(self, address: str, rate: int, size: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "load.py"), address, str(rate), str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> int:
        """How many events it wrote."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def standing(what: str, how: str, stalls: Path, broker: Broker) -> Iterator[None]:
    """While it lasts, that part stands still."""
    if what == "broker":
        os.kill(broker.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(broker.process.pid, signal.SIGCONT)
        return
    (stalls / f"{what}.new").write_text(how)
    (stalls / f"{what}.new").rename(stalls / what)
    try:
        yield
    finally:
        (stalls / what).unlink()


def counts(victim: Any) -> dict[str, int]:
    """What its meter says; answered whatever stands still."""
    answer = httpx.get(f"{victim.ready()['http']}/readyz", timeout=60)
    assert answer.status_code == (200 if answer.json()["broker_answers"] else 503), answer.text
    found: dict[str, int] = answer.json()["counts"]
    return found


GOES_ON = {"index": "seen by rules", "model": "indexed", "store": "decisions acted", "broker": ""}
"""What must go on while another part stands still."""


FAULTS = [("index", "hang"), ("index", "refuse"), ("model", "hang"), ("model", "refuse"), ("store", "hang"), ("broker", "")]


@pytest.mark.parametrize(
    ("load", "what", "how"),
    [("short", "index", "hang"), ("short", "broker", ""), *(pytest.param("long", *fault, marks=pytest.mark.long) for fault in FAULTS)],
)
def test_it_goes_on_by_itself(load, what, how, start, tmp_path):
    """Whatever stands still: the rest goes on, memory stays bounded, and afterwards every event has its one outcome."""
    seconds, rate, size = LOADS[load]
    stalls = tmp_path / "stalls"
    stalls.mkdir()
    with Broker() as broker:
        victim = start(tmp_path / "home", broker.address, app=str(HERE / "busy.py"), replay=True, stalls=str(stalls))
        victim.ready()
        source = Load(broker.address, rate, size)
        try:
            before = _warm(victim)
            with standing(what, how, stalls, broker):
                grown = _watch(victim, seconds, before, what, broker)
            after = counts(victim)
            victim.until(lambda: all(counts(victim).get(name, 0) > after.get(name, 0) for name in before), 120)
            written = source.end()
        finally:
            source.close()
        print(f"{what} {how}: grew by {grown / MB:.0f} MB, {written} events of {size} bytes")
        assert grown < ROOM
        _settled(victim, written, broker, tmp_path / "home")


def _warm(victim: Any) -> dict[str, int]:
    """Wait until everything flows; gives what there is of each."""

    def flowing() -> dict[str, int] | None:
        known = counts(victim)
        there = all(known.get(name, 0) >= least for name, least in (("indexed", 500), ("decisions acted", 20), ("records", 500)))
        return known if there else None

    known: dict[str, int] = victim.until(flowing, 120)
    return {name: known[name] for name in ("seen by rules", "indexed", "decisions acted", "records")}


def _watch(victim: Any, seconds: float, before: dict[str, int], what: str, broker: Broker) -> int:
    """Bytes by which the process grew at most, in at least that time, and until what must go on has gone on."""
    known, begun, most = victim.process.rss, time.monotonic(), 0
    goes_on = GOES_ON[what]
    while time.monotonic() - begun < seconds or not _went_on(victim, goes_on, before):
        most = max(most, victim.process.rss - known)
        assert victim.process.poll() is None, victim.said
        assert time.monotonic() - begun < seconds + 120, f"{goes_on} did not go on: {counts(victim)} after {before}"
        time.sleep(0.1)
    return most


def _went_on(victim: Any, name: str, before: dict[str, int]) -> bool:
    return not name or counts(victim).get(name, 0) >= before[name] + 200 * (1 if name != "decisions acted" else 0.1)


def _settled(victim: Any, written: int, broker: Broker, home: Path) -> None:
    """Every event and every activation has its outcome in every flow, each once."""

    def ended() -> bool:
        read = {row["flow"]: row["n"] for row in victim.sql(READ.format("readings"))}
        decided = {row["flow"]: row["n"] for row in victim.sql(READ.format(ACTIVATIONS))}
        [fired] = victim.sql("select count(*) as n from activations")
        return read == {"index": written, "detect": written} and decided == {"decide/warn": fired["n"]} and fired["n"] > 0

    victim.until(ended, 300)
    assert victim.stop(signal.SIGTERM) == 0, victim.said
    with open_database(home / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        [[lost]] = lineage.execute("select count(*) from outcomes where outcome in ('dead_lettered', 'lost_with_broker')").fetchall()
        assert lost == 0


def test_health_is_told_while_every_request_waits(start, tmp_path):
    """A broker that stands still holds those who publish; that the process lives can be asked all the same, and all is taken in the end."""
    with Broker() as broker:
        victim = start(tmp_path / "home", broker.address, app=str(HERE / "busy.py"))
        address = victim.ready()["http"]
        body = {"id": "one", "gauge": "north", "metres": 0.5}
        with ThreadPoolExecutor(60) as pool, httpx.Client(limits=httpx.Limits(max_connections=None), timeout=120) as client:
            with standing("broker", "", tmp_path, broker):
                sent = [pool.submit(client.post, f"{address}/v1/events/readings", json=body) for _ in range(60)]
                time.sleep(1)
                assert not any(each.done() for each in sent)
                assert httpx.get(f"{address}/healthz", timeout=60).status_code == 200
            assert {each.result().status_code for each in sent} == {202}
