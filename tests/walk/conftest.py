"""A running `headwater up` of tests/walk/application.py, shared by the tests of this folder, with a model that is no model."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import load
from headwater.flows.drain import drain
from headwater.flows.settings import Settings
from headwater.flows.up import Up
from headwater.lineage.client import connect
from headwater.lineage.event import Message
from headwater.lineage.topic import Topic

APPLICATION = Path(__file__).parent / "application.py"


class Lake:
    """A running application and its doors. Gauges have names that no other test uses."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.http = httpx.Client(base_url=up.address, timeout=90)
        self._numbers = itertools.count()

    @property
    def broker(self) -> str:
        return self.up.run.broker

    @property
    def readings(self) -> Topic[Any]:
        return self.up.app.topics["readings"]

    def gauge(self) -> str:
        return f"gauge{next(self._numbers)}"

    def publish(self, **reading: Any) -> str:
        """The token of one reading."""
        answer = self.http.post("/v1/events/readings", json=reading)
        assert answer.status_code == 202, answer.text
        token: str = answer.json()["token"]
        return token

    def search(self, text: str, **more: Any) -> httpx.Response:
        return self.http.get("/v1/search", params={"q": text, "wait": "60s", **more})

    def sql(self, query: str) -> list[dict[str, Any]]:
        with connect(self.up.address) as lineage:
            return lineage.sql(query).to_dicts()

    def messages(self, topic: str) -> list[Message]:
        """Everything on a topic."""
        return [message for p in range(self.up.app.partitions[topic]) for message in drain(self.up.run.kafka, topic, p, 0)]

    def events(self, topic: str, subject: str) -> list[Any]:
        """The data of a topic's events with this subject."""
        return [json.loads(m.value or b"") for m in self.messages(topic) if dict(m.headers).get("ce_subject") == subject.encode()]


def eventually(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What `look` gives once it is truthy."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"never came true; last: {found!r}"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="package")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """One for all tests of this folder; it ends with them: one that idles takes time of others."""
    home = tmp_path_factory.mktemp("lake")
    with Up(load(str(APPLICATION)), Settings(home=home, http_port=0), embedder=HashEmbedder()) as up:
        yield Lake(up)
        assert up.failure is None


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually
