"""A review: a question to a person, as an event. Its verdict comes back as an event too."""

import uuid
from typing import Any, Literal

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.agent import NAMESPACE
from headwater.agents.journal import Decided, Outgoing
from headwater.lineage.topic import REVIEWS

REQUESTED = "headwater.review.requested"

Reason = Literal["unsure", "failed", "forbidden", "breaker", "budget"]


def review_id(decision: str) -> str:
    """UUIDv5(decision id): a decision asks once."""
    return str(uuid.uuid5(NAMESPACE, f"{decision}\x1freview"))


def review_event(decided: Decided, activation: Activation, reason: Reason, question: str) -> Outgoing:
    """The request: what was about to be decided, why a person is asked, and what would be sent if they approve."""
    review = review_id(decided.id)
    data: dict[str, Any] = {
        "review": review, "decision": decided.id, "agent": decided.agent, "by": decided.by, "version": decided.version,
        "activation": activation.id, "rule": activation.rule, "key": activation.key, "at": activation.at,
        "reason": reason, "question": question, "choice": decided.choice, "summary": decided.summary,
        "options": [{"name": option.name, "confidence": option.confidence} for option in decided.options],
        "rationale": decided.rationale, "confidence": decided.confidence, "evidence": list(decided.evidence),
        "error": decided.error,
        "effects": [{"id": effect.id, "topic": effect.topic, "key": effect.key, "data": effect.data} for effect in decided.effects],
    }  # fmt: skip
    return Outgoing(
        id=review, ordinal=0, topic=REVIEWS, type=REQUESTED, source=f"headwater/decide/{decided.agent}", time=activation.at,
        data=msgspec.Raw(msgspec.json.encode(data)), key=review, subject=activation.key, causationid=decided.id,
        correlationid=activation.correlationid, actor=f"agent/{decided.by}@{decided.version}",
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
