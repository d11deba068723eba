"""The walk of one event, top to bottom: four dataflows joined by topics, and one that joins regions. Read this first.

    topics ── index ──▶ Qdrant + progress            topics ── detect ──▶ activations ── decide ──▶ decisions, effects, reviews
      every flow ──▶ records ──▶ lineage ── audit ──▶ DuckDB            topics ◀── bridge ──▶ topics of other regions

Each step is a plain function over plain values (`steps`, `detecting`, `deciding`); here they are only wired.
"""

from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from headwater.flows.agreement import TellingSource, words
from headwater.flows.batch import Batch
from headwater.flows.bridging import LinkSource, forward_logic
from headwater.flows.crew import Crew
from headwater.flows.deciding import decide_logic
from headwater.flows.detecting import DetectedSink, detect_logic, detectors, facts_needed
from headwater.flows.gates import agent_gate, ladder_gate, rules_gate
from headwater.flows.gathering import LOOK_MS
from headwater.flows.landing import LandingSink
from headwater.flows.link import links
from headwater.flows.records import RecordSink
from headwater.flows.retry import Piece, RetrySource, retry_step
from headwater.flows.rulebook import Rulebook
from headwater.flows.runtime import Runtime
from headwater.flows.settling import SettledSource, only
from headwater.flows.signalling import signal_step
from headwater.flows.spread import spread_told
from headwater.flows.steps import Upserted, UpsertStep, account_step, decode_step, enrich_step
from headwater.flows.waking import REVIEWS_FLOW, judge_step, verdict_step, wake_step
from headwater.lineage.record import Record
from headwater.lineage.topic import ACTIVATIONS, LINEAGE, REVIEWS

INDEX_BATCH = 64
"""Messages per poll and part: they are settled together, and the first event waits for the last."""

GATHER_MS = 10
"""A poll, and all that follows it in the engine's thread, costs nearly the same for one message and for ten: look so seldom unless whole
batches wait. At two milliseconds, and at once after each message, looking took more of the interpreter than indexing did."""

RULES_BATCH = 1000
"""Messages per poll and part: what the first of them opens is told once the rules have seen the last."""

RUNG_MS = 50
"""How often the retry ladder is looked at."""


def index(run: Runtime) -> Dataflow:
    """Domain topics → decode → enrich → chunk, embed, upsert → the index and its progress. What fails for now comes again by the ladder."""
    flow = Dataflow("index")
    topics = run.app.indexed
    told_of = (run.ladder, run.save_progress, run.telemetry)
    upsert = UpsertStep(run.indexing, run.writer, run.progress, run.meter, run.clock, run.stops["index"], *told_of)
    crew = Crew(upsert)
    run.closing(crew.close)
    told: dict[str, Any] = {"begun": run.progress.start, "read": run.progress.note_appended, "at_end": run.progress_at_end}
    moving = ladder_gate(run.progress)
    gate = lambda topic, partition: moving(topic, partition) and crew.room(topic, partition)  # noqa: E731
    source = run.source("index", topics, beside=bool(run.rungs), batch=INDEX_BATCH, rest_ms=GATHER_MS, coalesce=True, gate=gate, **told)
    read = op.input("read", flow, SettledSource(source, crew, partial(run.fail, "index")))
    batches = op.flat_map_batch("batches", read, only(Batch))
    upserted = op.flat_map_batch("upserted", read, only(Upserted))
    work = op.flat_map_batch("decode", batches, decode_step(topics, run.broker, run.app.selected_documents))
    consumed = [op.flat_map_batch("account", batches, account_step("index", run.clock))]
    if run.rungs:
        below = run.source("index", run.rungs, beside=1, slots=None, batch=INDEX_BATCH, rest_ms=RUNG_MS)
        rungs = RetrySource(below, run.clock, run.hurry.is_set, crew.room)
        again = op.input("retry", flow, SettledSource(rungs, crew, partial(run.fail, "index")))
        pieces = op.flat_map_batch("pieces", again, only(Piece))
        consumed.append(op.map("retry_account", pieces, lambda piece: piece.records("index", run.clock())))
        work = op.merge("work", work, op.flat_map_batch("retry_decode", pieces, retry_step(topics, run.broker)))
        upserted = op.merge("all_upserted", upserted, op.flat_map_batch("retry_upserted", again, only(Upserted)))
    op.flat_map_batch("upsert", op.flat_map_batch("enrich", work, enrich_step(topics)), crew.put)
    spread_told(upserted, run)
    _records(run, flow, *consumed, op.map("ended", upserted, lambda each: each.records))
    return flow


def detect(run: Runtime) -> Dataflow:
    """Domain topics → decode → enrich → rules in event-time order → activations."""
    flow = Dataflow("detect")
    topics = run.app.watched
    told: dict[str, Any] = {"begun": run.ends.begun, "read": run.ends.read, "at_end": run.ends.at_end}
    known = detectors(run)
    book = run.rulebook = Rulebook(known, run.process, run.processes)
    near = rules_gate(run.far_ahead)
    gate = lambda topic, partition: book.agreed and near(topic, partition)  # noqa: E731
    source = run.source("detect", topics, batch=RULES_BATCH, gate=gate, **told)
    read = op.input("read", flow, TellingSource(source, book, run.clock, partial(run.fail, "detect")))
    batches = op.flat_map_batch("batches", read, only(Batch))
    work = op.flat_map_batch("decode", batches, decode_step(topics, run.broker, run.app.selected_rules))
    work = op.flat_map_batch("enrich", work, enrich_step(facts_needed(known)))
    told_by = op.merge("work_and_words", work, words(read, run.processes, run.workers))
    signals = op.flat_map_batch("signal", told_by, signal_step(run, book))
    detected = op.map("detected", op.stateful_batch("rules", signals, detect_logic(run, book)), lambda keyed: keyed[1])
    op.output("activations", detected, DetectedSink(run))
    _records(run, flow, op.map("ended", detected, lambda each: each.records))
    return flow


def decide(run: Runtime) -> Dataflow:
    """Activations → retrieve, decide, journal, effects; a source and a chain of decisions for each agent. Verdicts come back by reviews."""
    flow = Dataflow("decide")
    many = len(run.app.agents)
    reviews = op.input("reviews_read", flow, run.source(REVIEWS_FLOW, {REVIEWS: None}, beside=many, slots=None, batch=100))
    judging = op.flat_map_batch("reviews_judging", reviews, verdict_step(run))
    told = [op.map("reviews_ended", judging, lambda each: each.records)]
    for agent in run.app.agents:
        name = f"decide/{agent.name}"
        source = run.source(name, {ACTIVATIONS: None}, beside=many, slots=None, batch=100, gate=agent_gate(run, agent))
        batches = op.input(f"{agent.name}_read", flow, source)
        woken = op.flat_map_batch(f"{agent.name}_wake", batches, wake_step(run, agent))
        woken = op.merge(f"{agent.name}_woken", woken, op.flat_map_batch(f"{agent.name}_judge", judging, judge_step(agent)))
        decided = op.stateful_batch(f"{agent.name}_decide", woken, decide_logic(run, agent))
        told.append(op.map(f"{agent.name}_ended", decided, lambda keyed: keyed[1]))
    _records(run, flow, *told)
    return flow


def bridge(run: Runtime) -> Dataflow:
    """Topics of one region → the same partitions in another, both ways; a source and a step for each direction of each bridge."""
    flow = Dataflow("bridge")
    told = []
    for link in links(run):
        batches = op.input(f"{link.step}_read", flow, LinkSource(link))
        given = op.key_on(f"{link.step}_link", batches, lambda _: "link")
        forwarded = op.stateful_batch(f"{link.step}_forward", given, forward_logic(link))
        told.append(op.map(f"{link.step}_ended", forwarded, lambda keyed: keyed[1]))
    _records(run, flow, *told)
    return flow


def audit(run: Runtime) -> Dataflow:
    """Lineage → DuckDB, rows and offsets in one transaction: it begins where the database stands, without recovery of its own."""
    flow = Dataflow("audit")
    offsets = {(LINEAGE, partition): offset for partition, offset in run.store.offsets(run.broker).items()}
    begun = partial(run.meter.reached, "audit")  # what lies before has landed: a stop waits for the rest alone
    told: dict[str, Any] = {"due": run.gathering.due, "resume": offsets, "begun": begun}
    batches = op.input("read", flow, run.source("audit", {LINEAGE: None}, slots=None, batch=2000, rest_ms=LOOK_MS, coalesce=True, **told))
    op.output("land", batches, LandingSink(run.store, run.meter, run.heard("audit"), run.gathering))
    return flow


FLOWS = {"index": index, "detect": detect, "decide": decide, "bridge": bridge, "audit": audit}


def _records(run: Runtime, flow: Dataflow, *streams: Stream[list[Record]]) -> None:
    """Every record of a flow, merged once, to the lineage topic."""
    sink = RecordSink(flow.flow_id, run.writer, run.id, run.heard(flow.flow_id))
    merged = op.merge("records", op.input("slots", flow, sink.asking()), *streams)
    op.output("lineage", op.flat_map_batch("slot", merged, sink.keyed), sink)
