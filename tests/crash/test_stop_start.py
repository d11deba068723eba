"""`headwater up` with its embedded broker: stopped, started again, killed, started twice."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from headwater.flows.broker import Broker
from headwater.lineage.client import connect
from headwater.lineage.store import open_database
from headwater.lineage.verify import verify


def publish(victim, gauge: str, metres: float = 0.5) -> str:
    answer = httpx.post(
        f"{victim.ready()['http']}/v1/events/readings", json={"id": f"{gauge}-1", "gauge": gauge, "metres": metres}, timeout=60
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["token"])


def search(victim, text: str, **more) -> httpx.Response:
    return httpx.get(f"{victim.ready()['http']}/v1/search", params={"q": text, "limit": 100, "wait": "60s", **more}, timeout=90)


def found(victim, gauge: str, **more) -> bool:
    return any(hit["document"] == f"level/{gauge}" for hit in search(victim, gauge, **more).json()["results"])


def child_of(pid: int) -> int:
    """The broker: the only child."""
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean_and_a_start_goes_on(number, start, tmp_path):
    """Ctrl-C and SIGTERM: drained, exit 0; the next start keeps index and lineage, has a new broker id, old tokens are 410."""
    first = start(tmp_path)
    broker = first.ready()["broker_id"]
    token = publish(first, "north", metres=2.5)
    assert found(first, "north", after=token)
    assert first.stop(number) == 0, first.said
    assert not (tmp_path / "run.json").exists()
    with connect(tmp_path / "lineage.duckdb") as lineage:
        assert lineage.sql("from documents where document = 'level/north'").height == 1
        assert set(lineage.sql("select agent from decisions where key = 'north' and outcome = 'acted'")["agent"]) == {"warn", "log"}
        assert lineage.sql("from effects").height == 3
    second = start(tmp_path)
    known = second.ready()
    assert known["broker_id"] != broker
    assert found(second, "north")
    assert search(second, "north", after=token).status_code == 410
    assert found(second, "south", after=publish(second, "south"))
    assert second.sql("select count(*) as n from documents where document = 'level/north'") == [{"n": 1}]
    assert second.stop(number) == 0, second.said
    with open_database(tmp_path / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=True)
    assert verdict.ok, verdict.offences


def test_after_a_kill_the_next_start_works_at_once(start, tmp_path):
    """Killed with -9: its broker dies with it; the next start works, and closes what was open as lost with that broker."""
    first = start(tmp_path, replay=True)  # no clock moves its watermark, however long this takes
    pid = child_of(first.ready()["pid"])
    broker = first.ready()["broker_id"]
    token = publish(first, "north")
    assert found(first, "north", after=token)
    first.until(lambda: first.sql("select flow from consumed where flow = 'detect'"))
    first.kill()
    deadline = time.monotonic() + 60
    while not gone(pid):
        assert time.monotonic() < deadline, "the broker outlived its parent"
        time.sleep(0.02)
    second = start(tmp_path)
    assert found(second, "north")
    assert found(second, "south", after=publish(second, "south"))
    lost = second.sql(
        f"select flow, sum(count)::int as n from outcomes where outcome = 'lost_with_broker' and broker = '{broker}' group by flow"
    )
    assert {"flow": "detect", "n": 1} in lost  # it waited for its watermark
    assert second.stop(signal.SIGTERM) == 0, second.said
    with open_database(tmp_path / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=True)
    assert verdict.ok, verdict.offences


def test_a_home_belongs_to_one(start, tmp_path):
    """A second `up` in the same home is refused with a sentence that names why, and harms the first in nothing."""
    first = start(tmp_path)
    known = first.ready()
    second = start(tmp_path)
    assert second.process.wait() == 1
    assert "runs already" in second.said and "HEADWATER_HOME" in second.said
    assert first.run_file() == known
    assert found(first, "north", after=publish(first, "north"))


def test_without_its_broker_the_process_ends(start, tmp_path):
    """Its broker killed, `up` does not pretend to run: it ends by itself with exit 1, saying why; the next start works."""
    first = start(tmp_path)
    known = first.ready()
    assert found(first, "north", after=publish(first, "north"))
    os.kill(child_of(known["pid"]), signal.SIGKILL)
    assert first.process.wait() == 1
    assert "the embedded broker ended" in first.said
    second = start(tmp_path)
    assert found(second, "north")


@pytest.mark.long
def test_a_stop_does_not_wait_for_ever_for_a_broker(start, tmp_path):
    """An outside broker that stopped answering, with events on their way: SIGTERM ends the process all the same."""
    with Broker(tmp_path / "broker.log") as broker:
        first = start(tmp_path / "home", broker.address)
        assert found(first, "north", after=publish(first, "north", metres=2.5))
        first.until(lambda: len(first.sql("select id from decisions")) == 2)  # the journals are open: of one that opens it says so instead
        broker.process.send_signal(signal.SIGSTOP)
        try:
            assert first.stop(signal.SIGTERM) in (0, 1), first.said
            assert "stopped, " in first.said
        finally:
            broker.process.send_signal(signal.SIGCONT)
