"""prov: a decision's path as W3C PROV-JSON, for tools that have never heard of us.

Entities are what there was (events, chunks, activations, decisions, effects, questions, verdicts), activities what happened to them,
agents who did it: our agents, models, people. Source: PROV-DM (W3C Recommendation), PROV-JSON (W3C Member Submission 2013).
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from headwater.lineage.duration import format_time
from headwater.lineage.errors import Misused
from headwater.lineage.event import Position
from headwater.lineage.seen import ActivationSeen, DecisionSeen, EffectSeen, EventSeen, Why

NAMESPACE = "urn:headwater:"


def prov_of(why: Why) -> dict[str, Any]:
    """The PROV-JSON document of the decisions on a path. Raises Misused if there are none."""
    if not why.decisions:
        raise Misused(f"{why.id} is a {why.kind} that no decision hangs on yet; give a decision, or what one came from")
    document = _Document()
    for decision in why.decisions:
        _decision(document, decision)
    return document.told


class _Document:
    """A document under construction; what is told twice is told once."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {"prefix": {"hw": NAMESPACE}}

    def thing(self, kind: str, name: str, type: str, **attributes: Any) -> str:
        """An entity, activity or agent with those attributes that are there; gives its name."""
        known = self.told.setdefault(kind, {}).setdefault(name, {"prov:type": _qualified(type)})
        known.update({_spelled(key): value for key, value in attributes.items() if value is not None and value != ""})
        return name

    def relation(self, kind: str, **ends: Any) -> None:
        """A relation, named by its ends."""
        given = {f"prov:{end}": value for end, value in ends.items() if value is not None}
        named = "/".join(str(value).removeprefix("hw:") for end, value in given.items() if end not in ("prov:time", "prov:role"))
        self.told.setdefault(kind, {})[f"_:{kind}/{quote(named, safe='')}"] = given

    def generated(self, entity: str, activity: str, at: int | None = None) -> None:
        self.relation("wasGeneratedBy", entity=entity, activity=activity, time=_time(at))

    def used(self, activity: str, entity: str, role: str) -> None:
        self.relation("used", activity=activity, entity=entity, role=role)

    def derived(self, entity: str, source: str, activity: str | None = None) -> None:
        self.relation("wasDerivedFrom", generatedEntity=entity, usedEntity=source, activity=activity)


def _decision(document: _Document, decision: DecisionSeen) -> None:
    made = document.thing(
        "entity", _name("decision", decision.id), "Decision", label=decision.summary or "nothing to do", choice=_text(decision.choice),
        outcome=decision.outcome, confidence=decision.confidence, rationale=decision.rationale, error=decision.error,
        options=[f"{option.name}: {option.confidence:.4f}" for option in decision.options] or None,
    )  # fmt: skip
    deciding = document.thing(
        "activity", _name("decide", decision.id), "Deciding", startTime=_time(decision.woken), endTime=_time(decision.decided),
        attempts=decision.attempts,
    )  # fmt: skip
    by = decision.by or decision.agent
    agent = document.thing("agent", _name("agent", f"{by}@{decision.version}"), "prov:SoftwareAgent", label=by)
    document.generated(made, deciding, decision.decided)
    document.relation("wasAssociatedWith", activity=deciding, agent=agent)
    document.relation("wasAttributedTo", entity=made, agent=agent)
    if decision.activation is not None:
        woken = _activation(document, decision.activation)
        document.used(deciding, woken, "activation")
        document.derived(made, woken, deciding)
    _seen(document, decision, made, deciding)
    judged = _reviews(document, decision, made)
    for effect in decision.effects:
        _effect(document, effect, made, agent, judged)
    for link in decision.before:
        earlier = document.thing("entity", _name("decision", link.id), "Decision", label=link.summary, outcome=link.outcome)
        between = document.thing("entity", _name("event", link.over), "Event", label=_short(link.over))
        document.derived(between, earlier)


def _activation(document: _Document, activation: ActivationSeen) -> str:
    fired = document.thing(
        "entity", _name("activation", activation.id), "Activation", label=f"{activation.rule}/{activation.key} {activation.phase}",
        eventTime=_time(activation.at), value=activation.value, count=activation.count, total=activation.total,
    )  # fmt: skip
    detecting = document.thing("activity", _name("detect", activation.id), "Detecting", endTime=_time(activation.fired))
    rule = document.thing("agent", _name("rule", activation.rule), "prov:SoftwareAgent", label=activation.rule)
    document.generated(fired, detecting, activation.fired)
    document.relation("wasAssociatedWith", activity=detecting, agent=rule)
    for event in activation.events:
        cause = _event(document, event)
        document.used(detecting, cause, "event")
        document.derived(fired, cause, detecting)
    return fired


def _event(document: _Document, event: EventSeen) -> str:
    return document.thing(
        "entity", _name("event", event.position), "Event", label=event.short, id=event.id, key=event.key, says=event.text
    )


def _seen(document: _Document, decision: DecisionSeen, made: str, deciding: str) -> None:
    """What the agent looked at while it decided: chunks, models, tools."""
    for number, retrieval in enumerate(decision.retrievals):
        searching = document.thing("activity", _name("retrieve", f"{decision.id}/{number}"), "Retrieving", query=retrieval.query)
        document.relation("wasInformedBy", informed=deciding, informant=searching)
        for chunk in retrieval.results:
            shown = document.thing(
                "entity", _name("chunk", chunk.id), "Chunk", label=chunk.document, version=str(chunk.version), section=chunk.section,
                value=chunk.text,
            )  # fmt: skip
            if chunk.position:
                source = document.thing("entity", _name("event", chunk.position), "Event", label=_short(chunk.position))
                document.derived(shown, source)
            document.used(searching, shown, "result")
            if chunk.used:
                document.used(deciding, shown, "evidence")
                document.derived(made, shown, deciding)
    for asked in decision.models:
        model = document.thing("agent", _name("model", str(asked["model"])), "prov:SoftwareAgent", label=str(asked["model"]))
        document.relation("wasAssociatedWith", activity=deciding, agent=model)
    for number, called in enumerate(decision.tools):
        calling = document.thing("activity", _name("call", f"{decision.id}/{number}"), "Calling", label=called["tool"])
        answer = document.thing("entity", _name("answer", f"{decision.id}/{number}"), "Answer", value=_text(called.get("answer")))
        document.generated(answer, calling)
        document.used(deciding, answer, "answer")


def _reviews(document: _Document, decision: DecisionSeen, made: str) -> list[str]:
    """The questions to people, with their answers; gives the activities of those who answered."""
    judged = []
    for review in decision.reviews:
        id, asked = review["id"], {"label": review.get("question"), "reason": review.get("reason")}
        question = document.thing("entity", _name("review", id), "Review", **asked)
        document.derived(question, made)
        if not review.get("verdict"):
            continue
        judging = document.thing("activity", _name("judge", id), "Judging", verdict=review["verdict"], reason=review.get("why"))
        verdict = document.thing("entity", _name("verdict", id), "Verdict", label=review["verdict"])
        document.used(judging, question, "question")
        document.generated(verdict, judging)
        if review.get("by"):
            person = document.thing("agent", _name("person", review["by"]), "prov:Person", label=review["by"])
            document.relation("wasAssociatedWith", activity=judging, agent=person)
            document.relation("wasAttributedTo", entity=verdict, agent=person)
        judged.append(judging)
    return judged


def _effect(document: _Document, effect: EffectSeen, made: str, agent: str, judged: list[str]) -> None:
    """An event that was published is the entity that others take up; a call is one of its own."""
    published = effect.effect == "publish" and effect.position.count("/") == 3
    name = _name("event", effect.position) if published else _name("effect", effect.id)
    type = "Event" if published else "Effect"
    did = document.thing("entity", name, type, label=effect.target, id=effect.id, key=effect.key, state=effect.state)
    performing = document.thing("activity", _name("perform", effect.id), "Performing", endTime=_time(effect.sent))
    document.used(performing, made, "decision")
    document.generated(did, performing, effect.sent)
    document.derived(did, made, performing)
    document.relation("wasAssociatedWith", activity=performing, agent=agent)
    for judging in judged:
        document.relation("wasInformedBy", informed=performing, informant=judging)


_PROV = {"label": "prov:label", "value": "prov:value", "startTime": "prov:startTime", "endTime": "prov:endTime"}


def _spelled(attribute: str) -> str:
    return _PROV.get(attribute, f"hw:{attribute}")


def _name(kind: str, id: str) -> str:
    """A qualified name; what could be read as something else in one is percent-encoded."""
    return f"hw:{kind}/{quote(id, safe='-._~')}"


def _qualified(type: str) -> Mapping[str, str]:
    return {"$": type if type.startswith("prov:") else f"hw:{type}", "type": "prov:QUALIFIED_NAME"}


def _time(at: int | None) -> str | None:
    return None if at is None else format_time(at)


def _short(token: str) -> str:
    return Position.parse(token).short if token.count("/") == 3 else token


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
