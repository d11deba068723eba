"""`headwater demo --crash`: days of New York's 2013 while the flows are killed with -9, and what is then lost or doubled: nothing.

The broker and `audit` live on (the broker keeps everything in memory, and somebody must tell the truth); `index`, `detect` and `decide`
are a process of their own, killed in the midst of work and started again.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from datetime import time as clock
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from headwater.flows.broker import Broker
from headwater.flows.demo import clear
from headwater.flows.drain import drain
from headwater.flows.nyc import data
from headwater.flows.nyc.app import app
from headwater.flows.nyc.spoiled import spoiled
from headwater.flows.replay import HOUR, layers, mark
from headwater.flows.settings import Settings
from headwater.flows.settled import behind, ended
from headwater.flows.sink import Outgoing, outgoing
from headwater.flows.up import Up
from headwater.lineage.duration import from_datetime, to_datetime
from headwater.lineage.errors import Unavailable
from headwater.lineage.event import Event
from headwater.lineage.store import Store
from headwater.lineage.verify import verify

KILLS = 5
PATIENCE_S = 300.0
LOOK_S = 0.1
STRIKE_S = 0.15
"""How long after publishing the kill comes: what was read by then is under work, and little of it has landed."""
PART = 0.5
"""So much of an hour's events is published before the kill, the rest while nobody reads."""


@dataclass(frozen=True)
class Kill:
    """One kill: the event time (µs) that had been published, what was on its way then, and after how long work was done again."""

    at: int
    pid: int
    behind: int
    recovered_s: float


@dataclass(frozen=True)
class Row:
    """What there should be and what there is; a person reads it."""

    what: str
    expected: int
    found: int
    lost: int
    doubled: int


@dataclass
class Storm:
    """What came of it. `replayed`: outcomes told twice by a flow that repeated itself, and cut off."""

    start: date
    end: date
    home: str
    kills: list[Kill] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    replayed: int = 0
    verified: bool = False
    offences: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Nothing lost, nothing doubled, all verified."""
        return self.verified and not any(row.lost or row.doubled for row in self.rows)

    def as_data(self) -> dict[str, Any]:
        return asdict(self) | {"whole": self.whole}


Told = Callable[[str, dict[str, Any]], None]
"""Called with what happens: `hour` (at, of), `killed` (kill, n), `back` (kill), `waiting` (behind)."""


class Victim:
    """The process that is killed."""

    def __init__(self, home: Path, broker: str) -> None:
        self._home, self._broker = home, broker
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._home.mkdir(exist_ok=True)
        (self._home / "ready").unlink(missing_ok=True)
        command = [sys.executable, "-m", "headwater.flows.storm_victim", str(self._home), self._broker]
        with (self._home / "victim.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> int:
        """kill -9, and the pid that it had."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        return self._process.pid

    def check(self) -> None:
        """Raises Unavailable if it ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise Unavailable(f"the flows ended by themselves (status {status}); see {self._home / 'victim.log'}")

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run(settings: Settings, start: date, end: date, told: Told, kills: int = KILLS) -> Storm:
    """Replay the days through flows that are killed. State lies in the home's folder `demo`, made anew. Raises Misused, Unavailable."""
    home = settings.home / "demo"
    clear(home)
    storm = Storm(start, end, str(home))
    began = time.monotonic()
    with Broker(home / "broker.log") as broker:
        kafka = {"bootstrap.servers": broker.address}
        victim = Victim(home / "flows", broker.address)
        with Up(app, replace(settings, home=home, kafka=kafka), flows=("audit",), http=False) as up:
            try:
                victim.start()
                _Replay(up, victim, storm, told).run(kills)
            finally:
                victim.stop()
            effects = _effects(up)
    with Store(home / "lineage.duckdb", clock=lambda: time.time_ns() // 1000) as store:
        _judge(store, storm, effects)
    storm.seconds = time.monotonic() - began
    return storm


class _Replay:
    """Publishes hour by hour, and waits until lineage tells that each hour is over, whoever was killed meanwhile."""

    def __init__(self, up: Up, victim: Victim, storm: Storm, told: Told) -> None:
        self._up, self._victim, self._storm, self._told = up, victim, storm, told
        self._sent: dict[tuple[str, int], int] = {}
        self.published: dict[str, int] = {}

    def run(self, kills: int) -> None:
        hours = _hours(self._storm.start, self._storm.end)
        chosen = struck(hours, kills)
        midnight = from_datetime(datetime.combine(self._storm.start, clock.min, ZoneInfo(data.ZONE)))
        self._await_procedures()
        self._write([Outgoing(each.topic, each.key, each.value, each.headers) for each in spoiled(midnight)])
        for n, (hour, events) in enumerate(hours):
            messages = [self._message(*each) for each in events]
            part = int(len(messages) * PART) if n in chosen else len(messages)
            self._write(messages[:part])
            if n in chosen:
                self._strike(hour, messages[part:])
            marked: list[str] = []
            for layer in layers(self._up.app):
                self._await(marked)
                self._write([mark(name, p, (hour + 1) * HOUR) for name in layer for p in range(self._up.run.counts[name])])
                marked += layer
            self._await(marked)
            self._told("hour", {"at": (hour + 1) * HOUR, "done": n + 1, "of": len(hours)})

    def _strike(self, hour: int, rest: Sequence[Outgoing]) -> None:
        """Kill while the flows are at work on what was just published; publish on; then start again."""
        time.sleep(STRIKE_S)
        many = behind(self._up.run.store, self._up.app, self._sent)
        pid = self._victim.kill()
        killed = time.monotonic()
        kill = Kill(hour * HOUR, pid, many, 0.0)
        self._told("killed", {"kill": kill, "n": len(self._storm.kills) + 1})
        self._write(rest)
        time.sleep(3 * LOOK_S)  # what the dead had written still lands
        before = ended(self._up.run.store)
        self._victim.start()
        while ended(self._up.run.store) == before and behind(self._up.run.store, self._up.app, self._sent):
            self._wait(killed, "after a kill")
        kill = replace(kill, recovered_s=time.monotonic() - killed)
        self._storm.kills.append(kill)
        self._told("back", {"kill": kill, "n": len(self._storm.kills)})

    def _await_procedures(self) -> None:
        """The flows publish the application's files themselves when they start."""
        began, wanted = time.monotonic(), len(app.files[0].paths(app.root))
        while ended(self._up.run.store) < wanted:
            self._wait(began, "at the start")

    def _await(self, marked: Sequence[str]) -> None:
        began = time.monotonic()
        while many := behind(self._up.run.store, self._up.app, self._sent, marked):
            self._told("waiting", {"behind": many})
            self._wait(began, "in an hour")

    def _wait(self, began: float, where: str) -> None:
        self._victim.check()
        if self._up.failure is not None:
            raise Unavailable(f"flow {self._up.failure[0]} failed: {self._up.failure[1]!r}") from self._up.failure[1]
        if time.monotonic() - began > PATIENCE_S:
            raise Unavailable(f"the flows stood still {where} for {PATIENCE_S:.0f} s; see {self._storm.home}/flows/victim.log")
        time.sleep(LOOK_S)

    def _message(self, topic: str, event: Event) -> Outgoing:
        return outgoing(topic, event, event.subject if self._up.app.topics[topic].key is not None else None)

    def _write(self, messages: Sequence[Outgoing]) -> None:
        for position in self._up.run.writer.write(messages):
            place = (position.topic, position.partition)
            self._sent[place] = self._sent.get(place, 0) + 1


def _hours(start: date, end: date) -> list[tuple[int, list[tuple[str, Event]]]]:
    found: dict[int, list[tuple[str, Event]]] = {}
    for topic, event in data.events(start, end):
        found.setdefault(event.time // HOUR, []).append((topic, event))
    return sorted(found.items())


def struck(hours: Sequence[tuple[int, Sequence[tuple[str, Event]]]], kills: int) -> set[int]:
    """The hours in which the flows are killed: spread over those with the most cancellations, when most is decided."""
    cancelled = sorted(range(len(hours)), key=lambda n: (-sum(event.type == "flight.cancelled" for _, event in hours[n][1]), n))
    worst = sorted(cancelled[: max(kills, len(hours) // 2)])
    return {worst[(2 * k + 1) * len(worst) // (2 * kills)] for k in range(kills)} if worst else set()


def _effects(up: Up) -> tuple[int, int]:
    """Messages that decisions published, as their topics hold them, and how many different ones."""
    ids = [
        dict(message.headers)["ce_id"]
        for topic in sorted({topic.name for agent in app.agents for topic in agent.publishes})
        for partition in range(up.run.kafka.partitions(topic))
        for message in drain(up.run.kafka, topic, partition, 0)
        if b"headwater/decide" in dict(message.headers).get("ce_source", b"")
    ]
    return len(ids), len(set(ids))


_COUNTED = """
    SELECT
        (SELECT coalesce(sum("count"), 0) FROM records WHERE kind = 'consumed' AND flow = 'index')::BIGINT,
        (SELECT coalesce(sum("count"), 0) FROM records
            WHERE kind = 'outcome' AND flow = 'index' AND outcome NOT IN ('waiting', 'retrying'))::BIGINT,
        (SELECT count(DISTINCT ref) FROM records WHERE kind = 'activation'),
        (SELECT count(DISTINCT (data->>'$.agent', data->>'$.activation')) FROM records WHERE kind = 'decision'),
        (SELECT count(DISTINCT ref) FROM records WHERE kind = 'decision'),
        (SELECT count(DISTINCT (flow, parents[1])) FROM records
            WHERE kind = 'outcome' AND starts_with(flow, 'decide/') AND ref <> '' AND outcome IN ('acted', 'waiting', 'no_action')),
        (SELECT count(DISTINCT e.ref) FROM records e WHERE kind = 'effect')"""


def _judge(store: Store, storm: Storm, effects: tuple[int, int]) -> None:
    """What there is, against what there should be."""
    verdict = verify(store, in_flight_ok=False)
    storm.verified, storm.offences, storm.replayed = verdict.ok, verdict.offences, verdict.replayed
    with store.cursor() as cursor:
        read, done, fired, pairs, decided, owed, sent = cursor.execute(_COUNTED).fetchall()[0]
        dealt = cursor.execute("SELECT count(DISTINCT parents[1]) FROM records WHERE kind = 'outcome' AND starts_with(flow, 'decide/')")
        seen = int(dealt.fetchall()[0][0])
    messages, different = effects
    storm.rows = [
        Row("events", read, done, max(0, read - done), max(0, done - read)),
        Row("activations dealt with", fired, seen, max(0, fired - seen), 0),
        Row("decisions", owed, decided, max(0, owed - pairs), decided - pairs),
        Row("events that decisions published", sent, messages, max(0, sent - different), messages - different),
    ]


def when(at: int) -> str:
    """An event time in New York."""
    return f"{to_datetime(at).astimezone(ZoneInfo(data.ZONE)):%-d %b %H:%M}"
