"""What a run left behind: what must hold of it by itself, and what must be equal however often it was killed."""

import json
import signal
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from crash.stream import EVENTS, GAUGES, PARTITIONS

from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.drain import drain
from headwater.flows.kafka import Kafka
from headwater.lineage.store import open_database
from headwater.lineage.topic import ACTIVATIONS, DEAD, DECISIONS, REVIEWS
from headwater.lineage.verify import verify

READINGS_ENDED = "select flow, sum(count)::bigint as n from outcomes where topic = 'readings' group by flow"
ACTIVATIONS_ENDED = f"select flow, sum(count)::bigint as n from outcomes where topic = '{ACTIVATIONS}' group by flow"
OUTCOMES = 'select "partition", unnest(range("first", "next")), outcome from outcomes where flow = ? and topic = \'readings\''
FACTS = """select distinct kind, flow, step, ref, topic, "partition", "first" from records
    where kind not in ('consumed', 'absent', 'outcome') and topic <> 'headwater.files'"""
"""Every start publishes the files anew."""
REPLAYED = {"unchanged", "stale"}
"""What an event may end as in the index if it was there already when it came again: its version counts, or has left the history."""


class Left(NamedTuple):
    """What a run left behind, as far as it must be equal however often it was killed.

    facts    lineage: kind, flow, step, what it is about, where; wall clocks and what was found at which moment are left out
    indexed  where each reading is → how it ended in the index
    """

    activations: dict[str, bytes]
    decisions: dict[tuple[str, str], tuple[str, Any]]
    effects: dict[str, tuple[str, str]]
    detected: dict[tuple[int, int], str]
    buried: set[str]
    index: dict[str, Any]
    facts: set[tuple[Any, ...]]
    indexed: dict[tuple[int, int], str]


def finish(victim: Any, kafka: Kafka) -> None:
    """Wait until every reading and every activation has its outcome, then stop as people do."""

    def all_ended() -> bool:
        read = {row["flow"]: row["n"] for row in victim.sql(READINGS_ENDED)}
        if read != dict.fromkeys(("index", "detect"), EVENTS + len(PARTITIONS_OF_READINGS)):
            return False
        fired = sum(len(drain(kafka, ACTIVATIONS, p, 0)) for p in range(PARTITIONS[ACTIVATIONS]))
        decided = {row["flow"]: row["n"] for row in victim.sql(ACTIVATIONS_ENDED)}
        return decided == dict.fromkeys(("decide/warn", "decide/log"), fired)

    try:
        victim.until(all_ended, 300)  # a broker may take a minute to end a transaction that a killed owner left open
    except AssertionError as error:
        fired = [len(drain(kafka, ACTIVATIONS, p, 0)) for p in range(PARTITIONS[ACTIVATIONS])]
        raise AssertionError(f"{victim.sql(READINGS_ENDED)} {victim.sql(ACTIVATIONS_ENDED)} of {fired}\n{error}") from None
    assert victim.stop(signal.SIGTERM) == 0, victim.said


PARTITIONS_OF_READINGS = range(PARTITIONS["readings"])


def same(left: Left, undisturbed: Left) -> None:
    """Equal, but for how an event that the index had already seen ended when it was given again after a kill."""
    assert not (odd := left.facts ^ undisturbed.facts), sorted(odd)[:10]
    for name in Left._fields[:-1]:
        assert getattr(left, name) == getattr(undisturbed, name), name
    assert left.indexed.keys() == undisturbed.indexed.keys()
    odd = {place: (outcome, undisturbed.indexed[place]) for place, outcome in left.indexed.items() if outcome != undisturbed.indexed[place]}
    assert {outcome for outcome, _ in odd.values()} <= REPLAYED, odd


def left_by(home: Path, kafka: Kafka) -> Left:
    """Check what must hold of any run by itself, and give what must be equal between runs."""
    with open_database(home / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        detected = lineage.execute(OUTCOMES, ["detect"]).fetchall()
        indexed = lineage.execute(OUTCOMES, ["index"]).fetchall()
        dead = {id for (id,) in lineage.execute("select id from dead_letters").fetchall()}
        recorded = lineage.execute("select id, decision from effects").fetchall()
        facts = set(lineage.execute(FACTS).fetchall())
    for rows in (detected, indexed):
        assert len({row[:2] for row in rows}) == len(rows) == EVENTS + len(PARTITIONS_OF_READINGS)
    # Uncommitted, for the embedded broker may hide what lies behind a transaction that a killed owner left open, until that owner's
    # next one there. What was aborted is then seen too: the same effect, under the same id.
    messages = {
        topic: [m for p in range(count) for m in drain(kafka, topic, p, 0, "read_uncommitted")] for topic, count in PARTITIONS.items()
    }
    activations = _once((dict(m.headers)["ce_id"].decode(), m.value or b"") for m in messages[ACTIVATIONS])
    fired = {id: json.loads(body) for id, body in activations.items()}
    _in_order((a["rule"], a["key"], a["at"]) for a in fired.values())
    decided = all_decided(messages[DECISIONS])
    _in_order((f"{d['agent']} on {fired[d['activation']]['rule']}", d["key"], d["at"]) for d in decided.values())
    effects = all_effects([*messages["alarms"], *messages["notes"], *messages[REVIEWS]], decided)
    assert len({id for id, _ in recorded}) == len(recorded)
    assert {id for id, _ in recorded} == {e["id"] for d in decided.values() if d["state"] == "acted" for e in d.get("effects", [])}
    assert dead == set(_once((dict(m.headers)["headwater-id"].decode(), m.value) for m in messages[DEAD]))
    return Left(
        activations=activations,
        decisions={(d["agent"], d["activation"]): (d["state"], _unmarked(d.get("choice"))) for d in decided.values()},
        effects=effects,
        detected={(partition, offset): outcome for partition, offset, outcome in detected},
        buried={dict(m.headers)["headwater-origin"].decode().partition("/")[2] for m in messages[DEAD]},
        index=_index(home),
        facts=facts,
        indexed={(partition, offset): outcome for partition, offset, outcome in indexed},
    )


def _once(pairs: Any) -> dict[Any, Any]:
    """What was written under one id is one thing, however often it was written."""
    found = defaultdict(set)
    for id, value in pairs:
        found[id].add(value)
    assert all(len(values) == 1 for values in found.values()), {id: values for id, values in found.items() if len(values) > 1}
    return {id: values.pop() for id, values in found.items()}


def _in_order(said: Iterable[tuple[str, str, int]]) -> None:
    """Of one thing, each later said is of a later event time: in the order of the log, each once."""
    latest: dict[tuple[str, str], int] = {}
    for who, key, at in said:
        assert at >= latest.get((who, key), at), f"{who} {key}: {at} comes after {latest[who, key]}"
        latest[who, key] = at


def all_decided(messages: list[Any]) -> dict[str, Any]:
    """The journal's decisions: each (agent, activation) once."""
    pages = [json.loads(m.value) for m in messages]
    entries = [entry for page in pages for entry in (page if isinstance(page, list) else [page])]
    decided = [entry for entry in entries if entry["entry"] == "decided"]
    by_pair = defaultdict(list)
    for entry in decided:
        by_pair[entry["agent"], entry["activation"]].append(entry)
    twice = {pair: [e["choice"] for e in several] for pair, several in by_pair.items() if len(several) > 1}
    assert not twice
    return {entry["id"]: entry for entry in decided}


def all_effects(messages: list[Any], decided: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Each effect on its topic is what its decision says; effect id → (decision, topic)."""
    sent = _once((dict(m.headers)["ce_id"].decode(), (m.topic, m.value)) for m in messages)
    wanted: dict[str, tuple[str, str]] = {}
    for decision in decided.values():
        outbox = decision.get("effects", []) if decision["state"] == "acted" else [decision["review"]] if "review" in decision else []
        for effect in outbox:
            wanted[effect["id"]] = (decision["id"], effect["topic"])
            assert effect["id"] in sent, f"of {len(sent)} effects there is none {effect['id']} on {effect['topic']}: {decision}"
            assert json.loads(sent[effect["id"]][1]) == effect["data"], decision
    assert set(sent) == set(wanted)
    return wanted


def _unmarked(choice: Any) -> Any:
    """The choice without the mark that differs each time it is made."""
    if isinstance(choice, str):
        return choice.rpartition(" ")[0]
    return choice and {**choice, "mark": ""}


def _index(home: Path) -> dict[str, Any]:
    """Heads and the texts they stand for; and how much is there at all."""
    index = EdgeIndex(home / "index", size=HashEmbedder().size)
    try:
        heads = index.heads([f"level/{gauge}" for gauge in GAUGES])
        found: dict[str, Any] = {"count": index.count()[:2]}
        for document, head in heads.items():
            points = index.points(head.current.points(document))
            texts = sorted((point.n, point.text) for point, _ in points.values())
            found[document] = (head.version, head.event, head.current.key, head.current.deleted, texts)
        return found
    finally:
        index.close()
