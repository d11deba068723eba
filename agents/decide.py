"""decide: one activation through one agent, to a decision that is ready for the journal. Nothing outside is touched."""

import enum
import functools
import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pydantic

from headwater.agents.activation import Activation
from headwater.agents.agent import Agent, Decision, Option, decision_id
from headwater.agents.answer import checked, fitted, survives, words
from headwater.agents.authorise import Principal, principal_of
from headwater.agents.context import Context, Ports
from headwater.agents.effect import outgoing
from headwater.agents.journal import Calling, Decided, Outgoing, State
from headwater.agents.leave import leave, turn
from headwater.agents.memory import kept
from headwater.agents.raised import meant_for_us
from headwater.agents.reins import Held, Pass, journal_name
from headwater.agents.review import Reason, question_of, resource_of, review_data, review_event, review_id
from headwater.agents.trail import Trail, content_hash
from headwater.lineage.duration import duration
from headwater.lineage.errors import AgentFailed, Forbidden
from headwater.lineage.record import Record, fact
from headwater.lineage.traceparent import following

_BACKOFF_S, _LONGEST_BACKOFF_S = 0.1, 5.0
_SUMMARY = 120


class Answered(NamedTuple):
    """What came of all attempts: who answered last, its decision if there is one, as an entry too, and why there is none."""

    by: Agent
    decision: Decision[Any] | None
    effects: tuple[Outgoing | Calling, ...]
    draft: Decided | None
    attempts: int
    errors: tuple[str, ...]
    forbidden: str = ""
    held: Held | None = None

    @property
    def error(self) -> str:
        if not self.errors and not self.forbidden and self.held is None:
            return ""
        return "; ".join(filter(None, (_together(self.errors), self.forbidden, self.held.text if self.held is not None else "")))


async def decide(agent: Agent, activation: Activation, ports: Ports, *, position: str = "", woken: int = 0) -> Decided:
    """Ask the agent, in place and as often as it allows, then its fallbacks; the rest is rules over the answer.

    Never raises for what an agent does: whatever fails, is forbidden or is unsure becomes a question to a person.
    """
    trail = Trail(agent.name, decision_id(agent.name, activation.id), activation.id, ports.clock)
    started = ports.clock()
    journal = journal_name(agent, position)
    resumed = ports.memories.suspended(journal, activation, started)
    waited = resumed.suspended if resumed is not None else None
    if resumed is not None and waited is not None:
        activation = msgspec.structs.replace(activation, correlation=resumed.correlation, trace=activation.traceparent)
        trail.resumes, trail.resumed = waited.activation, waited.decision
        trail.note(f"resumes what {agent.name} suspended by decision {waited.decision}", resumes=waited.decision)
    answered = await _answered(agent, activation, ports, trail, journal)
    forbidden = answered.forbidden or _forbidden(answered, activation, ports, trail)
    state, reason, detail = _verdict(answered, forbidden)
    seconds = (ports.clock() - started) / 1_000_000
    if answered.decision is None:  # what a failed attempt wanted to keep is not kept
        trail.draft = ports.memories.draft(agent.name, journal, activation, ports.clock())
    waits = trail.draft.waited if waited is None else None
    memory = trail.draft.written(activation, trail.decision, ports.clock(), duration(agent.remembers), waits)
    known = {"position": position, "woken": woken, "spent": ports.reins.totals(agent, journal), "memory": memory}
    decided = _decided(agent, activation, answered, state, trail, {"seconds": seconds}, ports.clock(), known)
    asked: list[Record] = []
    if reason is not None:
        question = question_of(decided, activation, reason, detail)
        decided = msgspec.structs.replace(decided, review=review_event(decided, activation, reason, question))
        asked.append(_review_record(decided, trail, reason, question))
    records = (*trail.records, _decision_record(decided, activation, trail), *asked)
    return fitted(msgspec.structs.replace(decided, records=records), ports.largest)


async def _answered(agent: Agent, activation: Activation, ports: Ports, trail: Trail, journal: str) -> Answered:
    """Ask the agent, then its fallbacks, in place. One that is held back is passed over at once where another may be asked."""
    refused = _refused(principal_of(agent), "decide", activation.rule, activation, ports, trail)
    if refused:
        return Answered(agent, None, (), None, 0, (), refused)
    errors: list[str] = []
    attempts = 0
    line = agent.line
    for candidate in line:
        for n in range(candidate.attempts):
            if n:
                await ports.sleep(min(_BACKOFF_S * 2 ** (attempts - 1), _LONGEST_BACKOFF_S) * (0.5 + ports.random()))
            try:
                answer = await _asked(agent, candidate, activation, ports, trail, journal, first=n == 0)
            except Forbidden as error:
                return Answered(candidate, None, (), None, attempts + 1, tuple(errors), words(error))
            except BaseException as error:
                if meant_for_us(error):
                    raise
                attempts += 1
                errors.append(_told(candidate, error))
                trail.note(f"attempt {attempts} failed: {errors[-1]}", attempt=attempts, error=errors[-1])
                continue
            if not isinstance(answer, Held):
                return Answered(candidate, *answer, attempts + 1, tuple(errors))
            if candidate is line[-1]:
                return Answered(candidate, None, (), None, attempts, tuple(errors), held=answer)
            trail.note(f"{candidate.name} is not asked: {answer.text}", held=answer.reason)
            break
    return Answered(candidate, None, (), None, attempts, tuple(errors))


Answer: TypeAlias = tuple[Decision[Any], tuple[Outgoing | Calling, ...], Decided]


async def _asked(
    agent: Agent, candidate: Agent, activation: Activation, ports: Ports, trail: Trail, journal: str, *, first: bool
) -> Answer | Held:
    """One attempt, once nothing holds the candidate back; what holds it, if that is not waited for."""
    rein, last = ports.reins.of(candidate), candidate is agent.line[-1]
    while True:
        held = None if rein.slack else await leave(candidate, ports, trail, last=last)
        if held is not None:
            return held
        if first and not rein.slack:
            await turn(candidate, ports, trail)
        first = False
        async with ports.room.place(agent.name):
            if rein.slack:
                return await _attempt(candidate, activation, ports, trail, journal)
            passed = rein.admit(ports.clock())
            if isinstance(passed, Pass):
                return await _measured(candidate, activation, ports, trail, journal, passed)


async def _measured(agent: Agent, activation: Activation, ports: Ports, trail: Trail, journal: str, passed: Pass) -> Answer:
    """An attempt whose end and cost the agent's reins are told."""
    before, failed, cost = dict(trail.spent), None, dict[str, float]()
    rein = ports.reins.of(agent)
    try:
        answer = await _attempt(agent, activation, ports, trail, journal)
        failed, cost = False, dict(answer[0].cost)
        return answer
    except Forbidden:
        raise
    except BaseException as error:
        failed = None if meant_for_us(error) else True
        raise
    finally:
        told = {name: max(amount - before.get(name, 0.0), cost.get(name, 0.0)) for name, amount in {**cost, **trail.spent}.items()}
        changed = rein.end(passed, journal, ports.clock(), told, failed=failed)
        if changed:
            trail.note(changed)


async def _attempt(agent: Agent, activation: Activation, ports: Ports, trail: Trail, journal: str) -> Answer:
    trail.draft = ports.memories.draft(agent.name, journal, activation, ports.clock())
    context = Context(agent, activation, ports, trail)
    with ports.deadlines.within(duration(agent.timeout) / 1_000_000):
        answer = agent.function(activation, context)
        if not inspect.isawaitable(answer):
            raise AgentFailed(f"agent {agent.name} is no coroutine function; write: async def {agent.name}(activation, context)")
        decision = checked(agent, await answer)
    effects = outgoing(agent, activation, trail.decision, decision.effects)
    draft = _draft(agent, decision, effects, activation, trail)
    survives(agent, draft, ports.largest)
    return decision, effects, draft


def _refused(principal: Principal, action: str, resource: str, activation: Activation, ports: Ports, trail: Trail, **about: Any) -> str:
    """The reason of a refusal, or nothing; the ruling is on the trail."""
    context = {"activation": activation.id, "rule": activation.rule, "key": activation.key, **about}
    ruling = ports.authorise(principal, action, resource, context)
    trail.ruling(principal, action, resource, ruling)
    return "" if ruling.allowed else ruling.reason


def _forbidden(answered: Answered, activation: Activation, ports: Ports, trail: Trail) -> str:
    """Every effect is asked for, so that every ruling is recorded; one refusal holds back them all."""
    principal = principal_of(answered.by)
    refusals = [
        _refused(principal, *resource_of(effect), activation, ports, trail, ordinal=effect.ordinal, effect_key=getattr(effect, "key", None))
        for effect in answered.effects
    ]
    return "; ".join(dict.fromkeys(filter(None, refusals)))


def _verdict(answered: Answered, forbidden: str) -> tuple[State, Reason | None, str]:
    """The state, and for a question its reason and what is wrong."""
    decision = answered.decision
    if forbidden:
        return "waiting", "forbidden", forbidden
    if decision is None and answered.held is not None and answered.held.reason != "busy":
        return "waiting", answered.held.reason, answered.error
    if decision is None:
        return "waiting", "failed", _together(answered.errors)
    if decision.choice is None:
        return "no_action", None, ""
    if decision.confidence < answered.by.act_above:
        return "waiting", "unsure", f"below {answered.by.act_above:g}"
    return "acted", None, ""


def _decided(
    agent: Agent, activation: Activation, answered: Answered, state: State, trail: Trail, cost: Mapping[str, float], now: int,
    known: Mapping[str, Any],
) -> Decided:  # fmt: skip
    by = answered.by
    decision: Decision[Any] = answered.decision or Decision(choice=None, confidence=0.0)
    draft = answered.draft or _draft(by, decision, (), activation, trail)
    # A decision may tell the cost of its last question only; the trail knows that of all.
    spent = {name: float(max(amount, decision.cost.get(name, 0))) for name, amount in trail.spent.items() if math.isfinite(amount)}
    return msgspec.structs.replace(
        draft, agent=agent.name, state=state, cost={**decision.cost, **spent, **cost}, decided=now, expires=duration(agent.expires),
        attempts=answered.attempts, error=answered.error, **known,
    )  # fmt: skip


def _draft(by: Agent, decision: Decision[Any], effects: tuple[Outgoing | Calling, ...], activation: Activation, trail: Trail) -> Decided:
    """A decision as an entry, before it is known what becomes of it."""
    choice = plain(decision.choice)
    return Decided(
        id=trail.decision, agent=by.name, by=by.name, version=by.version, digest=_digest(by), activation=activation.id,
        key=activation.key, at=activation.at, state="acted", choice=choice, summary=summary(decision.choice, choice),
        options=tuple(decision.options), rationale=decision.rationale, confidence=decision.confidence, evidence=tuple(decision.evidence),
        without=dict(decision.without), cost=dict(decision.cost), effects=tuple(each for each in effects if isinstance(each, Outgoing)),
        calls=tuple(each for each in effects if isinstance(each, Calling)),
        traceparent=following(activation.traceparent, "", trail.decision).header,
    )  # fmt: skip


def _decision_record(decided: Decided, activation: Activation, trail: Trail) -> Record:
    data: dict[str, Any] = {
        "agent": decided.agent, "by": decided.by, "version": decided.version, "digest": decided.digest,
        "activation": activation.id, "rule": activation.rule, "key": activation.key, "state": decided.state,
        "choice": decided.choice, "summary": decided.summary, "options": [_option(option) for option in decided.options],
        "rationale": decided.rationale, "confidence": decided.confidence, "evidence": list(decided.evidence),
        "without": {chunk: _option(option) for chunk, option in decided.without.items()}, "cost": decided.cost,
        "woken": decided.woken, "decided": decided.decided, "attempts": decided.attempts, "error": decided.error, "used": trail.used,
        "position": decided.position,
    }  # fmt: skip
    if decided.traceparent:
        data["traceparent"] = decided.traceparent
    if trail.draft.before:
        data["recalled"] = trail.draft.before
    if decided.memory is not None:
        data["remembered"] = msgspec.json.decode(decided.memory.values)
        data["kept"] = kept(decided.memory)
    if trail.draft.awaits:
        data["suspended"] = {"awaits": trail.draft.awaits, "seconds": trail.draft.expires / 1_000_000}
    if decided.spent:
        data["spent"] = msgspec.to_builtins(decided.spent)
    parents = tuple(filter(None, (activation.id, trail.resumed, *trail.retrievals)))
    return fact(
        "decision", trail.flow, "decide", decided.id, logged=decided.decided, parents=parents,
        ordinal=content_hash(data), at=activation.at, outcome=decided.state, data=data,
    )  # fmt: skip


def _review_record(decided: Decided, trail: Trail, reason: Reason, question: str) -> Record:
    data = review_data(decided, reason, question)
    return fact(
        "review", trail.flow, "decide", review_id(decided.id), logged=decided.decided, parents=(decided.id,), at=decided.at,
        ordinal=content_hash(data), data=data,
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def _digest(agent: Agent) -> str:
    """The agent's digest: read once, for finding a function's source takes milliseconds."""
    return agent.digest


def _option(option: Option) -> dict[str, Any]:
    return {"name": option.name, "confidence": option.confidence}


def _together(errors: Sequence[str]) -> str:
    """What went wrong in all attempts; what went wrong the same way again and again is said once."""
    counted = ((error, len(list(run))) for error, run in itertools.groupby(errors))
    return "; ".join(error if times == 1 else f"{error} ({times} times)" for error, times in counted)


def _told(agent: Agent, error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return f"{agent.name}@{agent.version} took longer than {agent.timeout}"
    return f"{agent.name}@{agent.version}: {type(error).__name__}: {words(error)}"


def plain(choice: Any) -> Any:
    """A choice as JSON values, exactly as it will be read again (keys are texts, what is no number is null)."""
    value = choice.model_dump(mode="json") if isinstance(choice, pydantic.BaseModel) else choice
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))


def summary(choice: Any, value: Any = None) -> str:
    """A choice in a few words: its value, or the values of its fields. `value`: the same as JSON values, if that is known."""
    value = plain(choice) if value is None else value
    if value is None:
        return ""
    if isinstance(choice, enum.Enum) or not isinstance(value, dict):
        return str(value)[:_SUMMARY]
    if len(value) == 1:
        return str(next(iter(value.values())))[:_SUMMARY]
    named = (f"{name}: {item}" if isinstance(item, bool) else str(item) for name, item in value.items() if item is not None)
    return " · ".join(named)[:_SUMMARY]
