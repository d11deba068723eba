"""Killed with -9 while records land ahead, thousands at once: as if it had never been killed (law 8)."""

import signal
import time
from typing import Any

from crash.landing_points import LANDING_POINTS
from crash.points import Step

from headwater.flows.broker import Broker
from headwater.flows.landing import AHEAD
from headwater.flows.sink import Outgoing, Writer
from headwater.flows.steps import to_lineage
from headwater.lineage.event import Position
from headwater.lineage.proof import prove
from headwater.lineage.record import outcomes, run_of
from headwater.lineage.store import Store
from headwater.lineage.testing import document

EVENTS = AHEAD + 400
"""In one wave."""


def wave(broker: str, number: int) -> list[Outgoing]:
    """What `index` says of so many events, as messages."""
    places = [Position(broker, "flights", 0, offset) for offset in range(number * EVENTS, (number + 1) * EVENTS)]
    consumed = run_of("consumed", "index", places[0], places[-1].offset + 1, EVENTS, 1)
    return to_lineage("index", [consumed, *map(document, places), *outcomes("index", [(place, "indexed") for place in places], 1)])


def lived(victim: Any, writer: Writer, broker: str, waves: int) -> int:
    """Waves until the process is killed, one whenever it has come to another point, or to none for a while; how many there are then."""
    victim.ready()
    until = time.monotonic() + 240
    while victim.process.poll() is None:
        assert time.monotonic() < until, victim.standing()
        passed, patience = len(victim.passed), time.monotonic() + 3
        writer.write(wave(broker, waves))
        waves += 1
        while victim.process.poll() is None and len(victim.passed) == passed and time.monotonic() < patience:
            time.sleep(0.02)
    assert victim.process.returncode == -signal.SIGKILL, victim.said
    return waves


def test_killed_while_one_batch_lands_and_the_next_is_ready(tmp_path, start):
    """Law 8: `audit` killed with a batch in its open transaction and the next one ready, then with one committed of which its flow does
    not know, has each record once in the end, in an unbroken chain; both kinds of batch landed ahead.
    """
    home, waves = tmp_path / "home", 0
    with Broker(id="ahead") as broker:
        broker.kafka.create({"headwater.lineage": 1})
        writer = Writer(broker.kafka, broker.id)
        for point in ("ahead: overtaken", "ahead: landed"):
            victim = start(home, broker.address, landing=True, http_off=True, steps=[Step(point, 1, "kill")])
            waves = lived(victim, writer, broker.id, waves)
            assert victim.passed[-1] == f"kill at {point}"
        last = start(home, broker.address, landing=True, http_off=True)
        last.ready()
        assert last.stop(signal.SIGTERM) == 0, last.said
        assert set(LANDING_POINTS) <= set(last.passed)
    with Store(home / "lineage.duckdb", clock=lambda: 1) as store:
        verdict = prove(store, home, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        assert verdict.totals["index"] == {"indexed": waves * EVENTS} and verdict.replayed == 0
        with store.cursor() as cursor:
            counted = "SELECT count(*), count(DISTINCT id) FROM records WHERE kind = 'document'"
            assert cursor.execute(counted).fetchall() == [(waves * EVENTS, waves * EVENTS)]
            assert cursor.execute("SELECT max(next_seq - first_seq) FROM chain").fetchall()[0][0] >= AHEAD
