"""A case: all that lineage keeps of one decision, enough to put its agent before it again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.trail import content_hash
from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.names import Connection, mentioning
from headwater.lineage.record import Record
from headwater.lineage.verify import Source
from headwater.lineage.why import resolve

_SEEN = ("retrieval", "tool", "model")
_OF_A_CHUNK = ("id", "document", "version", "n", "text")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent answered. `state` is acted, waiting or no_action; `effects` are the events it published or would have."""

    state: str
    choice: Any = None
    summary: str = ""
    confidence: float = 0.0
    options: tuple[tuple[str, float], ...] = ()
    rationale: str = ""
    effects: tuple[dict[str, Any], ...] = ()
    error: str = ""
    cost: dict[str, float] = {}


class Step(msgspec.Struct, frozen=True):
    """One thing an agent did while deciding: `kind` is retrieval, tool or model, `data` its record's."""

    kind: str
    data: dict[str, Any]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One decision as it was made: what woke the agent, what it remembered, what it saw and asked, in order, and what it answered."""

    id: str
    agent: str
    version: str
    activation: Activation
    steps: tuple[Step, ...]
    answer: Answer
    recalled: dict[str, Any] = {}

    @property
    def context(self) -> str:
        """16 hex digits over all that went in: the activation, what was found and answered, what the model was asked."""
        return context_hash(inputs(self.activation, self.steps, self.recalled))


def case_of(source: Source, id: str) -> Case:
    """The case of a decision, by its id or the beginning of it. Raises NotFound, Misused (no decision, or one kept without its context)."""
    with source.cursor() as cursor:
        cursor.begin()
        try:
            thing, found = resolve(cursor, id.strip())
            if thing.kind != "decision":
                raise Misused(f'{id} is a {thing.kind}, no decision; `headwater sql "from decisions"` lists their ids')
            return _case(cursor, thing.id, found)
        finally:
            cursor.rollback()


def decided_since(source: Source, *, agent: str | None = None, since: int | None = None) -> list[str]:
    """Ids of decisions in event-time order: of one agent, or all; from an event time (µs since 1970) on, or all."""
    query = (
        "SELECT id FROM decisions WHERE ($1 IS NULL OR agent = $1) AND ($2 IS NULL OR epoch_us(\"time\") >= $2) "
        'ORDER BY "time", agent, id'
    )
    with source.cursor() as cursor:
        return [id for (id,) in cursor.execute(query, [agent, since]).fetchall()]


def _case(cursor: Connection, id: str, found: Sequence[Record]) -> Case:
    decision = next((record for record in found if record.kind == "decision" and record.ref == id), None)
    if decision is None:
        raise NotFound(f"decision {id} has no record of its own yet; it may not have landed")
    fired = [record for record in mentioning(cursor, [decision.data["activation"]]) if record.kind == "activation"]
    woke = next((record for record in fired if record.ref == decision.data["activation"]), None)
    if woke is None:
        raise NotFound(f"what woke decision {id} is not on record: activation {decision.data['activation']} has not landed")
    used = {record: place for place, record in enumerate(decision.data.get("used") or ())}
    seen = sorted((record for record in found if record.kind in _SEEN and record.id in used), key=lambda record: used[record.id])
    data = decision.data
    return Case(
        id=id, agent=data["agent"], version=str(data["version"]), activation=_activation(woke),
        steps=tuple(Step(record.kind, record.data) for record in seen), answer=_answer(data, _effects(found)),
        recalled=data.get("recalled") or {},
    )  # fmt: skip


def _activation(record: Record) -> Activation:
    known = {name: value for name, value in record.data.items() if name in Activation.__struct_fields__}
    return msgspec.convert({**known, "id": record.ref, "at": record.at}, Activation)


def _effects(found: Sequence[Record]) -> list[dict[str, Any]]:
    done = {record.ref: record.data for record in found if record.kind == "effect"}
    return [effect_of(data) for data in sorted(done.values(), key=lambda data: data.get("ordinal", 0))]


def effect_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of an effect what does not depend on when it happened."""
    return {name: data.get(name) for name in ("effect", "target", "key", "data") if data.get(name) is not None}


def _answer(data: Mapping[str, Any], effects: Sequence[dict[str, Any]]) -> Answer:
    options = tuple((option["name"], option["confidence"]) for option in data.get("options") or ())
    return Answer(
        state=data["state"], choice=data.get("choice"), summary=data.get("summary") or "", confidence=data.get("confidence") or 0.0,
        options=options, rationale=data.get("rationale") or "", effects=tuple(effects), error=data.get("error") or "",
        cost=data.get("cost") or {},
    )  # fmt: skip


def inputs(activation: Activation, steps: Sequence[Step], recalled: Mapping[str, Any]) -> dict[str, Any]:
    """All that went into a decision, by name, in the order it went in; no wall clock among it."""
    counts: dict[str, int] = {}
    told: dict[str, Any] = {"activation": msgspec.to_builtins(activation)}
    told["activation"]["correlation"] = activation.correlationid
    if recalled:
        told["recalled"] = dict(recalled)
    for step in steps:
        counts[step.kind] = counts.get(step.kind, 0) + 1
        told[f"{step.kind} {counts[step.kind]}"] = _went_in(step)
    return told


def _went_in(step: Step) -> dict[str, Any]:
    data = step.data
    match step.kind:
        case "retrieval":
            found = [{name: result.get(name) for name in _OF_A_CHUNK} for result in data.get("results") or ()]
            return {"query": data.get("query"), "limit": data.get("limit"), "where": data.get("where"), "results": found}
        case "tool":
            return {name: data.get(name) for name in ("tool", "arguments", "answer", "error") if name in data}
    return {name: data[name] for name in ("model", "prompt", "parameters") if name in data}


def context_hash(told: Mapping[str, Any]) -> str:
    """16 hex digits over inputs."""
    return content_hash({"inputs": list(told.items())})


def first_difference(then: Any, now: Any, path: str = "") -> str:
    """The first field in which two inputs differ, such as `retrieval 1.results[2].text`; empty if they are the same."""
    return next(_differences(_plain(then), _plain(now), path), "")


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))


def _differences(then: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*then, *now]):
            inner = f"{path}.{name}" if path else str(name)
            if name in then and name in now:
                yield from _differences(then[name], now[name], inner)
            else:
                yield inner
    elif isinstance(then, list) and isinstance(now, list):
        for n, (one, other) in enumerate(zip(then, now, strict=False)):
            yield from _differences(one, other, f"{path}[{n}]")
        if len(then) != len(now):
            yield f"{path}[{min(len(then), len(now))}]"
    elif type(then) is not type(now) or then != now:
        yield path
