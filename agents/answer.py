"""What an agent answered, made plain, or refused as no decision: nothing else may reach the journal, which is read back for ever."""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import structlog

from headwater.agents.agent import Agent, Decision, Effect, Option, Publish
from headwater.agents.blot import blotted
from headwater.agents.journal import Decided, decode, encode
from headwater.agents.tool import Call, Tool
from headwater.lineage.errors import AgentFailed
from headwater.lineage.record import Record, encode_rows
from headwater.lineage.topic import Topic

_log = structlog.get_logger("headwater.answer")
T = TypeVar("T")

SHARE = 4
"""An answer takes at most this part of an entry: its decision says it twice, and the question to a person once more."""
_SHORT = 500
"""Characters that are left of a text that is cut."""


def checked(agent: Agent, answer: Any) -> Decision[Any]:
    """The answer as a Decision whose fields are what they are declared to be; the choice is looked at by `survives`. Raises AgentFailed."""
    if not isinstance(answer, Decision):
        raise AgentFailed(f"agent {agent.name} answered {type(answer).__name__}, not a Decision; return what context.choose gives")
    if _plain(answer):
        return answer
    try:
        decision: Decision[Any] = Decision(
            choice=answer.choice,
            options=_all("options", answer.options, _option),
            rationale=_text("rationale", answer.rationale),
            confidence=_number("confidence", answer.confidence),
            evidence=_all("evidence", answer.evidence, _text),
            without=_named("without", answer.without, _option),
            cost=_named("cost", answer.cost, _amount),
            effects=_all("effects", answer.effects, _effect),
        )
    except (TypeError, ValueError) as error:
        raise AgentFailed(f"agent {agent.name} answered with {error}") from None
    if not 0 <= decision.confidence <= 1:
        raise AgentFailed(f"agent {agent.name} answered with confidence {decision.confidence}; it must lie between 0 and 1")
    if decision.choice is None and decision.effects:
        raise AgentFailed(f"agent {agent.name} chose nothing and yet has effects; leave them out, or give a choice")
    return decision


def _plain(answer: Decision[Any]) -> bool:
    """Whether an answer says little, and all of it as declared: most do, and need no copy."""
    return (
        type(answer) is Decision
        and all(type(each) is tuple for each in (answer.options, answer.evidence, answer.effects))
        and not answer.options
        and not answer.evidence
        and type(answer.rationale) is str
        and type(answer.confidence) is float
        and 0 <= answer.confidence <= 1
        and answer.choice is not None
        and type(answer.without) is dict is type(answer.cost)
        and not answer.without
        and not answer.cost
        and all(type(each) is Publish and isinstance(each.topic, Topic) and (each.key is None or type(each.key) is str)
                for each in answer.effects)
    )  # fmt: skip


def costs(agent: Agent, told: Mapping[str, float]) -> Mapping[str, float]:
    """What a question is said to have cost, before a budget counts it. Raises AgentFailed."""
    try:
        return _named("cost", told, _amount)
    except (TypeError, ValueError) as error:
        raise AgentFailed(f"a question of agent {agent.name} came with {error}") from None


def survives(agent: Agent, decided: Decided, largest: int) -> None:
    """Whether a decision can be written and read again, as an entry of `largest` bytes. Raises AgentFailed."""
    try:
        entry = encode(decided)
        decode(entry)
    except Exception as error:
        raise AgentFailed(f"agent {agent.name} answered what cannot be written and read again: {error}") from None
    if len(entry) > largest // SHARE:
        raise AgentFailed(
            f"agent {agent.name} answered {len(entry)} bytes, effects included; at most {largest // SHARE} go into the journal: "
            "publish a reference to what is large"
        )


def fitted(decided: Decided, largest: int) -> Decided:
    """The decision as an entry of at most `largest` bytes: what its records say at too great length, or what cannot be written, is cut.

    Each record stays, names in `cut` what was taken from it, and keeps the shape of its data. The largest are cut first, the
    decision's own and its review's last. The whole is encoded again only where the sizes say that it may fit now.
    """
    size = _entry_size(decided)
    if size <= largest:
        return decided
    records = list(decided.records)
    sizes = [_size(record) for record in records]
    order = sorted(range(len(records)), key=lambda n: (sizes[n] < math.inf and records[n].kind in ("decision", "review"), -sizes[n]))
    for n in order:
        records[n] = _cut(records[n])
        size -= sizes[n] - _size(records[n])
        if size <= largest or sizes[n] == math.inf:
            decided = msgspec.structs.replace(decided, records=tuple(records))
            size = _entry_size(decided)
            if size <= largest:
                return decided
    return msgspec.structs.replace(decided, records=tuple(records))


def words(told: object) -> str:
    """A text that can be written, whatever is told: half characters are replaced, what is endless is cut, secrets are blotted out."""
    try:
        text = str(told)
    except Exception:  # an error of the agent that cannot even say what it is
        text = type(told).__name__
    return blotted(text[: 8 * _SHORT])[: 4 * _SHORT].encode(errors="replace").decode()


def _number(name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} {value!r:.100}; a finite number is needed")
    return float(value)


def _amount(name: str, value: Any) -> float:
    amount = _number(name, value)
    if amount < 0:  # it would give back to a budget what others spent
        raise ValueError(f"{name} {value!r:.100}; nothing costs less than 0")
    return amount


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} {value!r:.100}; a text is needed")
    return str.__str__(value)  # of an enumeration of texts, the text


def _option(name: str, value: Any) -> Option:
    if not isinstance(value, Option):
        raise ValueError(f"{name} {value!r:.100}; an Option is needed")
    return Option(_text(f"{name}: name", value.name), _number(f"{name}: confidence", value.confidence))


def _effect(name: str, value: Any) -> Effect:
    if isinstance(value, Call) and isinstance(value.tool, Tool) and isinstance(value.arguments, Mapping):
        return value
    if not isinstance(value, Publish) or not isinstance(value.topic, Topic):
        raise ValueError(f"{name} {value!r:.100}; a Publish on a Topic or a Call of a Tool is needed")
    return value if value.key is None else Publish(value.topic, value.data, _text(f"{name}: key", value.key))


def _all(name: str, values: Any, check: Callable[[str, Any], T]) -> tuple[T, ...]:
    if not isinstance(values, (tuple, list)):
        raise ValueError(f"{name} {values!r:.100}; a tuple is needed")
    return tuple(check(name, value) for value in values)


def _named(name: str, values: Any, check: Callable[[str, Any], T]) -> dict[str, T]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} {values!r:.100}; a mapping is needed")
    return {_text(f"{name}: key", key): check(f"{name} {key}", value) for key, value in values.items()}


def _entry_size(decided: Decided) -> float:
    try:
        return len(encode(decided))
    except Exception:  # whatever lies in it, it cannot be written
        return math.inf


def _size(record: Record) -> float:
    try:
        return len(encode_rows([record]))
    except Exception:
        return math.inf


def _cut(record: Record) -> Record:
    short = {name: _shortened(value) for name, value in record.data.items()}
    cut = sorted(name for name, value in record.data.items() if short[name] is not value)
    return msgspec.structs.replace(record, data={**short, "cut": cut})


def _shortened(value: Any) -> Any:
    try:
        if len(msgspec.json.encode(value)) <= _SHORT:
            return value
    except Exception as error:
        _log.debug("cut from a record", error=words(error))
    if isinstance(value, str):
        return value[:_SHORT].encode(errors="replace").decode()
    return [] if isinstance(value, (list, tuple)) else {} if isinstance(value, Mapping) else None
