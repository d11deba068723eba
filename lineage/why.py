"""why: the path of one thing through the walk, in both directions, from any id.

From an event: the documents it became, the activations it woke, their decisions and effects. From a decision: back to its activation and
that one's events, what it saw, what it considered, what it did.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from headwater.lineage.cascade import followed, led_here
from headwater.lineage.errors import Misused, NotFound
from headwater.lineage.event import Position
from headwater.lineage.names import SHORTEST, Connection, Thing, beginning_with, begins, lying_at, mentioning, naming, things
from headwater.lineage.newest import newest_of, shown_to
from headwater.lineage.record import Record
from headwater.lineage.records import question
from headwater.lineage.seen import ActivationSeen, DecisionSeen, Life, Why
from headwater.lineage.tell import activation_seen, causes_of, dead_letter_seen, decision_seen, documents_seen, event_seen, known_at
from headwater.lineage.verify import Source

_SHORT = re.compile(r"(?P<topic>[^/@]+)/(?P<partition>\d+)@(?P<offset>\d+)")
MOST_LIVES = 100
MOST_DECISIONS = 50
"""Decisions of one path that are told: of more, the newest."""
_FIRST = ("decision", "activation", "effect", "review", "dead_letter", "document", "event", "chunk", "position")


def why(source: Source, id: str) -> Why:
    """The path of an event id, a token, `topic/partition@offset`, a document, chunk, activation, decision, effect, review or dead letter.

    A unique beginning of at least six characters will do. Raises NotFound; Misused, listing them, if several ids begin so.
    """
    with question(source) as cursor:
        found = _why(cursor, *resolve(cursor, id.strip()))
        return msgspec.structs.replace(found, newest=newest_of(cursor, found.decisions))


def resolve(cursor: Connection, text: str) -> tuple[Thing, list[Record]]:
    """What an id names, or the beginning of one, and the records that name it. Raises NotFound, Misused as `why` does."""
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
            f"no record names {_clipped(text)!r}: give the id of an event, document, chunk, activation, decision or effect, a token, or "
            'topic/partition@offset; `headwater sql "from decisions"` lists decisions; a fresh event may not have landed yet'
        )
    if len(named) > 1:
        listed = "; ".join(f"{kind} {id}" for kind, id in named[:10])
        told = f"{len(named)} ids begin with {_clipped(text)!r}: {listed}; give more characters"
        raise Misused(told, candidates=[list(thing) for thing in named])
    return named[0], mentioning(cursor, [named[0].id])


def _clipped(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


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
    if thing.kind == "decision":
        return Why(id=thing.id, kind=thing.kind, decisions=_decisions(cursor, [thing.id], found))
    if thing.kind in ("effect", "review"):
        ids = [id for record in found for kind, id in things(record) if kind == "decision"]
        return Why(id=thing.id, kind=thing.kind, decisions=_decisions(cursor, ids), more=_more(ids))
    if thing.kind == "activation":
        return _of_activations(cursor, thing, found)
    if thing.kind == "chunk":
        saw = [record.ref.partition(":")[0] for record in found if record.kind == "retrieval"]
        return Why(id=thing.id, kind="chunk", documents=documents_seen(found), decisions=_decisions(cursor, saw), more=_more(saw))
    if thing.kind == "document":
        chunks = [chunk["id"] for record in found if record.kind == "document" for chunk in record.data.get("chunks", ())]
        saw = [record.ref.partition(":")[0] for record in mentioning(cursor, chunks) if record.kind == "retrieval"]
        return Why(id=thing.id, kind="document", documents=documents_seen(found), decisions=_decisions(cursor, saw), more=_more(saw))
    return _of_event(cursor, thing, found)


def _of_activations(cursor: Connection, thing: Thing, found: Sequence[Record]) -> Why:
    fired = [record for record in found if record.kind == "activation"]
    woken = [record.ref for record in found if record.kind == "decision"]
    decisions = _decisions(cursor, woken)
    return Why(id=thing.id, kind="activation", activations=_activations(cursor, fired), decisions=decisions, more=_more(woken))


def _of_event(cursor: Connection, thing: Thing, found: Sequence[Record]) -> Why:
    """An event, a dead letter, or a bare position: all records at its places, and what it woke."""
    places = _lived(cursor, _places(thing, found))
    mine = lying_at(cursor, places)
    fired = [record for record in mentioning(cursor, [thing.id, *places]) if record.kind == "activation"]
    about = mentioning(cursor, [record.ref for record in fired])
    woken = [record.ref for record in about if record.kind == "decision"]
    ended = {place: _ended(cursor, place) for place in places}
    woken += [ref for rows in ended.values() for _, outcome, ref in rows if ref and outcome != "moved"]
    known = known_at(mine)
    ids = {record.data.get("event") or "" for record in mine} | ({thing.id} if thing.kind == "event" else set())
    causes = {token: cause for record in fired for token, cause in causes_of(record) if token in places}
    events = [event_seen(place, causes.get(place, {}), known, {flow: outcome for flow, outcome, _ in ended[place]}) for place in places]
    if len(ids - {""}) == 1 and len(events) == 1 and not events[0].id:
        events = [msgspec.structs.replace(events[0], id=(ids - {""}).pop())]
    return Why(
        id=thing.id,
        kind=thing.kind,
        events=tuple(events),
        documents=documents_seen(mine),
        dead_letters=tuple(dead_letter_seen(record) for record in mine if record.kind == "dead_letter"),
        activations=_activations(cursor, fired),
        decisions=_decisions(cursor, woken),
        lives=_lives(cursor, places),
        more=_more(woken),
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
    caused = [token for record in found if record.kind == "activation" for token, cause in causes_of(record) if cause["id"] == thing.id]
    return list(dict.fromkeys(at + caused))


def _ended(cursor: Connection, token: str) -> list[tuple[str, str, str]]:
    """How a position ended: (flow, outcome, ref), open outcomes first."""
    place = Position.parse(token)
    return cursor.execute(
        'SELECT flow, outcome, ref FROM records WHERE "first" <= $4 AND "next" > $4 AND kind = \'outcome\' AND broker = $1 AND topic = $2 '
        "AND \"partition\" = $3 ORDER BY flow, outcome = 'waiting' DESC, seq",
        list(place),
    ).fetchall()


def _decisions(cursor: Connection, ids: Iterable[str], found: Sequence[Record] | None = None) -> tuple[DecisionSeen, ...]:
    """Decisions with all that belongs to them, of many the newest. `found`: the records that name them, if that is known already."""
    wanted = list(dict.fromkeys(ids))[-MOST_DECISIONS:]
    about = mentioning(cursor, wanted) if found is None else found
    decided = {record.ref: record for record in reversed(about) if record.kind == "decision"}
    fired = mentioning(cursor, [record.data.get("activation", "") for record in decided.values()])
    seen = _activations(cursor, [record for record in fired if record.kind == "activation"])
    activations = {activation.id: activation for activation in seen}
    made = [decision_seen(decided[id], about, activations) for id in wanted if id in decided]
    naming(cursor, [name for decision in made for name in (*_woke(decision), *_did(decision), *shown_to([decision]))])
    return tuple(_cascading(cursor, decision) for decision in made)


def _more(ids: Iterable[str]) -> int:
    """How many of these decisions are not told."""
    return max(0, len(set(ids)) - MOST_DECISIONS)


def _cascading(cursor: Connection, decision: DecisionSeen) -> DecisionSeen:
    """The decision with its cascade, both ways."""
    before, after = led_here(cursor, decision.id, _woke(decision)), followed(cursor, decision.id, _did(decision))
    return msgspec.structs.replace(decision, before=before, after=after)


def _woke(decision: DecisionSeen) -> list[str]:
    return [event.position for event in decision.activation.events] if decision.activation else []


def _did(decision: DecisionSeen) -> list[str]:
    return [effect.position for effect in decision.effects if effect.position.count("/") == 3]


def _activations(cursor: Connection, fired: Sequence[Record]) -> tuple[ActivationSeen, ...]:
    unique = {record.ref: record for record in reversed(fired)}
    causes = {ref: causes_of(record) for ref, record in unique.items()}
    known = known_at(lying_at(cursor, {token for pairs in causes.values() for token, _ in pairs}))
    events = {ref: [event_seen(token, cause, known) for token, cause in pairs] for ref, pairs in causes.items()}
    return tuple(activation_seen(unique[ref], events[ref]) for ref in reversed(unique))
