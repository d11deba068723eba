"""Several processes of `detect` over one broker: their rules change at one cut of each partition, all or none."""

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater import Threshold, Topic
from headwater.agents.activation import activation_of
from headwater.agents.detect import Detector
from headwater.flows.agreement import Agreement, once_for_each_worker
from headwater.flows.app import load
from headwater.flows.broker import Broker
from headwater.flows.detecting import DetectLogic
from headwater.flows.drain import drain
from headwater.flows.ends import Ends
from headwater.flows.meter import Meter
from headwater.flows.rulebook import AGREE_S, REMIND_S, Known, Rulebook, Word
from headwater.flows.signalling import Signalled, Turned
from headwater.flows.sink import Outgoing, Writer, outgoing
from headwater.lineage.decode import Received
from headwater.lineage.errors import Misused
from headwater.lineage.event import Event, Position
from headwater.lineage.message import decode_batch
from headwater.lineage.topic import ACTIVATIONS, DEAD, LINEAGE

S = 1_000_000
PARTITIONS = 8
START = 1_700_000_000 * S
"""Event time of the first event."""
AHEAD = 20_000
"""Events between those that release all others and those."""
APP = """
import msgspec, polars as pl
from headwater import App, Rate, Threshold, Topic
from levels_{name} import LEVEL, VERSION

class Ping(msgspec.Struct):
    id: str
    host: str
    ms: float

pings = Topic("pings", Ping, key="id", partitions=8, idle_after="1h")
each = Threshold("each", of=pings, value=pl.col("ms") + LEVEL, per="id", opens_at=1, closes_at=0, version=VERSION)
slow = Rate("slow", of=pings, where=pl.col("ms") > LEVEL, per="host", within="2s", opens_at=0.5, closes_at=0.3, version=VERSION)
app = App("pinged", triggers=[each, slow])
"""


def event_of(n: int) -> Event:
    """Events lie 5 ms apart; the share of slow ones goes up and down every two seconds."""
    data = {"id": f"e{n}", "host": "abc"[n % 3], "ms": 1 + random.Random(n).random() * (12 if n // 400 % 2 else 1.2)}
    return Event(id=f"e{n}", source="/t", type="ping", time=START + n * 5_000, data=json.dumps(data).encode())


class Feed:
    """Events go in, faster than they need to, until it is stopped; then each partition gets some that lie a minute ahead."""

    def __init__(self, broker: Broker) -> None:
        self._writer = Writer(broker.kafka, broker.id)
        self.many = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._write([self._outgoing(n, event_of(n)) for n in range(self.many, self.many + 2 * PARTITIONS)])  # as many to each
            self._stop.wait(0.02)

    def _outgoing(self, n: int, event: Event) -> Outgoing:
        return outgoing("pings", event, f"e{n}", n % PARTITIONS)

    def _write(self, events: list[Outgoing]) -> None:
        self._writer.write(events)
        self.many += len(events)

    def stop(self) -> None:
        """All that was told before is released by what comes last."""
        self._stop.set()
        self._thread.join()
        self._write([self._outgoing(n, event_of(n + AHEAD)) for n in range(self.many, self.many + PARTITIONS)])


class Cluster:
    """Processes of `headwater run detect`, each with the application in a folder of its own, over one recovery store."""

    def __init__(self, folder: Path, broker: Broker, processes: int = 2, name: str = "two") -> None:
        self.folder, self.broker, self._name, self._many = folder, broker, name, processes
        self.workers = 1
        self._found: list[Any] = []
        self._next = [0, 0]
        for process in range(processes):
            self.write(process, 2, "1")
            (self._place(process) / "pinged.py").write_text(APP.format(name=name))
        self.processes: list[subprocess.Popen[str]] = []

    def _place(self, process: int) -> Path:
        return self.folder / f"machine{process}"

    def write(self, process: int, level: float, version: str) -> None:
        """Edit what the application of one process imports."""
        self._place(process).mkdir(exist_ok=True)
        path = self._place(process) / f"levels_{self._name}.py"
        path.with_suffix(".new").write_text(f"LEVEL, VERSION = {level}, {version!r}\n")
        path.with_suffix(".new").replace(path)

    def start(self) -> None:
        ports = free_ports(self._many)
        known = {"HEADWATER_HOME": str(self.folder / "home"), "HEADWATER_KAFKA__BOOTSTRAP_SERVERS": self.broker.address}
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")} | known
        for process in range(self._many):
            command = [sys.executable, "-m", "headwater", "run", "detect", str(self._place(process) / "pinged.py"), "-i", str(process)]
            command += ["-w", str(self.workers), "-a", ";".join(f"127.0.0.1:{port}" for port in ports)]
            log = (self.folder / f"log{process}").open("a")
            self.processes.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log, text=True))

    def stop(self, number: int = signal.SIGTERM) -> None:
        for process in self.processes:
            process.send_signal(number)
        for process in self.processes:
            process.wait(60)
        self.processes = []

    @property
    def said(self) -> str:
        return "\n".join((self.folder / f"log{process}").read_text() for process in range(self._many))

    def activations(self) -> list[Any]:
        """All so far."""
        for partition in (0, 1):
            for each in drain(self.broker.kafka, ACTIVATIONS, partition, self._next[partition]):
                self._next[partition] = each.offset + 1
                self._found.append(activation_of(SimpleNamespace(id=dict(each.headers)["ce_id"].decode(), data=each.value)))
        return self._found

    def kept(self) -> int:
        """The epoch that a restart would begin with."""
        fronts = []
        for part in self.folder.glob("home/recovery/detect/*/part-*.sqlite3"):
            with closing(sqlite3.connect(f"file:{part}?mode=ro", uri=True)) as store:
                fronts += [row[0] for row in store.execute("SELECT worker_frontier FROM fronts")]
        return min(fronts, default=0)

    def until(self, look: Callable[[list[Any]], bool]) -> list[Any]:
        deadline = time.monotonic() + 180
        while not look(found := self.activations()):
            assert time.monotonic() < deadline, f"never came true; {len(found)} activations\n{self.said}"
            assert all(process.poll() is None for process in self.processes), self.said
            time.sleep(0.2)
        return found


def free_ports(many: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(many)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Broker() as broker:
        broker.kafka.create({"pings": PARTITIONS, ACTIVATIONS: 2, LINEAGE: 1, DEAD: 1})
        cluster = Cluster(tmp_path, broker)
        yield cluster
        cluster.stop(signal.SIGKILL)


def seen(activations: list[Any]) -> list[Any]:
    """What the rule says that fires once for each event."""
    return [one for one in activations if (one.rule, one.phase) == ("each", "opened")]


def number(activation: Any) -> int:
    return int(activation.key[1:]) % AHEAD


def cuts(each: list[Any], many: int) -> list[int]:
    """Partition → how many of its events the first version saw. Every event was seen once, and no later one by an earlier version."""
    versions = {number(one): one.version for one in each}
    assert sorted(versions) == list(range(many)) and len(each) == many
    found = []
    for partition in range(PARTITIONS):
        in_order = [versions[n] for n in range(partition, many, PARTITIONS)]
        assert in_order == sorted(in_order)
        found.append(in_order.count("1"))
    return found


def undisturbed(cluster: Cluster, many: int, cuts: list[int]) -> list[Any]:
    """What one process by itself tells that changes its rules at these cuts."""
    sys.path.insert(0, str(cluster.folder / "machine0"))
    cluster.write(0, 2, "1")
    target = cluster.folder / "machine0" / "pinged.py"
    before = load(str(target))
    cluster.write(0, 5, "2")
    del sys.modules["levels_two"]
    after = load(str(target))
    del sys.modules["levels_two"]
    sys.path.remove(str(cluster.folder / "machine0"))
    topic = before.triggers[0].of
    book = Rulebook({"pings": Detector(topic, before.triggers, idle=False)})
    run: Any = SimpleNamespace(
        clock=lambda: 0, ends=Ends(lambda: 0), far_ahead={}, meter=Meter(), ending=threading.Event(), workers=1,
        partitions=SimpleNamespace(count=lambda name: PARTITIONS),
    )  # fmt: skip
    logic, found = DetectLogic(run, book, None), []

    def see(what: Signalled | Turned) -> None:
        for one in logic.on_batch([what])[0]:
            found.extend(
                activation_of(SimpleNamespace(id=dict(each.headers)["ce_id"].decode(), data=each.value)) for each in one.activations
            )

    def read(partition: int, first: int, end: int) -> None:
        received = []
        for offset in range(first, end):
            n = offset * PARTITIONS + partition
            event = event_of(n if n < many - PARTITIONS else n + AHEAD)
            received.append(Received(Position("b", "pings", partition, offset), event, topic.model(**json.loads(event.data)), 0))
        see(Signalled(book.at(book.revision)["pings"].signals(received), partition, end, [], book.revision))

    for partition in range(PARTITIONS):
        read(partition, 0, cuts[partition])
    assert book.take(after.triggers) == ["each", "slow"]
    see(Turned("pings", 1))
    for partition in range(PARTITIONS):
        read(partition, cuts[partition], many // PARTITIONS)
    return found


def level_of(book: Rulebook) -> float:
    """What the first rule opens at by now."""
    rule: Any = book.at(book.revision)["pings"].rules[0]
    return float(rule.opens_at)


def told(activations: list[Any]) -> list[Any]:
    return sorted((one.rule, one.key, one.at, one.id, one.phase, one.version, one.value, one.episode) for one in activations)


def test_two_processes_change_at_one_cut(cluster: Cluster) -> None:
    """Under load, windows open: nothing changes while one process has the new rules only; then all that fires is what fires in one
    process that changes at the same offsets, each once, in order."""
    cluster.start()
    feed = Feed(cluster.broker)
    try:
        cluster.until(lambda found: sum(one.rule == "slow" for one in found) >= 3)
        cluster.write(1, 5, "2")
        told_of = feed.many
        cluster.until(lambda found: any(number(one) > told_of + 200 for one in seen(found)))
        assert {one.version for one in cluster.activations()} == {"1"}
        cluster.write(0, 5, "2")
        cluster.until(lambda found: any(one.rule == "slow" and one.version == "2" and one.phase == "closed" for one in found))
    finally:
        feed.stop()
    found = cluster.until(lambda found: len(seen(found)) >= feed.many)
    cluster.stop()
    assert cluster.said.count("rules changed") == 2
    records = [record for message in drain(cluster.broker.kafka, LINEAGE, 0, 0) for record in decode_batch(message.value)]
    changes = [(each.ref, each.data["before"], each.data["version"]) for each in records if each.kind == "rule"]
    assert sorted(changes) == [("each", "1", "2"), ("slow", "1", "2")]
    at = cuts(seen(found), feed.many)
    assert min(at) > 0 and max(at) < feed.many // PARTITIONS
    assert told(found) == told(undisturbed(cluster, feed.many, at))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_a_process_killed_around_a_change(cluster: Cluster, seed: int) -> None:
    """Whichever is killed, and when: the others end, all go on alike after the restart, and every event is told once by its id; what was
    told last has one cut of each partition."""
    dice = random.Random(seed)
    cluster.workers = 1 + seed % 2
    cluster.start()
    feed = Feed(cluster.broker)
    try:
        cluster.until(lambda found: len({number(one) % PARTITIONS for one in seen(found)}) == PARTITIONS)
        kept = cluster.kept()
        cluster.until(lambda found: cluster.kept() > kept + 2)  # now a restart goes on behind the first events of each partition
        first = dice.randrange(2)
        cluster.write(first, 5, "2")
        time.sleep(dice.uniform(0, 1))
        cluster.write(1 - first, 5, "2")
        time.sleep(dice.uniform(0.5, 2.5))
        victim, other = dice.sample(cluster.processes, 2)
        victim.kill()
        assert other.wait(60) != 0 and victim.wait(60)
        cluster.processes = []
        cluster.start()
        cluster.until(lambda found: sum(one.version == "2" for one in seen(found)) > 200)
    finally:
        feed.stop()
    found = cluster.until(lambda found: len({one.id for one in seen(found)}) >= feed.many)
    cluster.stop()
    last = {one.id: one for one in seen(found)}
    at = cuts(list(last.values()), feed.many)
    assert min(at) > 0 and max(at) < feed.many // PARTITIONS


class Ping(BaseModel):
    ms: float


pings: Topic[Ping] = Topic("pings", Ping)
slow = Threshold("slow", of=pings, value=pl.col("ms"), opens_at=5, closes_at=1)


def book_of(level: int, process: int = 0, processes: int = 2) -> Rulebook:
    return Rulebook({"pings": Detector(pings, [replace(slow, opens_at=level)], idle=False)}, process, processes)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(2, 4), st.booleans()), max_size=30), st.randoms(use_true_random=False))
def test_all_processes_take_the_same_revisions(edits: list[tuple[int, int, bool]], dice: random.Random) -> None:
    """However edits and words cross each other, every process has under a number what all others have, and each word is in the end that
    of the files, where they are the same."""
    books, agreement = [book_of(2, process, 3) for process in range(3)], Agreement(3)
    telling: list[list[Known]] = [[], [], []]
    hearing: list[list[Word]] = [[], [], []]
    taken: list[dict[int, float]] = [{}, {}, {}]

    def one_more() -> bool:
        """Something that is on its way arrives."""
        ways = [("tell", n) for n in range(3) if telling[n]] + [("hear", n) for n in range(3) if hearing[n]]
        if not ways:
            return False
        way, n = dice.choice(ways)
        if way == "tell":
            for word in agreement.on_batch([telling[n].pop(0)])[0]:
                for each in hearing:
                    each.append(word)
        else:
            books[n].hear(hearing[n].pop(0), 0)
            taken[n][books[n].revision] = level_of(books[n])
        return True

    for process, level, arrives in [(0, 2, False), *edits, *((process, 3, True) for process in range(3))]:
        books[process].offer([replace(slow, opens_at=level)])
        for n, book in enumerate(books):
            telling[n] += book.to_tell(0)
        if arrives:
            one_more()
    while one_more():
        pass
    assert len({book.revision for book in books}) == 1
    assert taken[0] == taken[1] == taken[2]
    assert [level_of(book) for book in books] == [3, 3, 3]


def test_a_worker_hears_each_word_once_and_in_order() -> None:
    """Of the many keys that lead to it; another worker hears them too."""
    step, words = once_for_each_worker(), [Word(n, n, "", {}) for n in (1, 2, 3)]
    assert step([("3", words[0]), ("3", words[1]), ("7", words[0])]) == words[:2]
    assert step([("7", words[1]), ("7", words[2]), ("3", words[2])]) == words[2:]
    other: list[Word] = []
    thread = threading.Thread(target=lambda: other.extend(step([("5", word) for word in words])))
    thread.start()
    thread.join()
    assert other == words


def test_processes_that_start_with_different_rules_read_nothing() -> None:
    """They wait for each other, for a minute; then they end and say which has which."""
    ours, theirs, agreement = book_of(5, 0), book_of(6, 1), Agreement(2)
    for known in (*ours.to_tell(0), *theirs.to_tell(0)):
        for word in agreement.on_batch([known])[0]:
            ours.hear(word, 0)
            theirs.hear(word, 0)
    assert not ours.agreed and not theirs.agreed
    assert ours.to_tell(AGREE_S * S) == []
    with pytest.raises(Misused, match=r"different rules: process 0: \w{12}, process 1: \w{12}; start all with the same"):
        ours.to_tell(AGREE_S * S + 1)
    theirs.offer([slow])
    (word,) = agreement.on_batch(theirs.to_tell(AGREE_S * S))[0]
    ours.hear(word, 0)
    theirs.hear(word, 0)
    assert ours.agreed and theirs.agreed and ours.to_tell(10 * AGREE_S * S) == []


def test_who_waits_for_the_others_says_so() -> None:
    """After some seconds, and then now and again, as long as rules differ; rules of before stay."""
    ours, agreement = book_of(5, 0), Agreement(2)
    for known in (*ours.to_tell(0), *book_of(5, 1).to_tell(0)):
        ours.hear(agreement.on_batch([known])[0][0], 0)
    ours.offer([replace(slow, opens_at=7)])
    (known,) = ours.to_tell(0)
    ours.hear(agreement.on_batch([known])[0][0], 0)
    with structlog.testing.capture_logs() as said:
        for second in range(REMIND_S[0] + 2 * REMIND_S[1]):
            ours.remind(second * S)
    assert [one["event"].partition(";")[0] for one in said] == ["processes have different rules"] * 2
    assert ours.revision == 1 and level_of(ours) == 5
    ours.hear(agreement.on_batch([known._replace(process=1)])[0][0], 0)
    assert ours.revision == 2 and level_of(ours) == 7


def test_saving_again_and_again_keeps_no_copies() -> None:
    """What is remembered is bounded: a few revisions, and what is on its way."""
    book, agreement = book_of(5, processes=1), Agreement(1)
    for n in range(2, 60):
        book.offer([replace(slow, opens_at=n)])
        for known in book.to_tell(0):
            book.hear(agreement.on_batch([known])[0][0], 0)
    assert len(book._revisions) == 3 and len(book._offered) == 1
