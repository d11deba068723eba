"""A small application in one process, with what a test of retries and dead letters wants to do to it and ask of it."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import polars as pl
import pytest

from headwater import App, Document, Threshold, Topic, document
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.drain import drain
from headwater.flows.settings import Settings
from headwater.flows.up import Up
from headwater.lineage.event import Message, Position
from headwater.lineage.verify import Verdict, verify


class Reading(msgspec.Struct):
    gauge: str
    metres: float = 0.0


class Flaky:
    """An enricher that has no answer for a gauge as many times as `failing` says; `refused` gauges it never takes.

    It counts for each thread by itself, for each flow asks in its own: else which of them fails how often would hang on who is quicker.
    """

    schema = {"place": pl.String}  # noqa: RUF012

    def __init__(self, **failing: int) -> None:
        self.failing, self.asked, self.lock = Counter(failing), Counter[str](), threading.Lock()
        self._failed = Counter[tuple[int, str]]()
        self.refused: set[str] = set()

    def facts(self, model: Any, time: int) -> dict[str, str]:
        with self.lock:
            self.asked[model.gauge] += 1
            if model.gauge in self.refused:
                raise ValueError("no such gauge in the register")
            asking = threading.get_ident(), model.gauge
            if self._failed[asking] < self.failing[model.gauge]:
                self._failed[asking] += 1
                raise ConnectionError("no route to the register")
        return {"place": "pier"}


class Lake:
    """A running application of one topic, and its doors."""

    def __init__(self, up: Up, flaky: Flaky) -> None:
        self.up, self.run, self.flaky = up, up.run, flaky
        self.topic = up.app.topics["readings"]
        self._numbers = itertools.count()
        self.http = httpx.Client(base_url=up.address, timeout=30)

    def gauge(self) -> str:
        """A name that no other test uses."""
        return f"gauge{next(self._numbers)}"

    def publish(self, *gauges: str, metres: float = 0.5) -> list[Position]:
        body = json.dumps([{"gauge": gauge, "metres": metres} for gauge in gauges]).encode()
        return [accepted.position for accepted in self.up.gateway.publish(self.topic, self.up.gateway.events(self.topic, body))]

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.run.store.cursor() as cursor:
            found: list[dict[str, Any]] = cursor.sql(query).pl().to_dicts()
            return found

    def messages(self, topic: str, partition: int = 0) -> list[Message]:
        return drain(self.run.kafka, topic, partition, 0)

    def verify(self) -> Verdict:
        return verify(self.run.store, in_flight_ok=False)

    def settled(self) -> Verdict:
        """The verdict, once all that lies on the topic is landed and nothing is on its way."""
        query = "select coalesce(sum(count), 0)::bigint as n from consumed where topic = 'readings' group by flow"

        def look() -> Verdict | None:
            assert self.up.failure is None, self.up.failure
            there = sum(len(self.messages("readings", partition)) for partition in range(2))
            if [row["n"] for row in self.rows(query)] != [there] * (2 if self.up.app.triggers else 1):
                return None
            verdict = self.verify()
            return verdict if verdict.ok and not self.run.progress.moving() else None

        return eventually(look)


def eventually(look: Callable[[], Any], seconds: float = 120) -> Any:
    """What `look` gives once it is truthy."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"never came true; last: {found!r}"
        time.sleep(0.05)
    return found


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


def _start(home: Path, flaky: Flaky, delays: str, *, watched: bool = True, http: bool = True, **more: Any) -> Up:
    settings = Settings(home=home / "home", retry_delays=delays, http_port=0, **more)
    flows = ("index", "detect", "audit") if watched else ("index", "audit")
    return Up(_application(flaky, home, watched), settings, flows=flows, http=http, embedder=HashEmbedder())


@pytest.fixture(scope="package")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """One for all tests of this folder, each with gauges of its own; in the end law 1 holds over all that they did.

    It ends with them: one that idles takes time of others.
    """
    flaky = Flaky()
    with _start(tmp_path_factory.mktemp("lives"), flaky, "50ms,100ms") as up:
        yield (found := Lake(up, flaky))
        found.settled()
        assert up.failure is None


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Lake]]:
    """Starts a lake of one's own, without rules and HTTP; the test stops it with `.up.stop()`."""
    running: list[Lake] = []

    def start(flaky: Flaky, delays: str, **more: Any) -> Lake:
        up = _start(tmp_path, flaky, delays, watched=False, http=False, **more)
        up.start()
        running.append(Lake(up, flaky))
        return running[-1]

    yield start
    for each in running:
        if each.up._lock is not None and not each.up._lock.closed:
            each.up.stop()


def _application(enricher: Any, root: Path, watched: bool) -> App:
    readings: Topic[Reading] = Topic("readings", Reading, key="gauge", partitions=2, enrich={"place": enricher}, idle_after="300ms")

    @document(readings)
    def level(reading: Reading, facts: Any) -> Document:
        return Document(id=reading.gauge, text=f"{reading.gauge} at the {facts['place']['place']} stands at {reading.metres}")

    at_the_pier = pl.col("place").struct.field("place") == "pier"
    high = Threshold("high", of=readings, value=pl.col("metres"), where=at_the_pier, per="gauge", opens_at=2.0, closes_at=1.0)
    return App("lake", documents=[level], triggers=[high] if watched else [], root=root)


@pytest.fixture(name="flaky")
def _flaky() -> type[Flaky]:
    return Flaky
