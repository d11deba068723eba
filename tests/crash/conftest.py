"""Processes that are killed or stopped, and brokers that are not."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from crash.left import Left, finish, left_by
from crash.points import Step
from crash.stream import marks, readings

from headwater.flows.broker import Broker
from headwater.flows.run_file import read_run_file
from headwater.flows.sink import Writer
from headwater.lineage.client import connect

HERE = Path(__file__).parent
APPLICATION = HERE.parent / "walk" / "application.py"
PATIENCE_S = 180.0
"""Several times what a slow machine takes: who waits in vain is told so all the same."""


class Nursery:
    """The process that victims are forked from: it has loaded what they need, and holds nothing else."""

    def __init__(self) -> None:
        known = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "victim.py")], env=known, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._asking = threading.Lock()
        assert self._answer() == {"ready": True}

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the nursery ended with {self._process.wait()}"
        return json.loads(line)

    def ask(self, **asked: Any) -> Any:
        assert self._process.stdin is not None
        with self._asking:
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            return self._answer()

    @property
    def spent(self) -> float:
        """Processor seconds of it and of all its children that have ended."""
        told = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, told[11:15])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._process.kill()  # it holds nothing, and takes long to leave in order where much else runs
        self._process.wait()


class Process:
    """A child of the nursery, as far as tests need it: like a Popen."""

    def __init__(self, nursery: Nursery, plan: dict[str, Any]) -> None:
        self._nursery = nursery
        self.pid: int = nursery.ask(run=plan)["pid"]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ask(poll=self.pid)["status"]
        return self.returncode

    def wait(self, seconds: float = PATIENCE_S) -> int:
        deadline = time.monotonic() + seconds
        while (status := self.poll()) is None:
            assert time.monotonic() < deadline, f"{self.pid} still runs after {seconds} s"
            time.sleep(0.005)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def stands(self) -> bool:
        """It was sent SIGSTOP and stands still."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
        except OSError:  # it is gone
            return False

    @property
    def rss(self) -> int:
        """Bytes of memory that it alone holds: of what is resident, all but mapped files, which the system may take back."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


class Victim:
    """`headwater up` in a process of its own; `bootstrap=None`: with its embedded broker. See `victim.py` for the rest of its plan."""

    def __init__(
        self, nursery: Nursery, home: Path, bootstrap: str | None = None, *, replay: bool = False, steps: Sequence[Step] = (), **plan: Any
    ) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        settings = {"HEADWATER_INDEX__HISTORY": "20s", **plan.pop("settings", {})}
        if bootstrap is not None:
            settings = {"HEADWATER_KAFKA__BOOTSTRAP_SERVERS": bootstrap, **settings}
        whole = {"app": str(APPLICATION), "home": str(home), "idle": not replay, "steps": list(steps), "settings": settings, **plan}
        self.process = Process(nursery, whole)

    @property
    def said(self) -> str:
        return (self.home / "victim.log").read_text()

    @property
    def passed(self) -> list[str]:
        """The points that victims in this home came by, and what they did there, in order; each life tells each point once."""
        told = self.home / "points"
        return told.read_text().splitlines() if told.exists() else []

    def run_file(self) -> dict[str, Any] | None:
        known = read_run_file(self.home)
        return known if known and known["pid"] == self.process.pid else None

    def ready(self) -> dict[str, Any]:
        """What it says of itself once it runs."""
        known: dict[str, Any] = self.until(self.run_file)
        return known

    def until(self, look: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        """What `look` gives once it is truthy; the process must not end meanwhile."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.said}"
            assert time.monotonic() < deadline, f"never came true; last: {found!r}\n{self.standing()}"
            time.sleep(0.03)
        return found

    def standing(self) -> str:
        """All it has said, and where its threads are."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
        return self.said

    def sql(self, query: str) -> list[dict[str, Any]]:
        with connect(self.ready()["http"]) as lineage:
            return lineage.sql(query).to_dicts()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    opened = Nursery()
    yield opened
    opened.close()


def _starting(nursery: Nursery) -> Iterator[Callable[..., Victim]]:
    """Starts victims; whatever is left of them is killed at the end."""
    begun: list[Victim] = []

    def begin(home: Path, bootstrap: str | None = None, **plan: Any) -> Victim:
        begun.append(Victim(nursery, home, bootstrap, **plan))
        return begun[-1]

    yield begin
    for victim in begun:
        victim.close()


start = pytest.fixture(_starting, name="start")
starter = pytest.fixture(_starting, name="starter", scope="module")


@pytest.fixture(scope="session")
def undisturbed_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="session")
def undisturbed(nursery: Nursery, undisturbed_home: Path) -> Left:
    """What a run leaves that nobody disturbed."""
    with Broker(id="crash") as broker:
        victim = Victim(nursery, undisturbed_home, broker.address, replay=True)
        try:
            victim.ready()
            Writer(broker.kafka, broker.id).write([*readings(), *marks()])
            finish(victim, broker.kafka)
        finally:
            victim.close()
        left = left_by(undisturbed_home, broker.kafka)
    assert len(left.activations) > 20
    assert {state for state, _ in left.decisions.values()} == {"acted", "waiting", "no_action"}
    assert set(left.detected.values()) == {"passed", "late", "dead_lettered"}
    assert set(left.indexed.values()) == {"indexed", "unchanged", "deleted", "stale", "passed", "dead_lettered"}
    return left
