"""Records for tests: the whole walk of a small disruption, as the flows would report it, and faults to put into it."""

import uuid
from collections.abc import Sequence

import msgspec

from headwater.lineage.event import Position
from headwater.lineage.landing import Landing
from headwater.lineage.record import Record, fact, outcomes, run_of
from headwater.lineage.topic import ACTIVATIONS

BROKER = "broker-1"
START = 1_360_324_800_000_000  # 8 February 2013, 12:00 UTC
WALL = 1_790_000_000_000_000
_SPACE = uuid.UUID("0f0e0d0c-0b0a-5908-8706-050403020100")


def name(*parts: object) -> str:
    """A UUID that depends on the parts alone."""
    return str(uuid.uuid5(_SPACE, "/".join(map(str, parts))))


def sample_records(broker: str = BROKER, events: int = 12, *, state: str = "acted") -> list[Record]:
    """The records of one disruption: `events` cancellations on flights/0, one spoiled message, one activation, one decision of `recover`.

    `state` is acted (with one plan published), waiting (with a review) or approved (with a review, its verdict and the plan).
    In the order in which the flows report them.
    """
    places = [Position(broker, "flights", 0, offset) for offset in range(events)]
    spoiled = Position(broker, "flights", 0, events)
    records = [run_of("consumed", flow, places[0], events + 1, events + 1, WALL) for flow in ("index", "detect")]
    records += [document(place) for place in places]
    records.append(dead_letter(spoiled))
    records += outcomes("index", [*((place, "indexed") for place in places), (spoiled, "dead_lettered")], WALL + 60_000)
    records += outcomes("detect", [*((place, "passed") for place in places), (spoiled, "dead_lettered")], WALL + 60_000)
    records.append(activation(places))
    woken = Position(broker, ACTIVATIONS, 0, 0)
    records.append(run_of("consumed", "decide/recover", woken, 1, 1, WALL + 70_000))
    records += decision(places, state)
    for outcome in ("waiting", "approved") if state == "approved" else (state,):
        ended = run_of("outcome", "decide/recover", woken, 1, 1, WALL + 200_000, outcome, name("decision"))
        records.append(msgspec.structs.replace(ended, parents=(name("activation"),)))
    return records


def document(place: Position) -> Record:
    """A flight's document reached the index 41 ms after its append."""
    flight = f"2013-02-08-EWR-UA-{1500 + place.offset}"
    text = f"United flight UA {1500 + place.offset} is cancelled."
    chunk = {"n": 0, "id": name("chunk", place), "hash": "ab" * 16, "section": "", "text": text}
    data = {
        "type": "flight_status", "document": flight, "version": 2, "event": f"{flight}/cancelled", "chunks": [chunk],
        "appended": WALL + place.offset * 1_000, "settled": WALL + place.offset * 1_000 + 41_000,
    }  # fmt: skip
    return fact(
        "document", "index", "upsert", f"flight_status/{flight}", logged=WALL + 50_000, parents=(str(place),), where=place,
        at=START + place.offset, outcome="indexed", data=data,
    )  # fmt: skip


def dead_letter(place: Position) -> Record:
    """A message that is not JSON."""
    data = {"cause": "undecodable", "error": "not JSON", "event": None, "flow": "index"}
    return fact("dead_letter", "index", "decode", name("dead", place), logged=WALL + 50_000, parents=(str(place),), where=place, data=data)


def activation(places: Sequence[Position]) -> Record:
    """`cancellations` opened for EWR, its newest event first."""
    newest = list(reversed(places))
    flights = [f"2013-02-08-EWR-UA-{1500 + place.offset}" for place in newest]
    causes = [
        {"topic": place.topic, "partition": place.partition, "offset": place.offset, "id": f"{flight}/cancelled", "key": flight}
        for place, flight in zip(newest, flights, strict=True)
    ]
    data = {
        "rule": "cancellations", "key": "EWR", "phase": "opened", "episode": name("activation"), "value": 0.29,
        "count": len(places), "total": 41, "events": causes, "appended": WALL + places[-1].offset * 1_000,
    }  # fmt: skip
    return fact(
        "activation", "detect", "rules", name("activation"), logged=WALL + 63_000 + places[-1].offset * 1_000,
        parents=[str(place) for place in newest], at=START + places[-1].offset, data=data,
    )  # fmt: skip


def decision(places: Sequence[Position], state: str) -> list[Record]:
    """`recover` looks at two chunks, asks a model, decides, and publishes a plan or asks a person."""
    flow, id, woken_by = "decide/recover", name("decision"), name("activation")
    first = "waiting" if state == "approved" else state
    seen = [_result(0, "procedures/rebooking.md", 1, "When a fifth of departures is cancelled, rebook passengers.", 0.71, None)]
    seen.append(_result(1, "flight_status/2013-02-08-EWR-UA-1500", 2, "United flight UA 1500 is cancelled.", 0.63, places[0]))
    options = [("rebook passengers", 0.81), ("hold departures at the gate", 0.14), ("keep watching", 0.05)]
    as_of = {"flights/0": len(places)}
    search = {"query": "cancelled flights at EWR", "limit": 8, "as_of": as_of, "staleness_ms": 12.0, "at": START, "results": seen}
    answer = {
        "agent": "recover", "version": "1", "digest": "d1", "activation": woken_by, "state": first, "choice": {"response": options[0][0]},
        "summary": options[0][0], "options": [{"name": n, "confidence": c} for n, c in options], "rationale": "The procedure says so.",
        "confidence": 0.81, "evidence": [one["id"] for one in seen],
        "without": {
            seen[0]["id"]: {"name": "keep watching", "confidence": 0.44},
            seen[1]["id"]: {"name": options[0][0], "confidence": 0.79},
        },
        "cost": {"input_tokens": 210.0, "seconds": 0.09}, "woken": WALL + 80_000, "decided": WALL + 170_000, "attempts": 1, "error": "",
    }  # fmt: skip
    ruling = {"principal": "agent:recover", "action": "publish", "resource": "topic:plans", "allowed": True, "policy": "declared"}
    model = {"model": "local", "prompt": "EWR", "answer": options[0][0], "options": answer["options"], "tokens": 210}
    called = {"tool": "weather", "scope": "weather", "arguments": {"airport": "EWR"}, "answer": {"snow": "<b>deep</b>"}, "seconds": 0.02}
    records = [
        fact("tool", flow, "call", f"{id}:t0", logged=WALL + 95_000, parents=(woken_by,), data=called),
        fact("retrieval", flow, "retrieve", f"{id}:r0", logged=WALL + 90_000, parents=(woken_by,), data=search),
        fact("model", flow, "choose", f"{id}:m0", logged=WALL + 160_000, parents=(woken_by,), data=model),
        fact("ruling", flow, "authorise", id, logged=WALL + 165_000, parents=(woken_by,), data=ruling),
        fact("decision", flow, "decide", id, logged=WALL + 170_000, parents=(woken_by, f"{id}:r0"), at=START, outcome=first, data=answer),
    ]
    if state != "acted":
        asked = {
            "reason": "confidence below 0.9", "question": "Rebook passengers of EWR?", "agent": "recover", "key": "EWR", "decision": id,
            "asked": WALL + 170_000, "expires": WALL + 86_400_000_000,
        }  # fmt: skip
        records.append(fact("review", flow, "decide", name("review"), logged=WALL + 180_000, parents=(id,), data=asked))
    if state == "approved":
        records.append(verdict("approved"))
    if state != "waiting":
        token = str(Position(places[0].broker, "plans", 0, 17))
        plan = {
            "effect": "publish", "ordinal": 0, "target": "plans", "key": "EWR", "state": "done", "position": token,
            "sent": WALL + 178_000,
        }  # fmt: skip
        records.append(fact("effect", flow, "effects", name("effect"), logged=WALL + 180_000, parents=(id,), data=plan))
    return records


def verdict(said: str, place: str = f"{BROKER}/headwater.reviews/0/1", counted: int = WALL + 175_000) -> Record:
    """A person's answer to the review of the decision, which counts."""
    data = {
        "review": name("review"), "decision": name("decision"), "agent": "recover", "verdict": said, "by": "ada", "reason": "",
        "accepted": True, "counted": counted,
    }  # fmt: skip
    return fact(
        "verdict", "decide/recover", "verdict", name("review"), logged=WALL + 174_000, parents=(name("review"), name("decision")),
        ordinal=f"accepted/{place}", data=data,
    )  # fmt: skip


def landings(records: Sequence[Record], size: int = 10, broker: str = BROKER) -> list[Landing]:
    """The records as messages of the lineage topic, `size` in each."""
    return [Landing(broker, 0, offset, records[start : start + size]) for offset, start in enumerate(range(0, len(records), size))]


def _result(n: int, document: str, version: int, text: str, score: float, place: Position | None) -> dict[str, object]:
    id = name("chunk", place or document)
    token = str(place) if place else ""
    said = {"document": document, "version": version, "n": 0, "section": f"§{n}", "text": text}
    return {"id": id, **said, "score": score, "dense": score, "position": token}
