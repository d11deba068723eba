"""Spans of records: what a decision's records say, as the spans of a trace (OpenTelemetry, GenAI conventions).

No texts: neither prompts nor answers nor what a tool was given leave the lineage by this way, only names, numbers and states.
Source: OpenTelemetry semantic conventions for generative AI (agent, inference, retrieval and tool spans) and for messaging.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from headwater.lineage.record import Record
from headwater.lineage.traceparent import TraceContext, context_of, span_of

Attribute: TypeAlias = str | int | float | bool
SpanKind = Literal["internal", "client", "producer", "consumer"]
LINKS = 50


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that took time. `start` and `end` in µs since 1970; `error` empty: it went well; `parent` empty: the trace begins here."""

    context: TraceContext
    name: str
    start: int
    end: int
    parent: str = ""
    kind: SpanKind = "internal"
    attributes: Mapping[str, Attribute] = {}
    links: tuple[TraceContext, ...] = ()
    error: str = ""


def spans_of(records: Iterable[Record]) -> list[Span]:
    """The spans of the activations, decisions, effects and verdicts among records; a decision's own records are found beside it."""
    given = list(records)
    spans: list[Span] = []
    for record in given:
        context = context_of(record.data.get("traceparent")) if record.kind in _MADE else None
        if context is not None:
            spans.append(_MADE[record.kind](record, context))
            if record.kind == "decision":
                spans += _inside(record, context, given)
    return spans


def _activation(record: Record, context: TraceContext) -> Span:
    data = record.data
    cause = context_of(data.get("follows"))
    links = [found for text in data.get("traces", ())[:LINKS] if (found := context_of(text)) is not None and found != cause]
    attributes = {"headwater.activation.id": record.ref, **_named("headwater.activation", data, "rule", "key", "phase", "count", "total")}
    begun = min(data.get("appended") or record.logged, record.logged)
    # Of a cause that is not told of nobody tells: under it the trace would have no beginning.
    parent = cause.span if cause is not None and cause.sampled and cause.trace == context.trace else ""
    return Span(
        context=context, name=f"detect {data.get('rule', '')}", start=begun, end=record.logged, parent=parent, attributes=attributes,
        links=tuple(links),
    )  # fmt: skip


def _decision(record: Record, context: TraceContext) -> Span:
    data, cost = record.data, record.data.get("cost", {})
    end = data.get("decided") or record.logged
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": data["agent"], "gen_ai.agent.version": data["version"],
        "gen_ai.provider.name": "headwater", "headwater.decision.id": record.ref,
        "headwater.decision.waited_ms": _waited_ms(data, cost, end),
        **_named("headwater.decision", data, "activation", "rule", "key", "state", "summary", "confidence", "attempts", "by"),
        **_tokens(cost),
    }  # fmt: skip
    start = end - round(1e6 * float(cost.get("seconds", 0.0)))
    error = "agent_failed" if data.get("error") and not data.get("choice") else ""
    return Span(
        context=context, name=f"invoke_agent {data['agent']}", start=start, end=end, parent=span_of(data["activation"]),
        attributes=attributes, error=error,
    )  # fmt: skip


def _effect(record: Record, context: TraceContext) -> Span:
    data = record.data
    if data["effect"] == "publish":
        name, kind, attributes = f"send {data['target']}", "producer", sending(data["target"], record.ref)
    else:
        name, kind, attributes = f"execute_tool {data['target']}", "internal", _tool_call(data["target"], record.ref)
    attributes = {**attributes, "headwater.decision.id": data["decision"], "headwater.effect.state": data["state"]}
    error = "" if data["state"] == "done" else str(data["state"])
    sent = data.get("sent") or record.logged
    return Span(
        context=context, name=name, kind="producer" if kind == "producer" else "internal", start=sent, end=sent,
        parent=span_of(data["decision"]), attributes=attributes, error=error,
    )  # fmt: skip


def _review(record: Record, context: TraceContext) -> Span:
    data = record.data
    attributes = {"headwater.review.id": record.ref, **_named("headwater.review", data, "decision", "agent", "reason")}
    asked = data.get("asked") or record.logged
    return Span(
        context=context, name=f"review {data['agent']}", start=asked, end=asked, parent=span_of(data["decision"]), attributes=attributes
    )


def _verdict(record: Record, context: TraceContext) -> Span:
    """In the trace of its review, under it. Who answered is in the lineage, not here."""
    data = record.data
    attributes = {"headwater.review.id": record.ref, **_named("headwater.verdict", data, "decision", "agent", "verdict", "accepted")}
    own = TraceContext(context.trace, span_of(f"{record.ref}/verdict"))
    return Span(
        context=own, name=f"verdict {data['agent']}", start=record.logged, end=record.logged, parent=span_of(record.ref),
        attributes=attributes,
    )  # fmt: skip


_MADE = {"activation": _activation, "decision": _decision, "effect": _effect, "review": _review, "verdict": _verdict}


def _inside(decision: Record, context: TraceContext, records: Sequence[Record]) -> Iterator[Span]:
    """What the agent did while it decided."""
    agent = decision.data["agent"]
    for record in records:
        if record.kind in _INSIDE and record.ref.partition(":")[0] == decision.ref:
            name, kind, attributes = _INSIDE[record.kind](record)
            seconds = record.data.get("waited_ms", 0.0) / 1000 if record.kind == "retrieval" else record.data.get("seconds", 0.0)
            yield Span(
                context=TraceContext(context.trace, span_of(record.ref)), name=name, kind=kind, parent=context.span,
                start=record.logged - round(1e6 * seconds), end=record.logged,
                attributes={**attributes, "gen_ai.agent.name": agent}, error="failed" if record.data.get("error") else "",
            )  # fmt: skip


def _retrieval(record: Record) -> tuple[str, SpanKind, dict[str, Attribute]]:
    data = record.data
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "retrieval", "gen_ai.provider.name": "headwater", "gen_ai.data_source.id": "headwater/index",
        "gen_ai.retrieval.top_k": data["limit"], "headwater.retrieval.documents": len(data["results"]),
        "headwater.retrieval.staleness_ms": data["staleness_ms"],
    }  # fmt: skip
    return "retrieval headwater/index", "internal", attributes


def _model(record: Record) -> tuple[str, SpanKind, dict[str, Attribute]]:
    name, provider = str(record.data["model"]), record.data.get("system") or "unknown"
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": name,
        "gen_ai.response.model": name, **_tokens(record.data.get("tokens", {})),
    }  # fmt: skip
    return f"chat {name}", "client", attributes


def _tool(record: Record) -> tuple[str, SpanKind, dict[str, Attribute]]:
    tool = record.data["tool"]
    return f"execute_tool {tool}", "internal", _tool_call(tool, record.ref)


_INSIDE = {"retrieval": _retrieval, "model": _model, "tool": _tool}


def sending(topic: str, id: str) -> dict[str, Attribute]:
    """The attributes of a message that is sent to a topic."""
    return {
        "messaging.system": "kafka", "messaging.operation.name": "send", "messaging.operation.type": "send",
        "messaging.destination.name": topic, "messaging.message.id": id,
    }  # fmt: skip


def _tool_call(tool: str, id: str) -> dict[str, Attribute]:
    return {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.type": "function", "gen_ai.tool.call.id": id,
    }  # fmt: skip


def _tokens(amounts: Mapping[str, Any]) -> dict[str, Attribute]:
    """Of a decision's cost, or of one question's count."""
    found = {kind: amounts.get(f"{kind}_tokens", amounts.get(kind)) for kind in ("input", "output")}
    return {f"gen_ai.usage.{kind}_tokens": int(many) for kind, many in found.items() if many is not None}


def _named(prefix: str, data: Mapping[str, Any], *names: str) -> dict[str, Attribute]:
    """Those of the data that are there and simple enough to be attributes."""
    return {f"{prefix}.{name}": data[name] for name in names if isinstance(data.get(name), str | int | float)}


def _waited_ms(data: Mapping[str, Any], cost: Mapping[str, Any], end: int) -> float:
    """From the activation's arrival to the first attempt."""
    woken = data.get("woken") or end
    return max(0.0, (end - woken) / 1000 - 1000 * float(cost.get("seconds", 0.0)))
