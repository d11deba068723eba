"""A journal that breaks, though nobody took it over, is opened anew in the running flow (laws 2 and 6)."""

import json
from pathlib import Path

from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import load
from headwater.flows.broker import Broker
from headwater.flows.drain import drain
from headwater.flows.journal import Broken, KafkaJournal
from headwater.flows.settings import load as load_settings
from headwater.flows.sink import Writer, outgoing
from headwater.flows.up import Up
from headwater.lineage.decode import MARK
from headwater.lineage.event import Event
from headwater.lineage.store import open_database
from headwater.lineage.topic import ACTIVATIONS, DECISIONS
from headwater.lineage.verify import verify

APPLICATION = Path(__file__).parent.parent / "walk" / "application.py"


def test_a_broken_journal_is_opened_anew(tmp_path, monkeypatch):
    """Broken before, within and after its transactions: all is decided, once, its effects go out, once, and the flow lives."""
    commit, calls = KafkaJournal._commit, []

    def breaking(journal, group):
        calls.append(group)
        if len(calls) in (2, 7):
            raise Broken("before anything was written")
        commit(journal, group)
        if len(calls) in (4, 9):
            raise Broken("after it was committed")

    monkeypatch.setattr(KafkaJournal, "_commit", breaking)
    given = {"HEADWATER_HOME": str(tmp_path)}
    messages = []
    for n in range(60):
        data = {"id": f"r{n}", "gauge": f"g{n % 6}", "metres": 2.5 if n // 6 % 2 else 0.5}
        event = Event(id=f"event-{n}", source="/reopen", type="reading", time=1_900_000_000_000_000 + n, data=json.dumps(data).encode())
        messages.append(outgoing("readings", event, data["gauge"], n % 3))
    marks = [Event(id=f"mark-{p}", source="/reopen", type=MARK, time=2_000_000_000_000_000) for p in range(3)]
    messages += [outgoing("readings", mark, mark.id, p) for p, mark in enumerate(marks)]
    with Broker() as broker:
        given["HEADWATER_KAFKA__BOOTSTRAP_SERVERS"] = broker.address
        settings = load_settings(given, dotenv=Path("/none"))
        with Up(load(str(APPLICATION)), settings, http=False, idle=False, embedder=HashEmbedder()) as up:
            Writer(broker.kafka, broker.id).write(messages)
            assert up.run.meter.await_reached("detect", {("readings", p): 21 for p in range(3)}, 60), up.failure
            for agent in ("warn", "log"):
                assert up.run.meter.await_reached(f"decide/{agent}", up.run.meter.written(ACTIVATIONS), 60), up.failure
        assert up.failure is None
        pages = [json.loads(m.value) for p in range(2) for m in drain(broker.kafka, DECISIONS, p, 0)]
        entries = [entry for page in pages for entry in (page if isinstance(page, list) else [page])]
        sent = [dict(m.headers)["ce_id"] for t, n in (("alarms", 2), ("notes", 1)) for p in range(n) for m in drain(broker.kafka, t, p, 0)]
    assert len(calls) > 9
    decided = [(e["agent"], e["activation"]) for e in entries if e["entry"] == "decided"]
    assert len(decided) == len(set(decided)) > 50
    assert len(sent) == len(set(sent)) > 50
    with open_database(tmp_path / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        [[effects]] = lineage.execute("select count(distinct id) from effects").fetchall()
    assert effects == len(sent)
