"""A review: a question to a person, as an event. Its verdict comes back as an event too."""

import uuid
from typing import Any, Literal

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.agent import NAMESPACE
from headwater.agents.journal import Answered, Calling, Decided, Outgoing
from headwater.lineage.topic import REVIEWS
from headwater.lineage.traceparent import following

REQUESTED = "headwater.review.requested"

Reason = Literal["unsure", "failed", "forbidden", "breaker", "budget", "unknown"]
"""unknown: an effect's fate."""


def review_id(about: str) -> str:
    """UUIDv5 of a decision id or an effect id: each asks once."""
    return str(uuid.uuid5(NAMESPACE, f"{about}\x1freview"))


def resource_of(effect: Outgoing | Calling) -> tuple[str, str]:
    """What a ruling is asked for: the action and the resource."""
    return ("call", effect.scope) if isinstance(effect, Calling) else ("publish", effect.topic)


def review_data(decided: Decided, reason: Reason, question: str) -> dict[str, Any]:
    """What the record of a question keeps: enough to answer it. `asked` and `expires` in µs since 1970."""
    return {
        "reason": reason, "question": question, "agent": decided.agent, "key": decided.key, "decision": decided.id,
        "activation": decided.activation, "position": decided.position, "choice": decided.choice, "summary": decided.summary,
        "effects": _shown(decided), "asked": decided.decided, "expires": decided.decided + decided.expires,
        **({"traceparent": _trace(decided, review_id(decided.id))} if decided.traceparent else {}),
    }  # fmt: skip


def fate_data(decided: Decided, call: Calling, answered: Answered) -> dict[str, Any]:
    """The same of the question what became of a call."""
    question = (
        f"{decided.agent} called {call.tool} for {decided.key} and nobody knows whether it happened: {answered.error}. It is never called "
        "again. Look there; then approve to let what follows happen, or decline to leave it."
    )
    asked: dict[str, Any] = {"effect": call.id, "asked": answered.at, "expires": answered.at + decided.expires}
    if decided.traceparent:
        asked["traceparent"] = _trace(decided, review_id(call.id))
    return {**review_data(decided, "unknown", question), **asked}


def review_event(decided: Decided, activation: Activation, reason: Reason, question: str) -> Outgoing:
    """The request: what was about to be decided, why a person is asked, and what would be sent if they approve."""
    review = review_id(decided.id)
    data: dict[str, Any] = {
        "review": review, "decision": decided.id, "agent": decided.agent, "by": decided.by, "version": decided.version,
        "activation": activation.id, "rule": activation.rule, "key": activation.key, "at": activation.at,
        "reason": reason, "question": question, "choice": decided.choice, "summary": decided.summary,
        "options": [{"name": option.name, "confidence": option.confidence} for option in decided.options],
        "rationale": decided.rationale, "confidence": decided.confidence, "evidence": list(decided.evidence),
        "error": decided.error, "position": decided.position, "expires": decided.decided + decided.expires, "effects": _shown(decided),
    }  # fmt: skip
    return Outgoing(
        id=review, ordinal=0, topic=REVIEWS, type=REQUESTED, source=f"headwater/decide/{decided.agent}", time=activation.at,
        data=msgspec.Raw(msgspec.json.encode(data)), key=review, subject=activation.key, causationid=decided.id,
        correlationid=activation.correlationid, actor=f"agent/{decided.by}@{decided.version}",
        traceparent=_trace(decided, review),
    )  # fmt: skip


def fate_event(decided: Decided, call: Calling, answered: Answered) -> Outgoing:
    """The request to look what became of a call."""
    review = review_id(call.id)
    return Outgoing(
        id=review, ordinal=call.ordinal, topic=REVIEWS, type=REQUESTED, source=f"headwater/decide/{decided.agent}", time=decided.at,
        data=msgspec.Raw(msgspec.json.encode({"review": review, **fate_data(decided, call, answered)})), key=review, subject=decided.key,
        causationid=call.id, actor=f"agent/{decided.by}@{decided.version}", traceparent=_trace(decided, review),
    )  # fmt: skip


def question_of(decided: Decided, activation: Activation, reason: Reason, detail: str) -> str:
    """The question in one sentence."""
    who, what = f"{decided.by}@{decided.version}", f"{activation.rule} {activation.phase} for {activation.key}"
    match reason:
        case "unsure":
            return f"{who} would choose {decided.summary!r} with confidence {decided.confidence:.2f}, {detail}. Approve it for {what}?"
        case "forbidden":
            return f"{who} wanted what it may not do: {detail}. What should be done about {what}?"
        case "breaker" | "budget":
            return f"{who} was not asked: {detail}. What should be done about {what}?"
        case "failed":
            return f"{who} could not decide: {detail}. What should be done about {what}?"
        case "unknown":
            return f"{who} does not know what became of {detail}."


def _trace(decided: Decided, review: str) -> str:
    """The trace context of a question."""
    return following(decided.traceparent, "", review).header if decided.traceparent else ""


def _shown(decided: Decided) -> list[dict[str, Any]]:
    """The effects, as people read them."""
    events = [
        (each.ordinal, {"id": each.id, "effect": "publish", "topic": each.topic, "target": each.topic, "key": each.key,
                        "data": msgspec.json.decode(each.data)})
        for each in decided.effects
    ]  # fmt: skip
    calls = [
        (each.ordinal, {"id": each.id, "effect": "call", "target": each.tool, "kind": each.kind, "data": each.arguments})
        for each in decided.calls
    ]
    return [told for _, told in sorted([*events, *calls], key=lambda pair: pair[0])]
