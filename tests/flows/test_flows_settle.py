"""A clean stop leaves nothing of what was accepted behind, for the embedded broker forgets."""

import time

import msgspec
import polars as pl

from headwater import App, Document, Threshold, Topic, document
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.runtime import wall_clock
from headwater.flows.settings import Settings
from headwater.flows.up import Up
from headwater.lineage.store import Store
from headwater.lineage.verify import verify


class Reading(msgspec.Struct):
    gauge: str
    metres: float


class Slow(HashEmbedder):
    """An embedder that is slower than the gateway."""

    def embed(self, texts):
        time.sleep(0.002 * len(texts))
        return super().embed(texts)


readings = Topic("readings", Reading, key="gauge", partitions=2)
high = Threshold("high", of=readings, value=pl.col("metres"), per="gauge", within="1m", opens_at=2.0, closes_at=1.0, stat="max")


@document(readings)
def level(reading, facts):
    return Document(id=reading.gauge, text=f"{reading.gauge} stands at {reading.metres}")


def test_what_was_accepted_is_dealt_with_before_the_stop(tmp_path):
    """Every event that got a token has its outcome in every flow when `stop` returns: none is lost with the broker."""
    app = App("settle", documents=[level], triggers=[high], root=tmp_path)
    up = Up(app, Settings(home=tmp_path / "home"), http=False, embedder=Slow())
    with up:
        body = b"[" + b",".join(b'{"gauge":"g%d","metres":%d}' % (n % 7, n % 4) for n in range(300)) + b"]"
        accepted = up.gateway.publish(readings, up.gateway.events(readings, body))
    assert len(accepted) == 300
    assert up.undrained == []
    with Store(tmp_path / "home" / "lineage.duckdb", clock=wall_clock) as store:
        verdict = verify(store, in_flight_ok=False)
    assert verdict.ok, verdict.offences
    assert verdict.consumed["index"] == verdict.consumed["detect"] == 300
    assert "lost_with_broker" not in verdict.totals["index"] | verdict.totals["detect"]
    assert sum(verdict.totals["detect"].values()) == 300
