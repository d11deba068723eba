"""Processes that are killed, and brokers that are not."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.flows.run_file import read_run_file
from headwater.lineage.client import connect

HERE = Path(__file__).parent
APPLICATION = HERE.parent / "walk" / "application.py"


class Victim:
    """`headwater up` in a process of its own; `bootstrap=None`: with its embedded broker."""

    def __init__(self, home: Path, bootstrap: str | None = None, *, replay: bool = False) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        known = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
        if bootstrap is not None:
            known["HEADWATER_KAFKA__BOOTSTRAP_SERVERS"] = bootstrap
        command = [sys.executable, str(HERE / "victim.py"), str(APPLICATION), str(home), *(["replay"] if replay else [])]
        self._log = (home / "victim.log").open("ab")
        self.process = subprocess.Popen(command, env=known, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    @property
    def said(self) -> str:
        return (self.home / "victim.log").read_text()

    def run_file(self) -> dict[str, Any] | None:
        known = read_run_file(self.home)
        return known if known and known["pid"] == self.process.pid else None

    def ready(self) -> dict[str, Any]:
        """What it says of itself once it runs."""
        known: dict[str, Any] = self.until(self.run_file)
        return known

    def until(self, look: Callable[[], Any], seconds: float = 60) -> Any:
        """What `look` gives once it is truthy; the process must not end meanwhile."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.said}"
            assert time.monotonic() < deadline, f"never came true; last: {found!r}\n{self.said}"
            time.sleep(0.03)
        return found

    def sql(self, query: str) -> list[dict[str, Any]]:
        with connect(self.ready()["http"]) as lineage:
            return lineage.sql(query).to_dicts()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()


def _starting() -> Iterator[Callable[..., Victim]]:
    """Starts victims; whatever is left of them is killed at the end."""
    begun: list[Victim] = []

    def begin(home: Path, bootstrap: str | None = None, *, replay: bool = False) -> Victim:
        begun.append(Victim(home, bootstrap, replay=replay))
        return begun[-1]

    yield begin
    for victim in begun:
        victim.close()


start = pytest.fixture(_starting, name="start")
starter = pytest.fixture(_starting, name="starter", scope="module")
