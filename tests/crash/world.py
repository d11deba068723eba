"""One run of the effects-once tests: a broker and a service that live on, what is given, and the processes that live and die there."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from crash.acts import HALVES, PARTITIONS, calms, marks, risings
from crash.done import Done, done_by
from crash.follower import Follower
from crash.points import Step

from headwater.flows.broker import Broker
from headwater.flows.drain import drain
from headwater.flows.runtime import wall_clock
from headwater.flows.sink import Writer
from headwater.lineage.topic import LINEAGE

HERE = Path(__file__).parent
DAY = 86_400_000_000
AHEAD = DAY - wall_clock() % DAY + DAY // 24
"""Clocks of these tests begin an hour into a day: a budget is one day's."""


def now() -> int:
    return wall_clock() + AHEAD


class Service:
    """The counting service in its process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "service.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = self._process.stdout.readline().strip()

    def counts(self, run: str) -> dict[str, dict[str, int]]:
        with urlopen(f"http://127.0.0.1:{self.port}/{run}", timeout=60) as answer:
            found: dict[str, dict[str, int]] = json.load(answer)
            return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class World:
    """One run: a broker, what it is given by and by, and the processes that live in it."""

    def __init__(self, name: str, half: int, home: Path, start: Callable[..., Any], service: Service) -> None:
        chance = random.Random(name)
        self.half, self.home, self.chance, self._start, self._service = half, home, chance, start, service
        self._run = f"{name}-{time.monotonic_ns()}"
        self.broker = Broker(id=self._run)
        self.broker.kafka.create({**PARTITIONS, LINEAGE: 1})
        self.writer = Writer(self.broker.kafka, self.broker.id)
        self.follower = Follower(self.broker.kafka, self.writer, chance, now)
        self._supply, self._calms = risings(HALVES[half]), [*calms(HALVES[half]), *marks()]
        self._read = len(self._supply) + len(self._calms)

    def live(self, steps: Sequence[Step] = (), *, home: Path | None = None, version: str = "1", workers: int = 1) -> Any:
        environ = {"ACTING_SERVICE": self._service.port, "ACTING_RUN": self._run, "ACTING_VERSION": version}
        return self._start(
            home or self.home, self.broker.address, replay=True, steps=steps, workers=workers, effects=True, environ=environ,
            app=str(HERE / "acting.py"), ahead=AHEAD, http_off=True,
        )  # fmt: skip

    def feed(self, many: int) -> int:
        """Write the next events; what suspended agents wait for only once they all wait."""
        queue = self._supply or (self._calms if self.follower.suspended else [])
        given, queue[:many] = queue[:many], []
        if given:
            self.writer.write(given)
        return len(given)

    def until(self, look: Callable[[], Any], victim: Any, again: Callable[[], Any] | None = None, seconds: float = 240) -> Any:
        """Follow and feed until `look` is true. `again`: starts it anew, as a supervisor does, if it is fenced; gives what runs at last."""
        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline, f"never came true; {self.standing}; {victim.passed[-6:]}\n{victim.standing()}"
            if victim.process.poll() is not None:
                last_said = victim.said.rpartition("starting acting")[2]
                assert again is not None and "failed: Fenced: " in last_said, victim.said
                victim = again()
            self.follower.look()
            self.feed(4)
            time.sleep(0.02)
        return victim

    @property
    def standing(self) -> str:
        """How far everything is, and what the broker hides from readers of committed messages."""
        seen = {
            topic: [len(drain(self.broker.kafka, topic, 0, 0, isolation)) for isolation in ("read_committed", "read_uncommitted")]
            for topic in (*PARTITIONS, LINEAGE)
        }
        return f"{self.follower.standing}, messages (committed, all) {seen}"

    def finish(self, victim: Any, again: Callable[[], Any] | None = None) -> None:
        """To the end of all decisions; then it stops as people do."""
        victim = self.until(lambda: self.follower.ended and self.follower.closed(self._read), victim, again)
        victim.ready()
        assert victim.stop(signal.SIGTERM) == 0, victim.said

    def done(self, home: Path | None = None, inside: Collection[str] = ()) -> Done:
        return done_by(home or self.home, self.broker.kafka, self._service.counts(self._run), inside)

    def close(self) -> None:
        self.follower.close()
        self.broker.stop()
