"""The bridge killed with -9, replaced and cut off while events flow both ways: every event in both regions once, in order (law 1)."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from headwater.flows.app import load
from headwater.flows.broker import Broker, _free_port
from headwater.flows.drain import drain
from headwater.flows.route import ROUTE, hops_of
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing, Writer
from headwater.flows.up import Up
from headwater.lineage.event import Message, Position
from headwater.lineage.message import decode_batch
from headwater.lineage.ranges import Ranges
from headwater.lineage.store import open_database
from headwater.lineage.topic import LINEAGE
from headwater.lineage.verify import verify

APPLICATION = Path(__file__).parent / "bridged.py"
HALTING = Path(__file__).parent / "halting.py"
PARTS = {"flights": 3, "plans": 1}


class Bridging:
    """`headwater run bridge` in a process of its own, which stops where `halt` says, see `halting`."""

    def __init__(self, home: Path, here: Broker, there: Broker, halt: Sequence[str]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        known = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
        known |= {"HEADWATER_KAFKA__BOOTSTRAP_SERVERS": here.address, "HEADWATER_BRIDGE__EU__BOOTSTRAP_SERVERS": there.address}
        program = [str(HALTING), *halt] if halt else ["-m", "headwater"]
        command = [sys.executable, *program, "run", "bridge", str(APPLICATION), "--home", str(home), "-s", "0.1"]
        self._path = home / "bridge.log"
        self._log = self._path.open("ab")
        self.process = subprocess.Popen(command, env=known, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    @property
    def said(self) -> str:
        return self._path.read_text()

    @property
    def stands(self) -> bool:
        """It has stopped."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Bridging]]:
    """Starts bridges; whatever is left of them is killed at the end."""
    begun: list[Bridging] = []

    def begin(home: Path, here: Broker, there: Broker, *halt: str) -> Bridging:
        begun.append(Bridging(home, here, there, halt))
        return begun[-1]

    yield begin
    for bridging in begun:
        bridging.close()


class Publishing:
    """Events of random keys in both regions, numbered, each key in one partition."""

    def __init__(self, chance: random.Random, brokers: list[Broker], topics: Sequence[str] = ("flights", "flights", "plans")) -> None:
        self._chance, self._topics = chance, topics
        self._numbers = itertools.count()
        self._writers = [Writer(broker.kafka, broker.id) for broker in brokers]

    def some(self, most: int) -> None:
        for writer in self._writers:
            writer.write([self._event() for _ in range(self._chance.randint(1, most))])

    def _event(self) -> Outgoing:
        topic = self._chance.choice(self._topics)
        key = self._chance.randrange(9)
        n = next(self._numbers)
        return Outgoing(topic, b"k%d" % key, b'{"id":"%d"}' % n, [("ce_id", b"%d" % n)], key % PARTS[topic])


def lying(broker: Broker) -> dict[tuple[str, int], list[Message]]:
    return {(topic, p): drain(broker.kafka, topic, p, 0) for topic, count in PARTS.items() for p in range(count)}


def own(messages: list[Message]) -> list[Message]:
    return [m for m in messages if ROUTE not in dict(m.headers)]


def complete(us: Broker, eu: Broker) -> bool:
    """Whether as many events came over as there are, or more."""
    both = lying(us), lying(eu)
    return all(len(own(here[place])) <= len(there[place]) - len(own(there[place])) for here, there in (both, both[::-1]) for place in here)


def check(us: Broker, eu: Broker) -> int:
    """Every event of either region lies in the other once, byte for byte and in order; none is carried back. How many there are."""
    there = {broker.id: lying(broker) for broker in (us, eu)}
    many = 0
    for source, target in itertools.permutations(there, 2):
        for place, messages in there[source].items():
            produced = own(messages)
            came = [m for m in there[target][place] if ROUTE in dict(m.headers)]
            assert [dict(m.headers)[ROUTE].decode() for m in came] == [str(Position(source, *place, m.offset)) for m in produced]
            assert [(*m[3:6], m.headers[:1]) for m in came] == [(*m[3:6], m.headers) for m in produced]
            assert all([hop.broker for hop in hops_of(m.headers)] == [source] for m in came)
            many += len(produced)
    return many


def until(look: Callable[[], Any], bridging: Bridging | None = None, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not (found := look()):
        said = bridging.said if bridging else ""
        assert bridging is None or bridging.process.poll() is None, f"it ended with {bridging.process.returncode}:\n{said}"
        assert time.monotonic() < end, f"never came true; last: {found!r}\n{said}"
        time.sleep(0.05)


def told(us: Broker) -> int:
    """How many positions of both brokers the lineage topic says have ended."""
    ended: dict[tuple[object, ...], Ranges] = defaultdict(Ranges)
    for message in drain(us.kafka, LINEAGE, 0, 0):
        for record in decode_batch(message.value or b""):
            if record.kind == "outcome":
                ended[record.flow, *record.position[:3]].add(record.first, record.next)
    return sum(following - first for ranges in ended.values() for first, following in ranges)


def accounted(home: Path, us: Broker, many: int) -> None:
    """Law 1: `audit verify` finds every position of both brokers consumed and ended once."""
    settings = Settings(home=home, kafka={"bootstrap.servers": us.address})
    with Up(load(str(APPLICATION)), settings, flows=("audit",), http=False) as up:
        until(lambda: up.run.store.cursor().execute(_ENDED).fetchall()[0][0] == 2 * many)
    with open_database(home / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=False)
    assert verdict.ok, verdict.offences
    assert sum(verdict.consumed.values()) == 2 * many
    assert set(verdict.totals) == {"bridge/eu/send", "bridge/eu/receive"}


_ENDED = "SELECT coalesce(sum(\"count\"), 0) FROM records WHERE kind = 'outcome' AND outcome = 'passed'"


def kill_and_check(seed: int, home: Path, start: Any, kills: int) -> None:
    """Some events in each life, a kill at a random moment; sometimes the next life is on a machine that has nothing of the former."""
    chance = random.Random(seed)
    with Broker() as us, Broker() as eu:
        for broker in (us, eu):
            broker.kafka.create(PARTS)
        publishing = Publishing(chance, [us, eu])
        publishing.some(50)
        for _ in range(kills):
            bridging = start(home, us, eu)
            before = len(bridging.said)
            if chance.random() < 0.8:  # else killed while it starts
                until(lambda before=before, b=bridging: b.said[before:], bridging)
            for _ in range(chance.randint(3, 12)):
                publishing.some(chance.choice([3, 200]))
                time.sleep(chance.uniform(0.0, 0.3))
            bridging.kill()
            if chance.random() < 0.3:
                shutil.rmtree(home / "recovery", ignore_errors=True)
        bridging = start(home, us, eu)
        publishing.some(50)
        until(lambda: complete(us, eu), bridging)
        many = check(us, eu)
        # What came over is read there once more, to be passed by: a stop before that leaves it for the next life, which here is none.
        until(lambda: told(us) == 2 * many, bridging)
        bridging.process.send_signal(signal.SIGTERM)
        assert bridging.process.wait(180) == 0, bridging.said
        assert check(us, eu) == many
        accounted(home, us, many)


@pytest.mark.parametrize("seed", [1])
def test_killed_as_if_it_never_was(seed, tmp_path, start):
    """Each event once and in order on both sides, every position accounted for."""
    kill_and_check(seed, tmp_path, start, kills=3)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 8))
def test_killed_many_times_as_if_it_never_was(seed, tmp_path, start):
    """The same, more often and at more moments."""
    kill_and_check(seed, tmp_path, start, kills=12)


def test_a_former_owner_is_fenced(tmp_path, start):
    """Of two processes with the same links the one that came first ends, says why, and nothing is doubled."""
    with Broker() as us, Broker() as eu:
        for broker in (us, eu):
            broker.kafka.create(PARTS)
        publishing = Publishing(random.Random(5), [us, eu])
        first = start(tmp_path / "first", us, eu)
        publishing.some(100)
        until(lambda: complete(us, eu), first)
        second = start(tmp_path / "second", us, eu)

        def replaced() -> bool:
            publishing.some(5)
            return first.process.poll() is not None

        until(replaced, second)
        until(lambda: complete(us, eu), second)
        assert first.process.returncode == 1
        assert "Fenced: bridge/eu/" in first.said
        check(us, eu)


@pytest.mark.parametrize("point", ["filled", pytest.param("committing", marks=pytest.mark.long)])
def test_an_owner_fenced_in_the_midst_of_a_transaction_ends(point, tmp_path, start):
    """One that stood still in a transaction while another took its links ends once it wakes, and says why; the other goes on."""
    with Broker() as us, Broker() as eu:
        for broker in (us, eu):
            broker.kafka.create(PARTS)
        publishing = Publishing(random.Random(6), [us], ["flights"])  # by one lane: another one's fence would end the process first
        first = start(tmp_path / "first", us, eu, point, "9")

        def halted() -> bool:
            publishing.some(5)
            return first.stands

        until(halted, first)
        second = start(tmp_path / "second", us, eu)
        until(lambda: complete(us, eu), second)
        first.process.send_signal(signal.SIGCONT)

        def ended() -> bool:
            publishing.some(5)
            return first.process.poll() is not None

        until(ended, second)
        publishing.some(100)
        until(lambda: complete(us, eu), second)
        assert first.process.returncode == 1
        assert "Fenced: bridge/eu/" in first.said
        check(us, eu)


class Proxy:
    """A TCP link that can be cut: what is on its way is lost, and nobody answers until it heals."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._whole = threading.Event()
        self._whole.set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._open.append(near)
                if not self._whole.is_set():
                    near.close()
                    continue
                far = self._far()
                if far is None:
                    near.close()
                    continue
                self._open.append(far)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _far(self) -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", self._port))
        return None

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._whole.is_set() and (data := one.recv(65536)):
                if self._whole.is_set():
                    other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut(self) -> None:
        self._whole.clear()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def heal(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self.cut()
        self._listener.close()


def cut_and_check(seed: int, home: Path, cuts: int, interrupt: str) -> None:
    """Events flow in both regions while the way between them is cut, or the far broker stands still, again and again."""
    chance = random.Random(seed)
    port = _free_port()
    proxy = Proxy(port)
    with Broker() as us, Broker(port=port, advertised=proxy.address) as eu_itself:
        for broker in (us, eu_itself):
            broker.kafka.create(PARTS)
        settings = Settings(home=home, kafka={"bootstrap.servers": us.address}, bridges={"eu": {"bootstrap.servers": proxy.address}})
        with Up(load(str(APPLICATION)), settings, flows=("bridge", "audit"), http=False) as up:
            here = Publishing(chance, [us])
            for _n in range(cuts):
                for _ in range(chance.randint(2, 5)):
                    here.some(300)
                    time.sleep(chance.uniform(0.0, 0.1))
                _interrupt(proxy, eu_itself, interrupt, chance.uniform(0.1, 1.5), lambda: here.some(300))
            there = Publishing(chance, [eu_itself])
            for _n in range(cuts):
                there.some(300)
                here.some(30)
                time.sleep(chance.uniform(0.0, 0.2))
                _interrupt(proxy, eu_itself, interrupt, chance.uniform(0.1, 1.5), lambda: here.some(300))
            until(lambda: up.failed.is_set() or complete(us, eu_itself))
            assert up.failure is None, up.failure
            many = check(us, eu_itself)
            until(lambda: sum(n for what, n in up.run.meter.counts().items() if what.endswith("stayed")) == many)
        assert not up.undrained
        with open_database(home / "lineage.duckdb", read_only=True) as lineage:
            verdict = verify(lineage, in_flight_ok=False)
        assert verdict.ok, verdict.offences
    proxy.close()


def _interrupt(proxy: Proxy, far: Broker, how: str, seconds: float, meanwhile: Callable[[], None]) -> None:
    (proxy.cut if how == "cut" else lambda: far.process.send_signal(signal.SIGSTOP))()
    meanwhile()
    time.sleep(seconds)
    (proxy.heal if how == "cut" else lambda: far.process.send_signal(signal.SIGCONT))()


@pytest.mark.parametrize("interrupt", ["cut", "pause"])
def test_cut_and_healed(interrupt, tmp_path):
    """What was on its way when the link broke is neither lost nor doubled, and the link takes up its work by itself."""
    cut_and_check(7, tmp_path, 2, interrupt)


@pytest.mark.long
@pytest.mark.parametrize("interrupt", ["cut", "pause"])
@pytest.mark.parametrize("seed", range(8, 12))
def test_cut_and_healed_many_times(seed, interrupt, tmp_path):
    """The same, more often."""
    cut_and_check(seed, tmp_path, 15, interrupt)
