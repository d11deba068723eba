"""why: the path of one thing through the walk, in both directions, from any id.

From an event: the documents it became, the activations it woke, their decisions and effects. From a decision: back to its activation and
that one's events, what it saw, what it considered, what it did.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.event import Position
from headwater.lineage.names import SHORTEST, Connection, Thing, beginning_with, begins, lying_at, mentioning, things
from headwater.lineage.record import Record
from headwater.lineage.verify import Source

_SHORT = re.compile(r"(?P<topic>[^/@]+)/(?P<partition>\d+)@(?P<offset>\d+)")
MOST_LIVES = 100
_FIRST = ("decision", "activation", "effect", "review", "dead_letter", "document", "event", "chunk", "position")


class Option(msgspec.Struct, frozen=True):
    """A choice and the probability the model gave it."""

    name: str
    confidence: float


class EventSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a path. `position` is its token, `short` the same for people; `text` what its document says, if it became one."""

    position: str
    short: str
    id: str = ""
    key: str = ""
    text: str = ""
    document: str = ""
    outcomes: dict[str, str] = {}


class DocumentSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a document. `at` is the event time; `appended` and `settled` are wall clock; all µs since 1970."""

    id: str
    version: int
    outcome: str
    event: str
    position: str
    text: str
    at: int | None = None
    appended: int | None = None
    settled: int | None = None


class ActivationSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A firing of a rule, its events newest first."""

    id: str
    rule: str
    key: str
    phase: str
    at: int | None
    value: float
    count: int
    total: int
    fired: int
    events: tuple[EventSeen, ...]


class ChunkSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that an agent saw.

    score    its cosine to the query
    used     the agent named it as evidence
    without  what it would have chosen without it
    """

    id: str
    document: str
    version: int
    section: str
    text: str
    score: float
    position: str
    used: bool
    without: Option | None


class Retrieval(msgspec.Struct, frozen=True, kw_only=True):
    """A search of an agent. `as_of` is the index's progress then, `at` the event time searched at (µs)."""

    query: str
    at: int | None
    staleness_ms: float | None
    as_of: dict[str, int]
    results: tuple[ChunkSeen, ...]


class EffectSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision did outside."""

    id: str
    effect: str
    target: str
    key: str
    state: str
    position: str
    sent: int | None


class DecisionSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A decision with all it came from and led to. `outcome` is what became of it; times in µs."""

    id: str
    agent: str
    version: str
    outcome: str
    choice: Any
    summary: str
    confidence: float
    rationale: str
    at: int | None
    woken: int | None
    decided: int | None
    attempts: int
    error: str
    options: tuple[Option, ...]
    cost: dict[str, float]
    activation: ActivationSeen | None
    retrievals: tuple[Retrieval, ...]
    effects: tuple[EffectSeen, ...]
    rulings: tuple[dict[str, Any], ...]
    reviews: tuple[dict[str, Any], ...]
    models: tuple[dict[str, Any], ...]


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One life of an event on its topic: what each flow made of it, with every move to the retry ladder, and what closed its dead letters.

    A redriven event has several, first to last.
    """

    position: str
    short: str
    steps: tuple[str, ...] = ()


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: what was asked for, and everything on its path. `lives` is told of events that were tried again."""

    id: str
    kind: str
    events: tuple[EventSeen, ...] = ()
    documents: tuple[DocumentSeen, ...] = ()
    dead_letters: tuple[dict[str, Any], ...] = ()
    activations: tuple[ActivationSeen, ...] = ()
    decisions: tuple[DecisionSeen, ...] = ()
    lives: tuple[Life, ...] = ()


def why(source: Source, id: str) -> Why:
    """The path of an event id, a token, `topic/partition@offset`, a document, chunk, activation, decision, effect, review or dead letter.

    A unique beginning of at least six characters will do. Raises NotFound; Misused, listing them, if several ids begin so.
    """
    with source.cursor() as cursor:
        cursor.begin()
        try:
            return _why(cursor, *_resolve(cursor, id.strip()))
        finally:
            cursor.rollback()


def _resolve(cursor: Connection, text: str) -> tuple[Thing, list[Record]]:
    found = mentioning(cursor, [text])
    if found:
        return _named(found, lambda id: id == text)[0], found
    thing = _position(cursor, text)
    if thing:
        return thing, mentioning(cursor, [thing.id])
    if len(text) < SHORTEST:
        raise NotFound(f"no record names {text!r}; give at least {SHORTEST} characters of an id, or topic/partition@offset")
    found = beginning_with(cursor, text)
    named = _named(found, lambda id: begins(id, text))
    if not named:
        raise NotFound(
            f"no record names {text!r}: give the id of an event, document, chunk, activation, decision or effect, a token, or "
            'topic/partition@offset; `headwater sql "from decisions"` lists decisions; a fresh event may not have landed yet'
        )
    if len(named) > 1:
        listed = "; ".join(f"{kind} {id}" for kind, id in named[:10])
        raise Misused(f"{len(named)} ids begin with {text!r}: {listed}; give more characters", candidates=[list(thing) for thing in named])
    return named[0], mentioning(cursor, [named[0].id])


def _named(found: Iterable[Record], matches: Any) -> list[Thing]:
    """What the records name that matches: one thing per id, under the kind that says most. Bare document names become whole ones."""
    kinds: dict[str, str] = {}
    for record in found:
        for kind, id in things(record):
            if not id or not matches(id):
                continue
            whole = record.ref if kind == "document" else id
            if whole not in kinds or _FIRST.index(kind) < _FIRST.index(kinds[whole]):
                kinds[whole] = kind
    return sorted((Thing(kind, id) for id, kind in kinds.items()), key=lambda thing: (_FIRST.index(thing.kind), thing.id))


def _position(cursor: Connection, text: str) -> Thing | None:
    """A place that was consumed, given as a token or as `topic/partition@offset` (then in the newest broker's life)."""
    short = _SHORT.fullmatch(text)
    if short:
        broker, topic, partition, offset = "", short["topic"], int(short["partition"]), int(short["offset"])
    else:
        try:
            broker, topic, partition, offset = Position.parse(text)
        except Misused:
            return None
    rows = cursor.execute(
        'SELECT broker FROM records WHERE "first" <= $3 AND "next" > $3 AND topic = $1 AND "partition" = $2 AND ($4 IN (\'\', broker)) '
        "ORDER BY seq DESC LIMIT 1",
        [topic, partition, offset, broker],
    ).fetchall()
    return Thing("position", str(Position(rows[0][0], topic, partition, offset))) if rows else None


def _why(cursor: Connection, thing: Thing, found: list[Record]) -> Why:
    if thing.kind in ("decision", "effect", "review"):
        ids = [id for record in found for kind, id in things(record) if kind == "decision" and thing.kind in ("effect", "review")]
        return Why(id=thing.id, kind=thing.kind, decisions=_decisions(cursor, ids or [thing.id]))
    if thing.kind == "activation":
        return _of_activations(cursor, thing, found)
    if thing.kind == "chunk":
        saw = [record.ref.partition(":")[0] for record in found if record.kind == "retrieval"]
        return Why(id=thing.id, kind="chunk", documents=_documents(found), decisions=_decisions(cursor, saw))
    if thing.kind == "document":
        chunks = [chunk["id"] for record in found if record.kind == "document" for chunk in record.data.get("chunks", ())]
        saw = [record.ref.partition(":")[0] for record in mentioning(cursor, chunks) if record.kind == "retrieval"]
        return Why(id=thing.id, kind="document", documents=_documents(found), decisions=_decisions(cursor, saw))
    return _of_event(cursor, thing, found)


def _of_activations(cursor: Connection, thing: Thing, found: Sequence[Record]) -> Why:
    fired = [record for record in found if record.kind == "activation"]
    woken = [record.ref for record in found if record.kind == "decision"]
    return Why(id=thing.id, kind="activation", activations=_activations(cursor, fired), decisions=_decisions(cursor, woken))


def _of_event(cursor: Connection, thing: Thing, found: Sequence[Record]) -> Why:
    """An event, a dead letter, or a bare position: all records at its places, and what it woke."""
    places = _lived(cursor, _places(thing, found))
    mine = lying_at(cursor, places)
    fired = [record for record in mentioning(cursor, [thing.id, *places]) if record.kind == "activation"]
    about = mentioning(cursor, [record.ref for record in fired])
    woken = [record.ref for record in about if record.kind == "decision"]
    ended = {place: _ended(cursor, place) for place in places}
    woken += [ref for rows in ended.values() for _, outcome, ref in rows if ref and outcome != "moved"]
    known = _known(mine)
    ids = {record.data.get("event") or "" for record in mine} | ({thing.id} if thing.kind == "event" else set())
    causes = {token: cause for record in fired for token, cause in _causes(record) if token in places}
    events = [_event(place, causes.get(place, {}), known, {flow: outcome for flow, outcome, _ in ended[place]}) for place in places]
    if len(ids - {""}) == 1 and len(events) == 1 and not events[0].id:
        events = [msgspec.structs.replace(events[0], id=(ids - {""}).pop())]
    return Why(
        id=thing.id,
        kind=thing.kind,
        events=tuple(events),
        documents=_documents(mine),
        dead_letters=tuple(_dead_letter(record) for record in mine if record.kind == "dead_letter"),
        activations=_activations(cursor, fired),
        decisions=_decisions(cursor, woken),
        lives=_lives(cursor, places),
    )


def _lived(cursor: Connection, places: Sequence[str]) -> list[str]:
    """The places with those of the lives before and after, which redrives link, first to last."""
    before: dict[str, str] = {}
    pending, known = list(places), dict.fromkeys(places)
    while pending and len(known) < MOST_LIVES:
        for record in mentioning(cursor, [pending.pop()]):
            if record.kind == "redrive":
                earlier, later = record.parents[0], str(record.data.get("position"))
                before[later] = earlier
                new = [place for place in (earlier, later) if place not in known]
                known.update(dict.fromkeys(new))
                pending += new
    return sorted(known, key=lambda place: (_depth(place, before), list(known).index(place)))


def _depth(place: str, before: Mapping[str, str]) -> int:
    depth = 0
    while place in before and depth < MOST_LIVES:
        place, depth = before[place], depth + 1
    return depth


def _lives(cursor: Connection, places: Sequence[str]) -> tuple[Life, ...]:
    """What became of each life; nothing where there was but one, which ended at once."""
    lives = tuple(Life(position=place, short=Position.parse(place).short, steps=tuple(_steps(cursor, place))) for place in places)
    told = len(lives) > 1 or any(word in step for life in lives for step in life.steps for word in ("moved", "dead letter"))
    return lives if told else ()


def _steps(cursor: Connection, place: str) -> Iterator[str]:
    for flow, outcome, ref in _ended(cursor, place):
        yield _step(flow, outcome, ref)
        climbed = 0
        while outcome == "moved" and ref and climbed < MOST_LIVES:
            at, climbed = Position.parse(ref).short, climbed + 1
            ended = [row for row in _ended(cursor, ref) if row[0] == flow]
            if not ended:
                yield f"{flow}: waits at {at}"
                break
            _, outcome, ref = ended[-1]
            yield f"{_step(flow, outcome, ref)}, from {at}"
    for letter in lying_at(cursor, [place]):
        if letter.kind == "dead_letter":
            yield f"{letter.flow}: dead letter {letter.ref[:8]}, {letter.data.get('cause', '')}: {letter.data.get('error', '')}"
            yield from (_closed(record) for record in mentioning(cursor, [letter.ref]) if record.kind in ("redrive", "drop"))


def _step(flow: str, outcome: str, ref: str) -> str:
    to = f" to {Position.parse(ref).short}" if outcome == "moved" and ref else ""
    return f"{flow}: {outcome.replace('_', ' ')}{to}"


def _closed(record: Record) -> str:
    by = f"by {record.data.get('by', '')}"
    if record.kind == "drop":
        return f"dead letter {record.ref[:8]} dropped {by}: {record.data.get('reason', '')}"
    return f"dead letter {record.ref[:8]} redriven {by}, as try {record.data.get('attempt')}"


def _places(thing: Thing, found: Sequence[Record]) -> list[str]:
    """The tokens at which an event lies (a producer may have sent it twice)."""
    if thing.kind == "position":
        return [thing.id]
    at = [str(one.position) for one in found if one.kind in ("document", "dead_letter") and one.first >= 0 and thing in set(things(one))]
    caused = [token for record in found if record.kind == "activation" for token, cause in _causes(record) if cause["id"] == thing.id]
    return list(dict.fromkeys(at + caused))


def _ended(cursor: Connection, token: str) -> list[tuple[str, str, str]]:
    """How a position ended: (flow, outcome, ref), open outcomes first."""
    place = Position.parse(token)
    return cursor.execute(
        'SELECT flow, outcome, ref FROM records WHERE "first" <= $4 AND "next" > $4 AND kind = \'outcome\' AND broker = $1 AND topic = $2 '
        "AND \"partition\" = $3 ORDER BY flow, outcome = 'waiting' DESC, seq",
        list(place),
    ).fetchall()


def _decisions(cursor: Connection, ids: Iterable[str]) -> tuple[DecisionSeen, ...]:
    wanted = list(dict.fromkeys(ids))[:50]
    about = mentioning(cursor, wanted)
    decided = {record.ref: record for record in reversed(about) if record.kind == "decision"}
    fired = mentioning(cursor, [record.data.get("activation", "") for record in decided.values()])
    seen = _activations(cursor, [record for record in fired if record.kind == "activation"])
    activations = {activation.id: activation for activation in seen}
    return tuple(_decision(decided[id], about, activations) for id in wanted if id in decided)


def _decision(record: Record, about: Sequence[Record], activations: Mapping[str, ActivationSeen]) -> DecisionSeen:
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
        reviews=tuple({"id": other.ref, **other.data} for other in own if other.kind == "review"),
        models=tuple(other.data for other in own if other.kind == "model"),
    )


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


def _activations(cursor: Connection, fired: Sequence[Record]) -> tuple[ActivationSeen, ...]:
    unique = {record.ref: record for record in reversed(fired)}
    causes = {ref: _causes(record) for ref, record in unique.items()}
    known = _known(lying_at(cursor, {token for pairs in causes.values() for token, _ in pairs}))
    return tuple(_activation(unique[ref], [_event(token, cause, known) for token, cause in causes[ref]]) for ref in reversed(unique))


def _activation(record: Record, events: Sequence[EventSeen]) -> ActivationSeen:
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


def _causes(record: Record) -> list[tuple[str, dict[str, Any]]]:
    """The events of an activation with their tokens. Activations name no broker; their records' parents do."""
    broker = record.broker or (record.parents[0].partition("/")[0] if record.parents else "")
    return [(str(Position(broker, event["topic"], event["partition"], event["offset"])), event) for event in record.data.get("events", ())]


def _known(found: Iterable[Record]) -> dict[str, Record]:
    """Token → the record that says most about the event there."""
    return {str(record.position): record for record in found if record.kind in ("document", "dead_letter")}


def _event(token: str, cause: Mapping[str, Any], known: Mapping[str, Record], outcomes: Mapping[str, str] | None = None) -> EventSeen:
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
    )


def _documents(found: Iterable[Record]) -> tuple[DocumentSeen, ...]:
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
        )
        for record in found
        if record.kind == "document"
    )


def _dead_letter(record: Record) -> dict[str, Any]:
    return {"id": record.ref, "position": str(record.position), "flow": record.flow, **record.data}


def _text(record: Record) -> str:
    chunks = record.data.get("chunks") or ()
    return str(chunks[0].get("text", "")) if chunks else ""


