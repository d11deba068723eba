"""Traces: one trace from the request to the effect, received by a collector and read with OpenTelemetry's own protocol definitions."""

import gzip
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import httpx
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Received
from pydantic import BaseModel

from headwater import Activation, App, Context, Decision, Document, Publish, Threshold, Topic, agent, document, tool
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.drain import drain
from headwater.flows.meter import Meter
from headwater.flows.settings import Settings, load
from headwater.flows.telemetry import DROPPED, Telemetry, headers_of
from headwater.flows.up import Up
from headwater.lineage.errors import Misused
from headwater.lineage.event import Event
from headwater.lineage.record import fact
from headwater.lineage.spans import Span, spans_of
from headwater.lineage.traceparent import TraceContext, chosen, context_of, following, trace_of

CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


class Level(BaseModel):
    id: str
    metres: float


class Answer(BaseModel):
    response: Literal["warn", "watch"]


class Alarm(BaseModel):
    id: str


levels = Topic("levels", Level, key="id")
alarms = Topic("alarms", Alarm, key="id")
high = Threshold("high", of=levels, value=pl.col("metres"), per="id", opens_at=2, closes_at=1)


@document(levels)
def level(one: Level, facts: Any) -> Document:
    return Document(one.id, f"The gauge {one.id} stands at {one.metres} metres.")


@tool(kind="read")
async def tide(gauge: str) -> str:
    return "ebb"


@agent(wakes_on=[high], publishes=[alarms], tools=[tide], act_above=0.0)
async def warn(activation: Activation, context: Context) -> Decision[Any]:
    evidence = await context.retrieve(activation.key)
    await context.tool(tide, gauge=activation.key)
    await context.choose(Answer, evidence)
    alarm = Alarm(id=activation.key)
    return Decision(alarm, confidence=1.0).with_effects(Publish(alarms, alarm))


app = App("lake", documents=[level], triggers=[high], agents=[warn])


class Collector:
    """An OTLP/HTTP receiver on the loopback: what came is read with the protocol's own definitions."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[Any] = []
        self.paths: set[str] = set()
        collector = self

        class Receive(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                collector.headers.append(self.headers)
                collector.paths.add(self.path)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *told: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self) -> dict[str, Received]:
        """By name."""
        found = [span for each in self.requests for of in each.resource_spans for scope in of.scope_spans for span in scope.spans]
        return {span.name: span for span in found}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(span: Received) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """One event of a caller who traces, through the whole walk: the collector, and the events on the topic of alarms."""
    collector = Collector()
    settings = Settings(
        home=tmp_path_factory.mktemp("traced"), http_port=0, openlineage_url="kafka:runs", otlp_endpoint=collector.address,
        otlp_headers="x-key=s%3Decret", otlp_ratio=0.0,
    )  # fmt: skip
    with Up(app, settings, embedder=HashEmbedder()) as up:
        for body, more in ({"id": "b1", "metres": 0.5}, {}), ({"id": "a1", "metres": 3.0}, {"traceparent": CALLER.header}):
            assert httpx.post(f"{up.address}/v1/events/levels", json=body, headers=more, timeout=60).status_code == 202
        until = time.monotonic() + 120
        while not (sent := [m for p in range(up.app.partitions["alarms"]) for m in drain(up.run.kafka, "alarms", p, 0)]):
            assert not up.failed.wait(0.05) and time.monotonic() < until, up.run.meter.counts()
        runs = []
        while sum(b'"START"' in message.value for message in runs) < 4:  # each flow is told of by a thread of its own
            runs = drain(up.run.kafka, "runs", 0, 0)
            assert not up.failed.wait(0.05) and time.monotonic() < until, runs
    collector.close()
    return collector, sent, runs


def test_one_trace_leads_from_the_request_to_the_effect(traced):
    """Every span is in the caller's trace, and its parent is the step before it."""
    collector = traced[0]
    spans = collector.spans()
    steps = {
        "send levels": CALLER.span, "process levels": "send levels", "detect high": "send levels", "invoke_agent warn": "detect high",
        "retrieval headwater/index": "invoke_agent warn", "execute_tool tide": "invoke_agent warn", "send alarms": "invoke_agent warn",
    }  # fmt: skip
    for name, parent in steps.items():
        span = spans[name]
        assert span.trace_id.hex() == CALLER.trace, name
        assert span.parent_span_id.hex() == (spans[parent].span_id.hex() if parent in spans else parent), name
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    chat = next(span for name, span in spans.items() if name.startswith("chat "))
    assert chat.parent_span_id == spans["invoke_agent warn"].span_id


def test_the_trace_is_in_the_headers_of_what_an_agent_publishes(traced):
    """The effect's event carries the span that told of it, so that consumers of any make go on from there."""
    collector, sent, _ = traced
    header = dict(sent[0].headers)["ce_traceparent"].decode()
    assert header == TraceContext(CALLER.trace, collector.spans()["send alarms"].span_id.hex()).header


def test_spans_name_agents_models_and_tools_as_the_conventions_do(traced):
    """GenAI attributes, and no text of prompts, answers or arguments."""
    spans = traced[0].spans()
    decided = attributes(spans["invoke_agent warn"])
    assert [decided[f"gen_ai.{name}"] for name in ("operation.name", "agent.name", "agent.version")] == ["invoke_agent", "warn", "1"]
    assert spans["invoke_agent warn"].kind == Received.SPAN_KIND_INTERNAL
    tool_call = attributes(spans["execute_tool tide"])
    assert (tool_call["gen_ai.operation.name"], tool_call["gen_ai.tool.name"]) == ("execute_tool", "tide")
    chat = next(span for name, span in spans.items() if name.startswith("chat "))
    asked = attributes(chat)
    assert asked["gen_ai.operation.name"] == "chat" and asked["gen_ai.request.model"] in chat.name
    assert attributes(spans["retrieval headwater/index"])["gen_ai.operation.name"] == "retrieval"
    processed = attributes(spans["process levels"])
    assert (processed["messaging.system"], processed["headwater.outcome"]) == ("kafka", "indexed")
    texts = [value for span in spans.values() for value in attributes(span).values() if isinstance(value, str)]
    assert not any("stands at" in text or "ebb" in text for text in texts)


def test_events_are_told_of_by_ratio_and_decisions_always(traced):
    """With ratio 0 the untraced event has no span; the collector got the key, and the service's name."""
    collector = traced[0]
    ids = [value for each in collector.spans().values() for name, value in attributes(each).items() if name == "messaging.message.id"]
    assert "b1" not in ids and collector.paths == {"/v1/traces"}
    assert {headers["x-key"] for headers in collector.headers} == {"s=ecret"}
    resource = {each.key: each.value.string_value for each in collector.requests[0].resource_spans[0].resource.attributes}
    assert resource["service.name"] == "headwater-lake"


def test_every_flow_tells_the_catalogue_that_it_runs(traced):
    """On the topic that the settings name lies one START per flow, with the topics that it reads."""
    told = [json.loads(message.value) for message in traced[2]]
    starts = {each["job"]["name"]: [read["name"] for read in each["inputs"]] for each in told if each["eventType"] == "START"}
    assert starts.keys() == {"index", "detect", "decide", "audit"} and starts["index"] == starts["detect"] == ["levels"]
    assert {message.key.decode() for message in traced[2]} == {each["run"]["runId"] for each in told}


class Stuck:
    """A collector that answers only when it is let."""

    def __init__(self) -> None:
        self.let, self.given = threading.Event(), list[Span]()

    def export(self, spans: Any) -> bool:
        self.let.wait(60)
        self.given += spans
        return True

    def close(self) -> None: ...


def decided(number: int):
    data = {"agent": "a", "version": "1", "activation": f"act{number}", "traceparent": following("", f"t{number}", f"d{number}").header}
    return fact("decision", "decide/a", "decide", f"d{number}", logged=number, data={**data, "decided": number})


def test_a_collector_that_stands_still_holds_nobody_and_every_lost_span_is_counted():
    """What is sent and what is dropped add up to what was told; telling never waits."""
    stuck, meter = Stuck(), Meter()
    telemetry = Telemetry(stuck, 1.0, lambda: 0, meter, room=10)
    for number in range(1, 101):
        telemetry.told([decided(number)])
    stuck.let.set()
    telemetry.close()
    assert meter.counts()[DROPPED] >= 100 - 10 - 500 and len(stuck.given) + meter.counts()[DROPPED] == 100
    assert len({span.context.span for span in stuck.given}) == len(stuck.given) <= 11


@pytest.mark.parametrize(("flags", "parent"), [("01", CALLER.span), ("00", "")])
def test_what_woke_a_rule_is_the_parent_only_if_it_is_told_of(flags, parent):
    """Decisions are always told; under an event that is not, the trace would begin with a span that nobody ever sends."""
    cause = f"00-{CALLER.trace}-{CALLER.span}-{flags}"
    data = {"rule": "high", "follows": cause, "traceparent": following(cause, "", "act").header}
    [span] = spans_of([fact("activation", "detect", "detect", "act", logged=1, data=data)])
    assert (span.context.trace, span.parent) == (CALLER.trace, parent)


REFUSING = """
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from headwater.flows.otlp import OtlpExporter
from headwater.lineage.spans import Span
from headwater.lineage.traceparent import following

class Refuse(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(400)
        self.end_headers()
    def log_message(self, *told): ...

server = HTTPServer(("127.0.0.1", 0), Refuse)
threading.Thread(target=server.serve_forever, daemon=True).start()
exporter = OtlpExporter(f"http://127.0.0.1:{server.server_port}", "s", "i", "1", {})
print([exporter.export([Span(context=following("", "t", "d"), name="n", start=1, end=2)]) for _ in range(3)])
"""


def test_a_collector_that_refuses_is_not_told_of_with_every_batch():
    """The exporter's own words stay off the terminal; that spans are dropped is told by us, once."""
    done = subprocess.run([sys.executable, "-c", REFUSING], capture_output=True, text=True, timeout=500)
    assert done.stdout.strip() == "[False, False, False]" and "Failed to export" not in done.stderr, done.stderr


def test_tokens_and_the_maker_of_a_model_are_told():
    """Tokens are those of the question and of the whole decision; what was said is not."""
    tokens = {"input_tokens": 30.0, "output_tokens": 4}
    asked = {"model": "gpt", "system": "openai", "prompt": "secret", "answer": "secret", "seconds": 2.0}
    of = decided(10**9)
    whole = fact("decision", "decide/a", "decide", of.ref, logged=10**9, data={**of.data, "cost": {**tokens, "seconds": 3.0}})
    question = fact("model", "decide/a", "choose", f"{of.ref}:m0", logged=10**9 - 5, data={**asked, "tokens": {"input": 30, "output": 4}})
    decision, chat = spans_of([question, whole])
    assert (chat.name, chat.kind, chat.attributes["gen_ai.provider.name"]) == ("chat gpt", "client", "openai")
    assert chat.end - chat.start == 2_000_000
    for span in (decision, chat):
        assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"]) == (30, 4)
    assert decision.end - decision.start == 3_000_000 and "secret" not in str(chat)


def test_a_record_that_makes_no_span_is_counted_and_raises_nothing():
    """The flow's records matter more than what is told of them."""
    meter = Meter()
    telemetry = Telemetry(Stuck(), 1.0, lambda: 0, meter)
    telemetry.told([fact("effect", "decide/a", "effects", "e", logged=1, data={"traceparent": CALLER.header})])
    assert meter.counts()[DROPPED] == 1


@given(st.text(max_size=60))
def test_a_header_that_is_no_trace_context_is_as_none(text):
    """Whatever a sender writes, what we read is well-formed or nothing."""
    found = context_of(text)
    assert found is None or context_of(found.header) == found
    assert context_of(following(text, "begins", "about").header) == following(text, "begins", "about")


def test_malformed_headers_of_the_specification_are_refused():
    """Version ff, all-zero ids, capitals and wrong lengths are malformed; a later version with more fields is read."""
    trace, span = CALLER.trace, CALLER.span
    zeros = f"00-{'0' * 32}-{span}-01", f"00-{trace}-{'0' * 16}-01"
    bad = (*zeros, f"ff-{trace}-{span}-01", f"00-{trace.upper()}-{span}-01", f"00-{trace}-01")
    assert [context_of(each) for each in bad] == [None] * 5
    assert context_of(f"cc-{trace}-{span}-01-what-comes") == CALLER
    assert context_of(f"00-{trace}-{span}-00") == CALLER._replace(sampled=False)


@given(st.floats(0, 1), st.lists(st.text(), min_size=300, max_size=300, unique=True))
def test_the_ratio_chooses_about_that_share_and_the_same_traces_everywhere(ratio, names):
    """A trace chosen by a smaller ratio is chosen by every larger one."""
    picked = [chosen(trace_of(name), ratio) for name in names]
    assert abs(sum(picked) / 300 - ratio) < 0.2
    assert all(chosen(trace_of(name), 1.0) and not chosen(trace_of(name), 0.0) for name in names)
    assert all(chosen(trace_of(name), min(1.0, ratio + 0.1)) for name, was in zip(names, picked, strict=True) if was)


def test_an_event_published_again_goes_on_in_the_same_trace():
    """The context is of the event and of nothing else, so a repetition is no second trace."""
    telemetry = Telemetry(Stuck(), 0.5, lambda: 0, Meter())
    event = Event(id="e", source="s", type="t", time=0)
    assert telemetry.begun("levels", event) == telemetry.begun("levels", event)
    assert telemetry.begun("levels", event).traceparent != telemetry.begun("alarms", event).traceparent


def test_the_settings_are_checked_and_their_secret_is_not_shown():
    """A ratio above 1, an address with a password, headers that are none: each is refused by name, without its value."""
    found = load(environ={"HEADWATER_OTLP__HEADERS": "authorization=Bearer%20abc"}, dotenv=None)
    assert "abc" not in repr(found) and all("abc" not in each.shown for each in found.origins)
    assert headers_of(found.otlp_headers) == {"authorization": "Bearer abc"}
    for name, value in (("OTLP__RATIO", "1.5"), ("OTLP__ENDPOINT", "http://me:secret@there"), ("OTLP__ENDPOINT", "there:4318")):
        with pytest.raises(Misused, match=f"HEADWATER_{name}") as refused:
            load(environ={f"HEADWATER_{name}": value}, dotenv=None)
        assert "secret" not in str(refused.value)
    with pytest.raises(Misused, match="HEADWATER_OTLP__HEADERS"):
        headers_of("secret")
