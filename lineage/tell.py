"""Records as the things on a path that they tell of. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headwater.lineage.event import Position
from headwater.lineage.record import Record
from headwater.lineage.seen import ActivationSeen, ChunkSeen, DecisionSeen, DocumentSeen, EffectSeen, EventSeen, Option, Retrieval
from headwater.lineage.traceparent import context_of


def decision_seen(record: Record, about: Sequence[Record], activations: Mapping[str, ActivationSeen]) -> DecisionSeen:
    """A decision. `about`: records that name it; `activations`: by id, as far as they are known."""
    data = record.data
    own = [other for other in about if other.ref.partition(":")[0] == record.ref or record.ref in other.parents]
    ended = [other.outcome for other in own if other.kind == "outcome"]
    closed = [outcome for outcome in ended if outcome != "waiting"]
    return DecisionSeen(
        id=record.ref,
        agent=data.get("agent", ""),
        version=str(data.get("version", "")),
        outcome=(closed or [record.outcome])[0],
        choice=data.get("choice"),
        summary=data.get("summary") or "",
        confidence=data.get("confidence") or 0.0,
        rationale=data.get("rationale") or "",
        at=record.at,
        woken=data.get("woken"),
        decided=data.get("decided"),
        attempts=data.get("attempts") or 1,
        error=data.get("error") or "",
        options=tuple(Option(option["name"], option["confidence"]) for option in data.get("options", ())),
        cost=data.get("cost") or {},
        activation=activations.get(data.get("activation", "")),
        retrievals=tuple(_retrieval(other, data) for other in own if other.kind == "retrieval"),
        effects=tuple(_effect(other) for other in own if other.kind == "effect"),
        rulings=tuple(other.data for other in own if other.kind == "ruling"),
        reviews=tuple({"id": other.ref, **other.data, **_verdict(other.ref, own)} for other in own if other.kind == "review"),
        notes=tuple(other.data for other in own if other.kind == "note"),
        recalled=data.get("recalled") or {},
        trace=context.trace if (context := context_of(data.get("traceparent"))) is not None else "",
        remembered=data.get("remembered"),
        resumed_by=tuple({other.ref: None for other in own if other.kind == "decision" and other.ref != record.ref}),
        models=tuple(other.data for other in own if other.kind == "model"),
        tools=tuple(other.data for other in own if other.kind == "tool"),
        by=data.get("by") or "",
    )


def _verdict(review: str, own: Iterable[Record]) -> dict[str, Any]:
    """How a review was answered, if it was: `verdict`, `by`, `why`; `refused`: the answers that did not count, each with its cause."""
    answers = [other.data for other in own if other.kind == "verdict" and other.ref == review]
    told: dict[str, Any] = {}
    for said in answers:
        if said.get("accepted") and not told:
            told = {"verdict": said.get("verdict"), "by": said.get("by"), "why": said.get("reason")}
    wrong = (said for said in answers if said.get("refused"))
    refused = [{"verdict": said.get("verdict"), "by": said.get("by"), "why": said["refused"]} for said in wrong]
    return {**told, "refused": refused} if refused else told


def _retrieval(record: Record, decision: Mapping[str, Any]) -> Retrieval:
    data = record.data
    used, without = set(decision.get("evidence") or ()), decision.get("without") or {}
    return Retrieval(
        query=data.get("query", ""),
        at=data.get("at"),
        staleness_ms=data.get("staleness_ms"),
        as_of=data.get("as_of") or {},
        results=tuple(_chunk(result, result["id"] in used, without.get(result["id"])) for result in data.get("results", ())),
    )


def _chunk(result: Mapping[str, Any], used: bool, without: Mapping[str, Any] | None) -> ChunkSeen:
    return ChunkSeen(
        id=result["id"],
        document=result.get("document", ""),
        version=result.get("version", 0),
        section=result.get("section") or "",
        text=result.get("text") or "",
        score=result.get("dense", result.get("score")) or 0.0,
        position=result.get("position") or "",
        used=used,
        without=Option(without["name"], without["confidence"]) if without else None,
    )


def _effect(record: Record) -> EffectSeen:
    data = record.data
    return EffectSeen(
        id=record.ref,
        effect=data.get("effect", ""),
        target=data.get("target") or data.get("topic") or "",
        key=data.get("key") or "",
        state=data.get("state") or "",
        position=data.get("position") or "",
        sent=data.get("sent"),
    )


def activation_seen(record: Record, events: Sequence[EventSeen]) -> ActivationSeen:
    """A firing, with its events."""
    data = record.data
    return ActivationSeen(
        id=record.ref,
        rule=data.get("rule", ""),
        key=data.get("key", ""),
        phase=data.get("phase", ""),
        at=record.at,
        value=data.get("value") or 0.0,
        count=data.get("count") or 0,
        total=data.get("total") or 0,
        fired=record.logged,
        events=tuple(events),
    )


def causes_of(record: Record) -> list[tuple[str, dict[str, Any]]]:
    """The events of an activation with their tokens. Activations name no broker; their records' parents do."""
    broker = record.broker or (record.parents[0].partition("/")[0] if record.parents else "")
    places = [(Position(broker, event["topic"], event["partition"], event["offset"]), event) for event in record.data.get("events", ())]
    reads = record.data.get("reads") or {}
    return [(str(place), {**event, "reads": reads.get(place.short)}) for place, event in places]


def known_at(found: Iterable[Record]) -> dict[str, Record]:
    """Token → the record that says most about the event there."""
    return {str(record.position): record for record in found if record.kind in ("document", "dead_letter")}


def event_seen(token: str, cause: Mapping[str, Any], known: Mapping[str, Record], outcomes: Mapping[str, str] | None = None) -> EventSeen:
    """The event at a place. `cause`: what an activation says of it; `known`: see `known_at`; `outcomes`: flow → how it ended there."""
    record = known.get(token)
    is_document = record is not None and record.kind == "document"
    return EventSeen(
        position=token,
        short=Position.parse(token).short,
        id=cause.get("id") or (record.data.get("event") or "" if record else ""),
        key=cause.get("key") or "",
        text=_text(record) if record and is_document else "",
        document=record.ref if record and is_document else "",
        outcomes=dict(outcomes or {}),
        reads=cause.get("reads") or (record.data.get("reads") if record else None) or {},
    )


def documents_seen(found: Iterable[Record]) -> tuple[DocumentSeen, ...]:
    """The document versions among records, in their order."""
    return tuple(
        DocumentSeen(
            id=record.ref,
            version=record.data.get("version") or 0,
            outcome=record.outcome,
            event=record.data.get("event") or "",
            position=str(record.position),
            text=_text(record),
            at=record.at,
            appended=record.data.get("appended"),
            settled=record.data.get("settled"),
            reads=record.data.get("reads") or {},
        )
        for record in found
        if record.kind == "document"
    )


def dead_letter_seen(record: Record) -> dict[str, Any]:
    """A dead letter, with all that its record tells."""
    return {"id": record.ref, "position": str(record.position), "flow": record.flow, **record.data}


def _text(record: Record) -> str:
    chunks = record.data.get("chunks") or ()
    return str(chunks[0].get("text", "")) if chunks else ""
