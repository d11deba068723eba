"""Effects of a decision, made ready for the journal, and the records of what became of them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.agent import Agent, Effect, Publish, effect_id
from headwater.agents.authorise import principal_of
from headwater.agents.course import Course, effects_of
from headwater.agents.hops import told_of
from headwater.agents.journal import Calling, Outgoing
from headwater.agents.review import fate_data, review_id
from headwater.agents.tool import Call
from headwater.lineage.errors import AgentFailed, Invalid
from headwater.lineage.record import Record, fact
from headwater.lineage.traceparent import following


def outgoing(agent: Agent, activation: Activation, decision: str, effects: Sequence[Effect]) -> tuple[Outgoing | Calling, ...]:
    """A decision's effects in order. Raises AgentFailed for what cannot be sent."""
    return tuple(
        _event(agent, activation, decision, n, effect) if isinstance(effect, Publish) else _call(agent, decision, n, effect)
        for n, effect in enumerate(effects)
    )


def effect_records(course: Course, told: Collection[str] = ()) -> tuple[Record, ...]:
    """One record for each effect that went out or was called, and for each question about one; those in `told` are left out."""
    decided = course.decided
    assert decided is not None
    records = []
    for event in effects_of(course):
        if event.id in course.sent and event.id not in told:
            token, at = course.sent[event.id]
            data: dict[str, Any] = {"effect": "publish", "target": event.topic, "key": event.key, "state": "done", "position": token}
            records.append(_record(course, event, at, {**data, "data": msgspec.json.decode(event.data)}))
    for call in decided.calls:
        answered = course.answered.get(call.id)
        if answered is None or call.id in told:
            continue
        data = {
            "effect": "call", "target": call.tool, "key": decided.key, "state": answered.state, "position": "", "tool_kind": call.kind,
            "data": call.arguments, "answer": answered.answer, "error": answered.error, "attempts": answered.attempts,
        }  # fmt: skip
        records.append(_record(course, call, answered.at, data))
        if review_id(call.id) in course.sent:
            record = fact(
                "review", f"decide/{decided.agent}", "effects", review_id(call.id), logged=answered.at, parents=(decided.id,),
                at=decided.at, data=fate_data(decided, call, answered),
            )  # fmt: skip
            records.append(record)
    return tuple(records)


def _event(agent: Agent, activation: Activation, decision: str, ordinal: int, effect: Publish) -> Outgoing:
    """The event of a decision. Its time is the activation's: what follows in event time follows from it."""
    topic, id = effect.topic, effect_id(decision, ordinal)
    try:
        data = topic.encode(effect.data)
        topic.decode(data)
        key = effect.key if effect.key is not None else topic.key_of(effect.data)
    except Exception as error:
        raise AgentFailed(f"agent {agent.name}: effect {ordinal} does not fit the topic {topic.name}: {error}") from None
    return Outgoing(
        id=id, ordinal=ordinal, topic=topic.name, type=topic.name,
        source=f"headwater/decide/{agent.name}", time=activation.at, data=msgspec.Raw(data), key=key, subject=key,
        causationid=decision, correlationid=activation.correlationid, actor=principal_of(agent).name,
        via=told_of(activation.via, agent.name), traceparent=following(activation.traceparent, "", id).header,
    )  # fmt: skip


def _call(agent: Agent, decision: str, ordinal: int, effect: Call) -> Calling:
    tool = effect.tool
    if tool.kind == "read":
        raise AgentFailed(f"agent {agent.name}: {tool.name} only reads; call it while deciding: await context.tool({tool.name}, …)")
    if any(tool.name == each.name and tool is not each for each in agent.tools):
        raise AgentFailed(f"agent {agent.name}: effect {ordinal} calls a tool {tool.name} which is not the one it declares")
    try:
        arguments = tool.checked(effect.arguments)
    except Invalid as error:
        raise AgentFailed(f"agent {agent.name}: effect {ordinal}: {error}") from None
    return Calling(id=effect_id(decision, ordinal), ordinal=ordinal, tool=tool.name, scope=tool.scope, kind=tool.kind, arguments=arguments)


def _record(course: Course, effect: Outgoing | Calling, at: int, about: Mapping[str, Any]) -> Record:
    decided = course.decided
    assert decided is not None
    data = {"decision": decided.id, "ordinal": effect.ordinal, "sent": at, **about}
    if decided.traceparent:
        told = effect.traceparent if isinstance(effect, Outgoing) else ""
        data["traceparent"] = told or following(decided.traceparent, "", effect.id).header
    return fact(
        "effect", f"decide/{decided.agent}", "effects", effect.id, logged=at, parents=(decided.id,), at=decided.at,
        ordinal=effect.ordinal, data=data,
    )  # fmt: skip
