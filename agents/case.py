"""A case: all that lineage keeps of one decision, enough to put its agent before it again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.inputs import Step, attempts, context_hash, inputs
from headwater.agents.memory import Suspended
from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.names import Connection, mentioning
from headwater.lineage.record import Record
from headwater.lineage.verify import Source
from headwater.lineage.why import resolve

_HOLDS = ("budget", "breaker")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent answered. `state` is acted, waiting or no_action; `effects` are the events it published or would have.

    by   who answered: the agent, or a fallback of its
    """

    state: str
    by: str = ""
    choice: Any = None
    summary: str = ""
    confidence: float = 0.0
    options: tuple[tuple[str, float], ...] = ()
    rationale: str = ""
    effects: tuple[dict[str, Any], ...] = ()
    error: str = ""
    cost: dict[str, float] = {}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One decision as it was made: what woke the agent, what it remembered, what it saw and asked, in order, and what it answered.

    steps      of the attempt that answered, or failed last; `earlier`: of those before it
    resumes    the suspension that ended with it;  correlation  of what it went on with then
    held       who of the agent and its fallbacks was not asked, and why: `budget` or `breaker`
    """

    id: str
    agent: str
    version: str
    activation: Activation
    steps: tuple[Step, ...]
    answer: Answer
    recalled: dict[str, Any] = {}
    earlier: tuple[Step, ...] = ()
    resumes: Suspended | None = None
    correlation: str = ""
    held: dict[str, str] = {}

    @property
    def context(self) -> str:
        """16 hex digits over all that went in: the activation, what was found and answered, what the model was asked."""
        return context_hash(inputs(self.activation, self.steps, self.recalled, self.over))

    @property
    def over(self) -> Activation | None:
        """The activation over which the agent had suspended."""
        return None if self.resumes is None else self.resumes.activation


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
    data = decision.data
    used = {record: place for place, record in enumerate(data.get("used") or ())}
    made = sorted((record for record in found if record.id in used), key=lambda record: used[record.id])
    steps, earlier = attempts(made, int(data.get("attempts") or 0))
    resumes, correlation = _resumed(cursor, made)
    return Case(
        id=id, agent=data["agent"], version=str(data["version"]), activation=_activation(woke), steps=steps,
        answer=_answer(data, _effects(found)), recalled=data.get("recalled") or {}, earlier=earlier, resumes=resumes,
        correlation=correlation, held=_held(made, decision, found),
    )  # fmt: skip


def _resumed(cursor: Connection, made: Iterable[Record]) -> tuple[Suspended | None, str]:
    """The suspension that a decision ended, as the decision that suspended keeps it, and its correlation id."""
    suspended = next((str(record.data["resumes"]) for record in made if record.kind == "note" and "resumes" in record.data), "")
    if not suspended:
        return None, ""
    there = [record for record in mentioning(cursor, [suspended]) if record.kind == "decision" and record.ref == suspended]
    kept = there[0].data.get("kept") if there else None
    if not kept or "suspended" not in kept:
        raise NotFound(f"decision {suspended}, which suspended and was gone on with here, is not on record")
    return msgspec.convert(kept["suspended"], Suspended), str(kept["correlation"])


def _held(made: Iterable[Record], decision: Record, found: Iterable[Record]) -> dict[str, str]:
    """Who was passed over; where nobody was left to ask, the question to a person says why."""
    held = {}
    for record in made:
        name, _, rest = str(record.data.get("text", "")).partition(" is not asked: ")
        if record.kind == "note" and rest and record.data.get("held") in _HOLDS:
            held[name] = str(record.data["held"])
    asked = (record.data.get("reason") for record in found if record.kind == "review" and record.data.get("decision") == decision.ref)
    last = next((reason for reason in asked if reason in _HOLDS), None)
    return held if last is None else {**held, str(decision.data.get("by") or decision.data["agent"]): last}


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
        state=data["state"], by=str(data.get("by") or data["agent"]), choice=data.get("choice"), summary=data.get("summary") or "",
        confidence=data.get("confidence") or 0.0, options=options, rationale=data.get("rationale") or "", effects=tuple(effects),
        error=data.get("error") or "", cost=data.get("cost") or {},
    )  # fmt: skip
